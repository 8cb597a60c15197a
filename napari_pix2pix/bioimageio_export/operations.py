"""Intensity mappings in the words of the BioImage Model Zoo: operations before and after the network.

https://bioimage.io/docs, model description 0.5: scale_linear, scale_range, clip, ensure_dtype.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pix2pix_training.errors import SettingsError
from pix2pix_training.intensity import PERCENTILES, CategoryMapping, LinearMapping, Mapping

Operation = dict[str, Any]

_EPS = 1e-6
_WIDE_INTEGER_BITS = 32


def tensor_dtype(mapping: Mapping) -> str:
    """Type of the stored pixels, or the nearest that the format has; float32 for scores of categories."""
    if isinstance(mapping, CategoryMapping):
        return "float32"
    return {"bool": "uint8", "float16": "float32"}.get(mapping.dtype, mapping.dtype)


def preprocessing(mapping: Mapping) -> list[Operation]:
    """Stored pixels to float32 in [-1, 1].

    Per-image ends are percentiles interpolated between pixels here, and not so in `LinearMapping`.

    Raises
    ------
    SettingsError
        The source are categories, which the format has no operation for.
    """
    if isinstance(mapping, CategoryMapping):
        raise SettingsError(
            "the source of this model are categories, and a BioImage Model Zoo package has no operation to turn labels "
            "into one-hot channels; export to onnx instead"
        )
    if mapping.low:
        gain = [2 / (high - low) for low, high in zip(mapping.low, mapping.high, strict=True)]
        offset = [-low * g - 1 for low, g in zip(mapping.low, gain, strict=True)]
        to_range = _scale_linear(gain, offset)
    else:
        low, high = PERCENTILES
        ends = {"axes": ["y", "x"], "min_percentile": low, "max_percentile": high, "eps": _EPS}
        to_range = [{"id": "scale_range", "kwargs": ends}, *_scale_linear([2.0], [-1.0])]
    return [*_precise(mapping), *to_range, _clip(-1.0, 1.0), _ensure("float32")]


def postprocessing(mapping: Mapping) -> list[Operation]:
    """The network's output in [-1, 1] to stored pixels, integers rounded; scores of categories stay as they are."""
    if isinstance(mapping, CategoryMapping):
        return [_ensure("float32")]
    gain = [(high - low) / 2 for low, high in zip(mapping.low, mapping.high, strict=True)]
    offset = [(high + low) / 2 for low, high in zip(mapping.low, mapping.high, strict=True)]
    dtype = tensor_dtype(mapping)
    to_range = [_clip(-1.0, 1.0), *_precise(mapping)]
    if np.dtype(dtype).kind == "f":
        return [*to_range, *_scale_linear(gain, offset), _ensure(dtype)]
    return [*to_range, *_scale_linear_and_round(gain, offset, dtype, lowest=min(0, math.floor(min(mapping.low))))]


def _scale_linear_and_round(gain: Sequence[float], offset: Sequence[float], dtype: str, lowest: int) -> list[Operation]:
    """Casts cut off fractions, towards zero; so half is added, to values that were made positive."""
    scaled = _scale_linear(gain, [o + 0.5 - lowest for o in offset])
    if lowest == 0:
        return [*scaled, _ensure(dtype)]
    unsigned = f"uint{8 * np.dtype(dtype).itemsize}"
    return [*scaled, _ensure(unsigned), _ensure("float64"), *_scale_linear([1.0], [float(lowest)]), _ensure(dtype)]


def _precise(mapping: LinearMapping) -> list[Operation]:
    """Integers of 32 bits and more, and doubles, need double precision."""
    is_wide = np.dtype(mapping.dtype).itemsize * 8 >= _WIDE_INTEGER_BITS and mapping.dtype != "float32"
    return [_ensure("float64")] if is_wide else []


def _scale_linear(gain: Sequence[float], offset: Sequence[float]) -> list[Operation]:
    """``x * gain + offset`` per channel; nothing where that changes nothing, which the format does not allow."""
    pairs = set(zip(gain, offset, strict=True))
    if pairs == {(1.0, 0.0)}:
        return []
    if len(pairs) == 1:
        return [{"id": "scale_linear", "kwargs": {"gain": gain[0], "offset": offset[0]}}]
    kwargs = {"axis": "channel", "gain": list(gain), "offset": list(offset)}
    return [{"id": "scale_linear", "kwargs": kwargs}]


def _clip(low: float, high: float) -> Operation:
    return {"id": "clip", "kwargs": {"min": low, "max": high}}


def _ensure(dtype: str) -> Operation:
    return {"id": "ensure_dtype", "kwargs": {"dtype": dtype}}
