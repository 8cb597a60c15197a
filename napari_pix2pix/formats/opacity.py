"""Which pixels hold no data: opacity in the range of an image's type or from 0 to 255, and nodata values."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pix2pix_training.array_source import AnyArray, Opacity
from pix2pix_training.invalid_pixels import OPAQUE

logger = logging.getLogger(__name__)


def to_opacity(alpha: AnyArray) -> Opacity:
    """From 0 and the greatest value of an integer type (or 1); what is not 0 there is not 0 here."""
    if alpha.dtype == np.uint8:
        return alpha
    scaled = alpha.astype(np.float64) * (OPAQUE / _greatest(alpha.dtype))
    return np.where(alpha > 0, np.rint(scaled).clip(1, OPAQUE), 0).astype(np.uint8)


def from_opacity(opacity: Opacity | np.uint8, dtype: np.dtype[Any]) -> AnyArray:
    """To the range from 0 to the greatest value of an integer type, or 1."""
    scaled = opacity.astype(np.float64) * (_greatest(dtype) / OPAQUE)
    stored = scaled if dtype.kind == "f" else np.where(opacity > 0, np.rint(scaled).clip(min=1), 0)
    return np.asarray(stored).astype(dtype)


def with_opacity(pixels: AnyArray, opacity: Opacity | None) -> AnyArray:
    """Pixels (C, h, w) with one more sample, in their type: how opaque they are; fully where nothing is said."""
    known = np.full(pixels.shape[1:], OPAQUE, np.uint8) if opacity is None else opacity
    return np.concatenate([pixels, from_opacity(known, pixels.dtype)[None]])


def _greatest(dtype: np.dtype[Any]) -> float:
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0


def usable_nodata(path: Path, text: str, dtype: np.dtype[Any]) -> float | None:
    """The nodata value that a file declares; None, and a warning, where pixels of its type cannot have that value."""
    if not text:
        return None
    value: float | None = None
    with suppress(ValueError):
        value = float(text)
    if value is not None and dtype.kind == "f" and (np.isnan(value) or abs(value) <= np.finfo(dtype).max):
        return value
    if value is not None and dtype.kind in "iu" and value.is_integer():
        exact = int(text) if text.lstrip("+-").isdecimal() else int(value)
        if np.iinfo(dtype).min <= exact <= np.iinfo(dtype).max:
            return exact
    logger.warning(
        "%s declares %r as its nodata value, which pixels of %s cannot have; it is ignored", path, text, dtype
    )
    return None
