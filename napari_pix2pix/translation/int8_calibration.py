"""Making a model ready for 8 bits: its roundings are found on parts of images, and what they cost on other parts."""

from __future__ import annotations

import copy
import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_pix2pix.translation.fitted_image import fitted_image
from napari_pix2pix.translation.padded_image import PaddedImage
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.array_source import ArraySource, channel_count, plane_indices, plane_size
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.export_form import fold_norms
from pix2pix_training.intensity import CategoryMapping, resolved, to_tensor
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.model_file import Model
from pix2pix_training.neighbouring_planes import with_neighbouring_planes
from pix2pix_training.networks import Generator as Network
from pix2pix_training.quantisation import Int8Traits, RangeSurvey, int8_problem, quantise
from pix2pix_training.regions import Region

logger = logging.getLogger(__name__)

MOST_DEVIATION = 0.005
MOST_PSNR_LOSS = 0.3
_SIDES = (1024, 512, 256, 128, 64)
_ENOUGH_PARTS = 8
_MOST_PIXELS = 1 << 23


def with_int8(
    model: Model,
    sources: Sequence[ArraySource],
    targets: Sequence[ArraySource] = (),
    *,
    most_deviation: float = MOST_DEVIATION,
) -> Generator[float, None, Model]:
    """The model with roundings for 8 bits; yields the share of the work that is done.

    Parameters
    ----------
    sources : images like those to be translated; half of their parts give the roundings, the others judge them.
    targets : of the sources in this order, or none; of categories, which have no PSNR, they are not used.
    most_deviation : see below.

    Raises
    ------
    InputError
        The model cannot compute in 8 bits, the images do not fit it or are too small, or the result would differ from
        that in float32 by more than `most_deviation`, a share of its range in the mean, or lose more than
        `MOST_PSNR_LOSS` dB against the targets.
    """
    problem = int8_problem(model.generator_config, model.inference)
    if problem is not None:
        raise SettingsError(problem)
    if targets and isinstance(model.target.mapping, CategoryMapping):
        logger.warning("the targets are categories, which have no PSNR, so they are not used")
        targets = ()
    of_sources: Sequence[ArraySource | None] = targets or [None] * len(sources)
    images = [_Image(model, *pair) for pair in zip(sources, of_sources, strict=True)]
    parts = _parts(images, model.generator_config.stride)
    learning, judging = parts[::2], parts[1::2]
    network = model.generator()
    fold_norms(network)
    survey = RangeSurvey(network)
    for number, part in enumerate(learning):
        survey.add(part.source())
        yield number / len(parts)
    roundings = survey.roundings()
    rounded = copy.deepcopy(network)
    quantise(rounded, roundings)
    costs = []
    for number, part in enumerate(judging, len(learning)):
        costs.append(part.cost(network, rounded))
        yield number / len(parts)
    deviations = [cost.deviation for cost in costs]
    losses = [cost.psnr_loss for cost in costs if cost.psnr_loss is not None]
    traits = Int8Traits(
        roundings=roundings,
        parts=len(parts),
        deviation=fmean(deviations),
        worst=max(deviations),
        psnr_loss=fmean(losses) if losses else None,
    )
    _require_small(traits, most_deviation)
    return replace(model, int8=traits)


def _require_small(found: Int8Traits, most_deviation: float) -> None:
    if found.deviation > most_deviation:
        raise SettingsError(
            f"in int8 the results differ from those in float32 by {100 * found.deviation:.2f} % of their range in the "
            f"mean, and {100 * most_deviation:.2g} % is allowed; choose precision fp32 or bf16 for this model"
        )
    if found.psnr_loss is not None and found.psnr_loss > MOST_PSNR_LOSS:
        raise SettingsError(
            f"in int8 the results lose {found.psnr_loss:.2f} dB of PSNR against the targets, and "
            f"{MOST_PSNR_LOSS:.2g} dB is allowed; choose precision fp32 or bf16 for this model"
        )


@dataclass(frozen=True)
class _Cost:
    """Of a part: mean difference as a share of the range, and loss of PSNR in dB where there is a target."""

    deviation: float
    psnr_loss: float | None


