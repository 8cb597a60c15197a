"""Making a model ready for 8 bits: its roundings are found on parts of images, and what they cost on other parts."""

from __future__ import annotations

import copy
import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pix2pix_training.array_source import ArraySource, plane_size
from pix2pix_training.device import is_out_of_memory
from pix2pix_training.errors import SettingsError
from pix2pix_training.export_form import fold_norms
from pix2pix_training.image_survey import Plane
from pix2pix_training.intensity import CategoryMapping, Mapping, resolved, to_tensor
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.model_file import Model
from pix2pix_training.networks import Generator as Network
from pix2pix_training.networks import pad_to_stride
from pix2pix_training.preparation import PreparedData, PreparedPair
from pix2pix_training.quantisation import (
    Int8Traits,
    RangeSurvey,
    Rounding,
    has_finer_image,
    int8_problem,
    quantise,
    with_image_in_8_bits,
    without_last,
)
from pix2pix_training.regions import Region

log = logging.getLogger(__name__)

MOST_DEVIATION = 0.005
MOST_PSNR_LOSS = 0.3
LARGEST_PART = 1024
_SMALLEST_PART = 64
_ENOUGH_PARTS = 8
_MOST_PIXELS = 1 << 21
_CPU = torch.device("cpu")
_TYPES_OF_8_BITS = ("bool", "uint8", "int8")


@dataclass(frozen=True, kw_only=True)
class KnownPair:
    """An image with all channels that the network sees, those of its planes that count, and its target, if any.

    `mapping` and `target_mapping` are those of their values.
    """

    source: ArraySource
    planes: Sequence[Plane]
    mapping: Mapping
    target: ArraySource | None = None
    target_mapping: Mapping | None = None

    @cached_property
    def _filled(self) -> FilledSource:
        return FilledSource(self.source, may_be_empty=True)

    def has_content(self, region: Region, plane: Plane) -> bool:
        """Whether a region has valid pixels that differ."""
        stored, invalid = self._filled.read_with_mask(region, plane)
        valid = stored.reshape(len(stored), -1) if invalid is None else stored[:, ~invalid]
        return bool((valid != valid[:, :1]).any())

    def read(self, region: Region, plane: Plane) -> tuple[Tensor, Tensor]:
        """(1, C, h, w) in [-1, 1], and the mask (h, w) of its valid pixels."""
        stored, invalid = self._filled.read_with_mask(region, plane)
        return self.mapping.to_network(to_tensor(stored)[None]), _valid(invalid, region)

    def read_target(self, region: Region, plane: Plane) -> tuple[Tensor, Tensor] | None:
        """The same of the target; None where there is none, or it is of categories, which have no PSNR."""
        if self.target is None or self.target_mapping is None or isinstance(self.target_mapping, CategoryMapping):
            return None
        stored, invalid = FilledSource(self.target, may_be_empty=True).read_with_mask(region, plane)
        values = resolved(self.target_mapping, self.target).to_network(to_tensor(stored)[None])
        return values, _valid(invalid, region)


def _valid(invalid: NDArray[np.bool_] | None, region: Region) -> Tensor:
    return torch.ones(region.height, region.width, dtype=torch.bool) if invalid is None else torch.from_numpy(~invalid)


@dataclass(frozen=True)
class _Cost:
    """Of a part: mean difference as a share of the range, and loss of PSNR in dB where there is a target."""

    deviation: float
    psnr_loss: float | None


@dataclass(frozen=True)
class Part:
    """A part of a plane of an image, which the network sees like an image of its own."""

    image: KnownPair
    plane: Plane
    area: Region

    def has_content(self) -> bool:
        return self.image.has_content(self.area, self.plane)

    def source(self) -> Tensor:
        return self.image.read(self.area, self.plane)[0]

    @torch.inference_mode()
    def cost(self, network: Network, rounded: Network, device: torch.device = _CPU) -> _Cost:
        x, valid = self.image.read(self.area, self.plane)
        exact, found = (_run(each, x.to(device)).cpu() for each in (network, rounded))
        loss = None
        if (target := self.image.read_target(self.area, self.plane)) is not None and (both := valid & target[1]).any():
            wanted = target[0][..., both]
            loss = _decibels(found[..., both], wanted) - _decibels(exact[..., both], wanted)
        return _Cost((found - exact)[..., valid].abs().mean().item() / 2, loss)


