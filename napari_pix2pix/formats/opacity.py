"""Opacity between the range of an image's type, as files store it, and 0 to 255, as it goes through the program."""

from __future__ import annotations

from typing import Any

import numpy as np

from pix2pix_training.array_source import AnyArray, Opacity
from pix2pix_training.invalid_pixels import OPAQUE


def to_opacity(alpha: AnyArray) -> Opacity:
    """From 0 and the greatest value of an integer type (or 1); what is not 0 there is not 0 here."""
    scaled = alpha.astype(np.float64) * (255 / _greatest(alpha.dtype))
    return np.where(alpha > 0, np.rint(scaled).clip(1, 255), 0).astype(np.uint8)


def from_opacity(opacity: Opacity | np.uint8, dtype: np.dtype[Any]) -> AnyArray:
    """To the range from 0 to the greatest value of an integer type, or 1."""
    scaled = opacity.astype(np.float64) * (_greatest(dtype) / 255)
    stored = scaled if dtype.kind == "f" else np.where(opacity > 0, np.rint(scaled).clip(min=1), 0)
    return np.asarray(stored).astype(dtype)


def with_opacity(pixels: AnyArray, opacity: Opacity | None) -> AnyArray:
    """Pixels (C, h, w) with one more sample, in their type: how opaque they are; fully where nothing is said."""
    known = np.full(pixels.shape[1:], OPAQUE, np.uint8) if opacity is None else opacity
    return np.concatenate([pixels, from_opacity(known, pixels.dtype)[None]])


def _greatest(dtype: np.dtype[Any]) -> float:
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0
