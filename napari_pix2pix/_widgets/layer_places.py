"""Where layers lie in napari's world, and which of them do not lie on each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from napari.utils.transforms import Affine
from numpy.typing import NDArray

from napari_pix2pix._widgets.layer_axes import finest_level, spatial_axes
from napari_pix2pix.formats.units import convert_length, standard_unit

_TOLERATED_PX = 0.5
_PARTS = ("scale", "translate", "rotate", "shear", "affine")


def placement(
    layer: Any,
    *,
    channel_axis: int | None = None,
    origin: Sequence[float] | None = None,
    factors: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Where `layer` lies, as arguments for a new layer: scale, translate, rotate, shear, affine, units, axis_labels.

    Parameters
    ----------
    channel_axis : axis that the new layer lacks.
    origin : centre of the new layer's first pixel along its axes, in pixels of `layer`; default the first of those.
    factors : size of the new layer's pixels along its axes, in those of `layer`; default 1.
    """
    kept = spatial_axes(layer, channel_axis)
    shear = layer.shear  # which takes napari a millisecond
    own = _own_transform(layer, shear)
    result = {
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "shear": shear,
        "affine": np.asarray(layer.affine.affine_matrix),
        "units": tuple(layer.units[axis] for axis in kept),
        "axis_labels": tuple(layer.axis_labels[axis] for axis in kept),
    }
    if len(kept) < layer.ndim:
        own = own.set_slice(kept)
        affine = layer.affine.set_slice(kept)
        result |= {"scale": own.scale, "translate": own.translate, "rotate": own.rotate, "shear": _shear(own)}
        result["affine"] = np.asarray(affine.affine_matrix)
    if origin is not None:
        result["translate"] = np.asarray(result["translate"]) + own.linear_matrix @ np.asarray(origin, float)
    if factors is not None:
        result["scale"] = np.asarray(result["scale"]) * np.asarray(factors, float)
    return result


def _own_transform(layer: Any, shear: Any) -> Affine:
    return Affine(scale=layer.scale, translate=layer.translate, rotate=layer.rotate, shear=shear, ndim=layer.ndim)


def _shear(transform: Affine) -> Any:
    """As a new layer takes it: a matrix, or one number for each pair of axes; napari gives another count for none."""
    shear = np.asarray(transform.shear)
    pairs = transform.ndim * (transform.ndim - 1) // 2
    return np.zeros(pairs) if shear.ndim == 1 and len(shear) != pairs else shear


@dataclass(frozen=True, kw_only=True)
class Misplaced:
    """Two layers whose pixels are to be taken for each other, and do not lie on each other, in words.

    `is_plain`: one of them has no scale and place at all, as an array that a script has added; the other has a scale.
    """

    words: str
    is_plain: bool


def misplaced_among(groups: Sequence[tuple[Sequence[Any], int | None]]) -> list[Misplaced]:
    """Layers that do not lie on the first one of all, of groups of layers with their channel axes.

    Parameters
    ----------
    groups : layers, and the axis of theirs that holds channels and has no place.
    """
    everyone = [(layer, axis) for layers, axis in groups for layer in layers]
    found = [_misplaced(*everyone[0], layer, axis) for layer, axis in everyone[1:]]
    return [each for each in found if each is not None]


def _misplaced(first: Any, axis: int | None, other: Any, other_axis: int | None) -> Misplaced | None:
    own, others = placement(first, channel_axis=axis), placement(other, channel_axis=other_axis)
    if len(own["scale"]) != len(others["scale"]):
        return None  # of different sizes, which is said elsewhere
    apart = _pixels_apart(first, own, others, _unit_factors(others["units"], own["units"]), axis)
    if apart <= _TOLERATED_PX:
        return None
    for plain, place, placed, other_place in ((first, own, other, others), (other, others, first, own)):
        if _is_plain(place) and _is_scaled_only(other_place):
            words = f"{plain.name} has no scale, its pixels are taken for those of {placed.name}"
            return Misplaced(words=words, is_plain=True)
    words = f"{other.name} does not lie on {first.name}, up to {apart:.3g} pixels apart ({_differences(own, others)})"
    return Misplaced(words=words, is_plain=False)


def _is_plain(place: Mapping[str, Any]) -> bool:
    """Whether nobody has said where a layer lies, or how large its pixels are."""
    return np.allclose(_matrix(place), np.eye(len(place["scale"]) + 1)) and set(map(str, place["units"])) == {"pixel"}


def _is_scaled_only(place: Mapping[str, Any]) -> bool:
    """Whether a layer begins at the origin, and its axes are those of the world."""
    matrix = _matrix(place)
    return np.allclose(matrix, np.diag(np.diag(matrix))) and bool((np.diag(matrix) > 0).all())


def _unit_factors(units: Sequence[Any], wanted: Sequence[Any]) -> NDArray[np.float64]:
    """By how much coordinates in `units` are multiplied to be in those that are wanted.

    Where that is unknown, as between pixels and micrometres, it is 1: napari shows such layers by their numbers.
    """
    names = [(standard_unit(str(own)), standard_unit(str(other))) for own, other in zip(units, wanted, strict=True)]
    return np.array([convert_length(1.0, own or "", other or "") or 1.0 for own, other in names])


def _pixels_apart(
    layer: Any,
    own: Mapping[str, Any],
    others: Mapping[str, Any],
    factors: NDArray[np.float64],
    channel_axis: int | None,
) -> float:
    """The largest distance along an axis between pixels of equal index at the corners, in pixels of `layer`."""
    to_world, other_to_world = _matrix(own), _matrix(others)
    other_to_world[:-1] *= factors[:, None]
    shape = finest_level(layer).shape
    ends = [(0, max(0, int(shape[axis]) - 1)) for axis in spatial_axes(layer, channel_axis)]
    corners = np.array([(*corner, 1) for corner in product(*ends)], float).T
    difference = (other_to_world - to_world) @ corners
    pixels = np.linalg.lstsq(to_world[:-1, :-1], difference[:-1], rcond=None)[0]
    return float(np.abs(pixels).max())


def _matrix(place: Mapping[str, Any]) -> NDArray[np.float64]:
    """Pixels -> world, of the arguments that `placement` gives."""
    own = Affine(**{name: place[name] for name in ("scale", "translate", "rotate", "shear")})
    return np.array(place["affine"] @ own.affine_matrix, float)


def _differences(own: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    """ "scale 0.5, 0.5 and 0.25, 0.25" """
    units = [", ".join(dict.fromkeys(map(str, place["units"]))) for place in (own, others)]
    parts = [] if units[0] == units[1] else [f"units {units[0]} and {units[1]}"]
    for name in _PARTS:
        first, second = (np.asarray(place[name], float) for place in (own, others))
        if first.shape != second.shape or not np.allclose(first, second):
            is_short = first.ndim == second.ndim == 1
            parts.append(f"{name} {_numbers(first)} and {_numbers(second)}" if is_short else name)
    return "; ".join(parts)


def _numbers(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