def _run(network: Network, x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    result: Tensor = network(pad_to_stride(x, network.config.stride))
    return result[..., :height, :width]


def _decibels(result: Tensor, target: Tensor) -> float:
    """How large the squared error is; the loss of PSNR is the difference of two of them."""
    return 10 * float(np.log10(max((result - target).square().mean().item(), 1e-12)))


def drawn_parts(images: Sequence[KnownPair], stride: int, *, largest: int, pixels: int) -> list[Part]:
    """Parts of the images with content in random order, always the same, as large as there are enough of.

    Of a network's deep features smaller parts know less, so the largest side is taken that gives some.

    Parameters
    ----------
    largest : side of a part.
    pixels : about so many in all.
    """
    sides = part_sides(stride, largest)
    drawn: list[Part] = []
    for side in sides:
        found = list(_tiles(images, side))
        if len(found) >= _ENOUGH_PARTS or side == sides[-1]:
            drawn = _with_content(found, pixels)
        if len(drawn) >= _ENOUGH_PARTS:
            break
    return drawn


def part_sides(stride: int, largest: int = LARGEST_PART) -> list[int]:
    """Sides of parts that are tried, from the largest: powers of two that a network of `stride` takes unpadded."""
    powers = [1 << n for n in reversed(range(_SMALLEST_PART.bit_length() - 1, largest.bit_length()))]
    return [side for side in powers if side % stride == 0] or [stride]


def _with_content(found: Sequence[Part], pixels: int) -> list[Part]:
    """Of parts in random order those with content, as many as there is time for."""
    drawn, seen = list[Part](), 0
    for part in (found[n] for n in np.random.default_rng(0).permutation(len(found))):
        if seen + part.area.pixels > pixels and len(drawn) >= 2:
            break
        if part.has_content():
            drawn.append(part)
            seen += part.area.pixels
    return drawn


def _tiles(images: Sequence[KnownPair], side: int) -> Iterator[Part]:
    for image in images:
        for plane in image.planes:
            for area in Region.whole(*plane_size(image.source)).tiles(side):
                yield Part(image, plane, area)


def measured_int8(
    model: Model,
    learning: Sequence[Part],
    judging: Sequence[Part],
    device: torch.device = _CPU,
    most_deviation: float = MOST_DEVIATION,
) -> Generator[float, None, Int8Traits]:
    """Roundings that `learning` gives, and what they cost on `judging`; yields the share of the work that is done.

    Where all in 8 bits would cost more than half of what is allowed, the first convolution sees the image in finer
    steps, as it always does where images have more than 8 bits, and then the last one stays in float32.

    Raises
    ------
    SettingsError
        The values in the model are too large for 8 bits.
    """
    network = model.generator()
    fold_norms(network)
    network.to(device)
    survey = RangeSurvey(network)
    image_too = model.source.mapping.dtype in _TYPES_OF_8_BITS and has_finer_image(network.config)
    count = len(learning) + (3 if image_too else 2) * len(judging)
    for number, part in enumerate(learning, 1):
        survey.add(pad_to_stride(part.source().to(device), network.config.stride))
        yield number / count
    roundings = survey.roundings()
    number = len(learning)
    for tried in _choices(roundings, image_too=image_too):
        rounded = copy.deepcopy(network).cpu()
        quantise(rounded, tried)
        rounded.to(device)
        costs = []
        for part in judging:
            costs.append(part.cost(network, rounded, device))
            number += 1
            yield number / count
        found = _traits(tried, costs, len(learning))
        if found.deviation <= most_deviation / 2 and (found.psnr_loss or 0) <= MOST_PSNR_LOSS / 2:
            break
    if number < count:
        yield 1.0
    return found


def _choices(roundings: dict[str, Rounding], *, image_too: bool) -> list[dict[str, Rounding]]:
    """From the fastest to the most exact one.

    The image is not in 8 bits beside a last convolution in float32: OpenVINO computes that wrongly.
    """
    others = [roundings, without_last(roundings)]
    return [with_image_in_8_bits(roundings), *others] if image_too else others


def _traits(roundings: dict[str, Rounding], costs: Sequence[_Cost], learning: int) -> Int8Traits:
    deviations = [cost.deviation for cost in costs]
    losses = [cost.psnr_loss for cost in costs if cost.psnr_loss is not None]
    return Int8Traits(
        roundings=roundings,
        parts=learning + len(costs),
        deviation=fmean(deviations),
        worst=max(deviations),
        psnr_loss=fmean(losses) if losses else None,
        judging=len(costs),
    )


def require_small(found: Int8Traits, most_deviation: float = MOST_DEVIATION) -> None:
    """Raise `SettingsError` where 8 bits cost more than is allowed."""
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


def int8_of_run(
    model: Model, data: PreparedData, *, largest: int, pixels: int, device: torch.device
) -> Generator[float, None, Int8Traits | None]:
    """What a model needs for 8 bits, from the images of its run: the training images give the roundings.

    The images that are held out judge them, or without such images half of the parts. None for a model that cannot
    compute in 8 bits or would lose too much, and where the images are too few or memory does not suffice.

    Parameters
    ----------
    largest : side of parts in pixels.
    pixels : about so many of each kind, if that is not more than is of use.
    """
    if int8_problem(model.generator_config, model.inference) is not None:
        return None

    def drawn(pairs: Sequence[PreparedPair]) -> list[Part]:
        known = [
            KnownPair(
                source=p.pair.source,
                planes=p.planes,
                mapping=p.source_mapping,
                target=p.pair.target,
                target_mapping=data.target_mapping,
            )
            for p in pairs
        ]
        return drawn_parts(known, model.generator_config.stride, largest=largest, pixels=min(pixels, _MOST_PIXELS))

    learning, judging = drawn(data.training), drawn(data.validation)
    if not judging:
        learning, judging = learning[::2], learning[1::2]
    if not learning or not judging:
        return None
    try:
        found = yield from measured_int8(model, learning, judging, device)
        require_small(found)
    except (SettingsError, RuntimeError, MemoryError) as reason:
        if not isinstance(reason, SettingsError) and not is_out_of_memory(reason):
            raise
        log.info("the model is not made ready for int8: %s", reason)
        return None
    return found