class _Image:
    """A source as the model sees it, and its target."""

    def __init__(self, model: Model, source: ArraySource, target: ArraySource | None) -> None:
        fitted = fitted_image(source, model, TranslationSettings())
        seen = with_neighbouring_planes(fitted, model.source.z_context)
        self._filled = FilledSource(seen, may_be_empty=True)
        self._mapping = resolved(fitted.mapping, seen)
        self._stride = model.generator_config.stride
        self._target, self._target_mapping = target, model.target.mapping
        if target is not None:
            self._require_target(source, target)
        self.planes = list(plane_indices(source))

    def _require_target(self, source: ArraySource, target: ArraySource) -> None:
        mapping = self._target_mapping
        if plane_size(target) != plane_size(source) or channel_count(target) != mapping.image_channels:
            raise ImageError(f"{target.name} does not fit {source.name}, or the model; give the target of that image")
        if target.dtype.name != mapping.dtype:
            raise ImageError(
                f"{target.name} has pixels of {target.dtype}, and the model's are {mapping.dtype}; give targets like "
                "those that it was trained on"
            )

    def plane(self, plane: tuple[int, ...]) -> PaddedImage:
        return PaddedImage(self._filled, plane, self._mapping, stride=self._stride, device=torch.device("cpu"))

    def has_content(self, region: Region, plane: tuple[int, ...]) -> bool:
        """Whether a region has valid pixels that differ."""
        stored, invalid = self._filled.read_with_mask(region, plane)
        valid = stored.reshape(len(stored), -1) if invalid is None else stored[:, ~invalid]
        return bool((valid != valid[:, :1]).any())

    def valid(self, region: Region, plane: tuple[int, ...]) -> Tensor:
        """Mask (h, w) of the valid pixels of the source."""
        return _valid(self._filled.read_with_mask(region, plane)[1], region)

    def target(self, region: Region, plane: tuple[int, ...]) -> tuple[Tensor, Tensor] | None:
        """(1, C, h, w) in [-1, 1], and the mask (h, w) of its valid pixels; None where there is none."""
        if self._target is None:
            return None
        stored, invalid = FilledSource(self._target, may_be_empty=True).read_with_mask(region, plane)
        values = resolved(self._target_mapping, self._target).to_network(to_tensor(stored)[None])
        return values, _valid(invalid, region)


def _valid(invalid: NDArray[np.bool_] | None, region: Region) -> Tensor:
    return torch.ones(region.height, region.width, dtype=torch.bool) if invalid is None else torch.from_numpy(~invalid)


@dataclass(frozen=True)
class _Part:
    """A window of a plane of an image, which the network sees like an image of its own."""

    image: _Image
    plane: tuple[int, ...]
    window: Region

    @property
    def area(self) -> Region:
        """The window without what pads the image."""
        return self.window.common(self.image.plane(self.plane).area)

    def has_content(self) -> bool:
        return self.image.has_content(self.area, self.plane)

    def source(self) -> Tensor:
        return self.image.plane(self.plane).read(self.window)

    @torch.inference_mode()
    def cost(self, network: Network, rounded: Network) -> _Cost:
        x, area = self.source(), self.area
        own = area.seen_from(self.window).slices
        valid = self.image.valid(area, self.plane)
        exact, found = (each(x)[..., *own] for each in (network, rounded))
        loss = None
        if (target := self.image.target(area, self.plane)) is not None and (both := valid & target[1]).any():
            wanted = target[0][..., both]
            loss = _decibels(found[..., both], wanted) - _decibels(exact[..., both], wanted)
        return _Cost((found - exact)[..., valid].abs().mean().item() / 2, loss)


def _decibels(result: Tensor, target: Tensor) -> float:
    """How large the squared error is; the loss of PSNR is the difference of two of them."""
    return 10 * float(np.log10(max((result - target).square().mean().item(), 1e-12)))


def _parts(images: Sequence[_Image], stride: int) -> list[_Part]:
    """Parts of the images with content in random order, always the same, as large as there are enough of.

    Of a network's deep features smaller parts know less, so the largest side is taken that gives some.
    """
    sides = [side for side in _SIDES if side % stride == 0] or [stride]
    drawn: list[_Part] = []
    for side in sides:
        found = list(_windows(images, side))
        if len(found) >= _ENOUGH_PARTS or side == sides[-1]:
            drawn = _with_content(found)
        if len(drawn) >= _ENOUGH_PARTS:
            break
    if len(drawn) < 2:
        raise ImageError(
            f"of the parts of the sample, {sides[-1]} x {sides[-1]} pixels or smaller, {len(drawn)} of {len(found)} "
            "have valid pixels that differ, and 2 are needed: half of them give the roundings and the others judge "
            "them; give more or larger images"
        )
    return drawn


def _with_content(found: Sequence[_Part]) -> list[_Part]:
    """Of parts in random order those with content, as many as there is time for."""
    drawn, pixels = list[_Part](), 0
    for part in (found[n] for n in np.random.default_rng(0).permutation(len(found))):
        if pixels + part.window.pixels > _MOST_PIXELS and len(drawn) >= 2:
            break
        if part.has_content():
            drawn.append(part)
            pixels += part.window.pixels
    return drawn


def _windows(images: Sequence[_Image], side: int) -> Iterator[_Part]:
    for image in images:
        for plane in image.planes:
            for window in Region.whole(*image.plane(plane).size).tiles(side):
                yield _Part(image, plane, window)
