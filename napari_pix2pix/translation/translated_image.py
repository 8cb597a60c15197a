"""The translation of an image, region by region: a function from a region to finished pixels.

A region does not depend on which others are computed, in what order or by which process; but for what all of them need
to know of the whole image, which is found once (`Shared`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load, save
from torch import Tensor

from napari_pix2pix.translation.backends.stage_runner import Stages
from napari_pix2pix.translation.device_copies import downloaded
from napari_pix2pix.translation.fitted_image import FittedImage
from napari_pix2pix.translation.invalid_output import InvalidMarks
from napari_pix2pix.translation.padded_image import PaddedImage
from napari_pix2pix.translation.plan import Plan
from napari_pix2pix.translation.planes import FeaturePlane, PlaneStore
from napari_pix2pix.translation.schemes import gathered_first, network_tiles
from napari_pix2pix.translation.values_seen import ValuesSeen
from pix2pix_training.array_source import AnyArray, plane_indices, plane_size
from pix2pix_training.errors import NoValidPixelError, Pix2PixError
from pix2pix_training.intensity import LinearMapping, Mapping, by_rows, resolved
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.neighbouring_planes import with_neighbouring_planes
from pix2pix_training.regions import PlaneRegion, Region

if TYPE_CHECKING:
    from napari_pix2pix.translation.translator import Translator

logger = logging.getLogger(__name__)

_EMPTY_TILE_PX = 1024

Shared = Callable[[str, Callable[[], bytes]], bytes]
"""What the function gives, under a name; made once for all who work on an image, and kept."""
Outputs = Generator[tuple[Region, Tensor], None, None]


class TranslatedImage:
    """An image on its way through a translator.

    Parameters
    ----------
    plan : how.
    masked : tiles have one sample more than channels: how opaque pixels are, see `OutputSpec.masked`.
    scratch : folder for what does not fit into memory.
    shared : keeps what is found of the whole image; by default in memory.
    """

    def __init__(
        self,
        translator: Translator,
        fitted: FittedImage,
        plan: Plan,
        *,
        masked: bool = False,
        scratch: Path | None = None,
        shared: Shared | None = None,
    ) -> None:
        self.plan = plan
        self._translator = translator
        self._fitted = fitted
        self._scratch = scratch
        self._shared = shared or kept_in_memory()
        self._source = with_neighbouring_planes(fitted, translator.model.source.z_context)
        self._filled = FilledSource(self._source)
        target = translator.model.target.mapping
        self._marks = InvalidMarks(self._filled, translator.output_dtype, target, masked=masked)
        self._empty: set[tuple[int, ...]] = set()

    @property
    def regions(self) -> list[PlaneRegion]:
        """All regions: plane by plane in storage order, each in reading order."""
        regions = list(Region.whole(*plane_size(self._source)).tiles(*self.plan.region))
        return [PlaneRegion(plane, region) for plane in plane_indices(self._source) for region in regions]

    @cached_property
    def mapping(self) -> Mapping:
        """Of the source's values, with ends that are those of the image where they are found per image."""
        mapping = self._fitted.mapping
        if not isinstance(mapping, LinearMapping) or mapping.scope != "image":
            return mapping

        def measured() -> bytes:
            with suppress(NoValidPixelError):
                found = resolved(mapping, self._source)
                assert isinstance(found, LinearMapping)
                return json.dumps([found.low, found.high]).encode()
            return json.dumps([(), ()]).encode()  # nothing is mapped then

        low, high = json.loads(self._shared("ends", measured))
        return replace(mapping, low=tuple(low), high=tuple(high))

    def tiles(self, place: PlaneRegion, seen: ValuesSeen) -> Generator[tuple[Region, AnyArray], None, None]:
        """Finished tiles of a region in reading order: where they lie, and pixels (samples, height, width).

        Parameters
        ----------
        seen : is told of the values that were read.

        Raises
        ------
        NoValidPixelError
            No plane has a valid pixel, and the image may not be empty.
        """
        image = self._plane(place.plane, seen)
        try:
            with (
                closing(self._outputs(image, place)) as outputs,
                closing(downloaded(self._stored_tiles(outputs), self._translator.device)) as tiles,
            ):
                for region, stored in tiles:
                    yield region, self._marks.on(stored.numpy(), image.opacity(region))
        except NoValidPixelError as error:  # found at the first read, before the first tile
            self._note_empty(place.plane, error)
            for region in place.region.tiles(_EMPTY_TILE_PX):
                yield region, self._marks.nothing(region, self._translator.output_channels)

    def _note_empty(self, plane: tuple[int, ...], error: NoValidPixelError) -> None:
        """Say that a plane has no valid pixel, once; an error at the first one where that is so of all planes."""
        if plane in self._empty:
            return
        if not self._empty and not self._fitted.may_be_empty:
            planes = plane_indices(self._source)
            if not any(self._filled.has_valid_pixel(other) for other in planes if other != plane):
                raise error
        self._empty.add(plane)
        where = f" (plane {', '.join(map(str, plane))})" if plane else ""
        logger.warning("%s%s holds no valid pixel, and its output holds none", self._source.name, where)

    def _plane(self, plane: tuple[int, ...], seen: ValuesSeen | None = None) -> PaddedImage:
        stride, device = self._translator.model.generator_config.stride, self._translator.device
        return PaddedImage(self._filled, plane, self.mapping, stride=stride, device=device, values_seen=seen)

    def _outputs(self, image: PaddedImage, place: PlaneRegion) -> Outputs:
        """What the network gives: means and deviations of several runs with other noise, where that is asked for."""
        samples = self._translator.settings.dropout_samples
        if samples == 1:
            return self._run(image, place, 0)
        return sampled_tiles(
            lambda number: self._run(image, place, number),
            samples,
            channels=self._translator.model.generator_config.target_channels,
            place=place.region,
            device=self._translator.device,
            memory_bytes=self.plan.memory_for_samples_bytes,
            scratch=self._scratch,
        )

    def _run(self, image: PaddedImage, place: PlaneRegion, number: int) -> Outputs:
        stages = self._translator.stages(self.plan, number, scratch=self._scratch)
        norms = self._norms(stages, place.plane, number)
        return network_tiles(stages, image, place.region, self.plan, norms)

    def _norms(self, stages: Stages, plane: tuple[int, ...], number: int) -> dict[str, Tensor] | None:
        if self.plan.gathering is None:
            return None

        def gathered() -> bytes:
            with torch.inference_mode(), out_of_memory_explained(self.plan):
                norms = gathered_first(stages, self._plane(plane), self.plan) or {}
            return save({name: norm.cpu().contiguous() for name, norm in norms.items()})

        name = "-".join(["norms", *map(str, plane), f"sample{number}"])
        kept = load(self._shared(name, gathered))
        return {name: norm.to(self._translator.device) for name, norm in kept.items()}

    def _stored_tiles(self, outputs: Iterator[tuple[Region, Tensor]]) -> Outputs:
        """Outputs of the network as pixels of the target, still on the device."""
        while (item := self._next(outputs)) is not None:
            yield item[0], self._stored(item[1])

    def _next(self, outputs: Iterator[tuple[Region, Tensor]]) -> tuple[Region, Tensor] | None:
        with torch.inference_mode(), out_of_memory_explained(self.plan):
            return next(outputs, None)

    def _stored(self, output: Tensor) -> Tensor:
        mapping = self._translator.model.target.mapping
        with torch.inference_mode():
            if self._translator.settings.dropout_samples > 1:
                return _in_stored_units(output, mapping)[0]
            return by_rows(mapping.from_network, output.float())[0]


def kept_in_memory() -> Shared:
    """For an image that one process translates at once."""
    known: dict[str, bytes] = {}

    def shared(name: str, make: Callable[[], bytes]) -> bytes:
        if name not in known:
            known[name] = make()
        return known[name]

    return shared


def _in_stored_units(output: Tensor, mapping: Mapping) -> Tensor:
    """Means and standard deviations from the network's range to that of the target's pixels, as float32."""
    assert isinstance(mapping, LinearMapping)
    mean, deviation = output.chunk(2, 1)
    low, high = (output.new_tensor(ends)[:, None, None] for ends in (mapping.low, mapping.high))
    half = (high - low) / 2
    return torch.cat([(mean + 1) * half + low, deviation * half], 1)


@contextmanager
def out_of_memory_explained(plan: Plan) -> Iterator[None]:
    """One clear line for the ways in which memory runs out."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _out_of_memory(plan) from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        raise _out_of_memory(plan) from error


def _out_of_memory(plan: Plan) -> Pix2PixError:
    return Pix2PixError(
        f"memory ran out (scheme {plan.scheme}, tile {plan.tile}, {plan.working_set_bytes / 2**20:.0f} MiB predicted); "
        "set a smaller --max-memory, or a smaller --tile"
    )


Tiles = Generator[tuple[Region, Tensor], None, None]


def sampled_tiles(
    run: Callable[[int], Tiles],
    samples: int,
    *,
    channels: int,
    place: Region,
    device: torch.device,
    memory_bytes: int,
    scratch: Path | None = None,
) -> Tiles:
    """Tiles of 2 x `channels` channels: the means over all runs, then the standard deviations.

    Parameters
    ----------
    run : gives the tiles (1, channels, h, w) of run 0, 1, ...; always the same regions.
    samples : number of runs, 2 or more.
    place : the region in which the tiles lie.
    memory_bytes : what the sums may take; beyond it they are kept on disk, in the folder `scratch`.
    """
    with PlaneStore(device, memory_bytes, folder=scratch) as store:
        sums = store.new(0, 2 * channels, (place.height, place.width))
        for number in range(samples):
            with closing(run(number)) as tiles:
                for region, values in tiles:
                    inner = region.seen_from(place)
                    result = _updated(sums, inner, values.float(), number)
                    if number + 1 < samples:
                        sums.write(inner, result)
                    else:
                        result[:, channels:] = (result[:, channels:] / (samples - 1)).sqrt()
                        yield region, result


def _updated(sums: FeaturePlane, region: Region, values: Tensor, number: int) -> Tensor:
    """Means and sums of squared deviations after one more run."""
    if number == 0:
        return torch.cat([values, torch.zeros_like(values)], 1)
    mean, squares = sums.read(region).chunk(2, 1)
    delta = values - mean
    updated = mean + delta / (number + 1)
    return torch.cat([updated, squares + delta * (values - updated)], 1)
