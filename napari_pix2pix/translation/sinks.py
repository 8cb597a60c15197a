"""Where translated images go: an array, a file of any format, a plain file for further use.

A sink takes one translation, which `pipeline.translate` drives.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_pix2pix.formats.output_state import (
    WHOLE,
    Part,
    clear_completed,
    holds_result,
    is_begun,
    is_there,
    output_identity,
)
from napari_pix2pix.formats.remote import RemotePath, as_path
from napari_pix2pix.formats.source import ImageSource, open_image
from napari_pix2pix.formats.writing import (
    OutputSpec,
    Steps,
    check_output,
    incompatibility,
    resolve_format,
    written,
)
from napari_pix2pix.translation.fitted_image import FittedImage, at_own_size
from napari_pix2pix.translation.novelty_map import NoveltyFile, require_measure, sampled_share, warn_of_novelty
from napari_pix2pix.translation.output_description import (
    content_identity,
    image_identity,
    made_otherwise,
    output_spec,
    plain_spec,
    with_mask,
)
from napari_pix2pix.translation.plan import Plan, gathers
from napari_pix2pix.translation.prefetch import computed_ahead
from napari_pix2pix.translation.progress import RegionDone, TilesDone
from napari_pix2pix.translation.region_grid import region_grid
from napari_pix2pix.translation.resumable import Amount, regions_made
from napari_pix2pix.translation.settings import TranslationSettings, resolved_inference
from napari_pix2pix.translation.translator import OutputTile, Translator
from pix2pix_training.array_source import AnyArray, ArraySource, plane_indices, plane_size
from pix2pix_training.atomic import clear_leftovers, reserved, temporary_folder
from pix2pix_training.axis_order import AxisOrder, axis_order
from pix2pix_training.errors import ImageError, OutputError, Pix2PixError, SettingsError
from pix2pix_training.invalid_pixels import can_have_invalid_pixels
from pix2pix_training.machine import scratch_folder
from pix2pix_training.model_file import Model
from pix2pix_training.regions import PlaneRegion, Region

logger = logging.getLogger(__name__)

Filling = Generator[TilesDone | RegionDone, None, Amount]


@dataclass(frozen=True, kw_only=True)
class Work:
    """An image, what it goes through, and how."""

    source: ArraySource
    fitted: FittedImage
    translator: Translator
    plan: Plan

    @property
    def planes(self) -> int:
        return prod(self.source.shape[:-3])

    @property
    def tiles(self) -> int:
        return self.planes * self.plan.tiles

    @property
    def all_of_it(self) -> Amount:
        pixels = self.planes * prod(plane_size(self.source))
        return Amount(plan=self.plan, pixels=pixels, tiles=self.tiles, tiles_reused=0, complete=True)


class Sink(ABC):
    """Takes a translation."""

    def has_share(self, source: ArraySource, translator: Translator) -> bool:
        """Whether there is anything to do for this process."""
        del source, translator
        return True

    @abstractmethod
    def spec(self, work: Work) -> OutputSpec | None:
        """What is going to be made; None where it is there already. Refuses what cannot be made."""

    @abstractmethod
    def fill(self, work: Work, spec: OutputSpec) -> Filling:
        """Make it."""

    def novel_share(self, work: Work) -> float | None:
        """How much of the image is novel, see `TranslationReport`; warns where that is much. For between the two."""
        share = sampled_share(work.fitted, work.translator)
        if share is not None:
            warn_of_novelty(work.source.name, share, is_sampled=True)
        return share


class ArraySink(Sink):
    """An array in memory.

    Parameters
    ----------
    order : axes of the array, see `axes_of_result`; by default those of the image. Channels that it does not have come
        before Y and X.
    with_opacity : where no value can say of pixels that they hold no data, the array gets one sample more than
        channels: how opaque they are.

    Attributes
    ----------
    array : there when the translation has ended.
    """

    array: AnyArray

    def __init__(self, order: AxisOrder | None = None, *, with_opacity: bool = False) -> None:
        self._order = order
        self._with_opacity = with_opacity

    def spec(self, work: Work) -> OutputSpec:
        spec = output_spec(work.source, work.translator)
        tells = spec.dtype.kind == "f" or spec.nodata is not None
        masked = self._with_opacity and not tells and can_have_invalid_pixels(work.source)
        return replace(spec, masked=masked)

    def fill(self, work: Work, spec: OutputSpec) -> Filling:
        self.array = _allocated(spec, self._axes(spec))
        return (yield from _in_one_piece(work, spec, lambda tiles: self._put(tiles, spec), None))

    def _axes(self, spec: OutputSpec) -> AxisOrder:
        return (self._order or AxisOrder(spec.axes)).with_channels()

    def _put(self, tiles: Iterator[OutputTile], spec: OutputSpec) -> Steps:
        view = self.array.transpose(self._axes(spec).positions())
        for plane, region, pixels in tiles:
            index: tuple[Any, ...] = (*plane, slice(None), *region.slices)
            view[index] = pixels
            yield

    @property
    def without_single_channel(self) -> AnyArray:
        """The array, without an axis of one channel that the order of axes does not have."""
        assert self._order is not None
        axis = self._order.with_channels().letters.index("C")
        return self.array if self._order.has_channels or self.array.shape[axis] > 1 else self.array.squeeze(axis)


def _allocated(spec: OutputSpec, order: AxisOrder) -> AnyArray:
    lengths = dict(zip(order.normal, (*spec.leading_shape, spec.samples, spec.height, spec.width), strict=True))
    shape = [lengths[letter] for letter in order.letters]
    try:
        return np.empty(shape, spec.dtype)
    except MemoryError as error:
        raise Pix2PixError(
            f"the result would take {prod(shape) * spec.dtype.itemsize / 1e9:.1f} GB, more than is free; translate a "
            "part, or write to a file, which the command line does"
        ) from error


def axes_of_result(axes: str | None, source: ArraySource) -> AxisOrder:
    """The axes that somebody wants the result of an image to have; those of the image where none are given.

    Raises
    ------
    ImageError
        The image has other axes.
    """
    if axes is None:
        return AxisOrder(source.axes)
    shown = source.axes if set("CS") & set(axes.upper()) else source.axes.replace("C", "")
    order = axis_order(axes, [1] * len(axes), source.name)
    if sorted(order.letters) != sorted(shown):
        raise ImageError(f"{source.name} has the axes {source.axes}, which cannot be given in the order {axes}")
    return order


def _say_kept(path: Path, words: str) -> None:
    logger.warning("%s %s", path, words)


class FileSink(Sink):
    """A file, which has its name only when it is complete.

    An image of several regions is written region by region, can be gone on with, and shared by several processes.

    Parameters
    ----------
    path : its ending decides the format where `file_format` is "same".
    resume : go on with an unfinished output; one that is complete already is left as it is, and nothing is computed.
    part : of the work, for this process; the last of them to finish completes the output.
    in_place : where it can be made region by region, go on with one that was begun, and fill also one of a single
        region where others can look.
    replaces : what is at `path` is of this `output_identity`, and no complete output of this work.
    novelty_map : write a map of what is unlike the training images beside it, before it, called NAME-novelty. The part
        that begins with the first region does.
    on_kept : is given the path of an output that is left as it is, and what is to be said after it.
    """

    def __init__(
        self,
        path: Path,
        *,
        file_format: str = "same",
        overwrite: bool = False,
        resume: bool = False,
        part: Part = WHOLE,
        in_place: bool = False,
        replaces: list[int] | None = None,
        novelty_map: bool = False,
        on_kept: Callable[[Path, str], None] = _say_kept,
    ) -> None:
        self.path = as_path(path)
        self._on_kept = on_kept
        self._format = file_format
        self._overwrite = overwrite
        self._resume = resume
        self._part = part
        self._in_place = in_place
        self._replaces = replaces
        self._wants_novelty = novelty_map
        self._novelty: NoveltyFile | None = None
        self._before: list[int] | None = None

    @property
    def _is_remote(self) -> bool:
        return isinstance(self.path, RemotePath)

    def has_share(self, source: ArraySource, translator: Translator) -> bool:
        return len(self._part.of(len(regions_of(source, translator.model, translator.settings)))) > 0

    def spec(self, work: Work) -> OutputSpec | None:
        path, source = self.path, work.source
        spec = output_spec(source, work.translator)
        file = source if isinstance(source, ImageSource) else None
        requested = resolve_format(path, self._format, file)
        goes_on = self._resume or self._part.count > 1
        if self._wants_novelty:
            require_measure(work.translator.model)
            if self._is_first:
                self._novelty = NoveltyFile(path, spec, file_format=requested, overwrite=self._overwrite, keeps=goes_on)
        clear_completed(path)
        self._before = output_identity(path)
        if goes_on and self._is_complete():
            self._keep(spec)
            return None
        for input_file in file.files if file is not None else ():
            for own in [path, *([] if self.novelty_path is None else [self.novelty_path])]:
                if is_there(own) and own.samefile(input_file):  # its pixels are read while the output is written
                    raise OutputError(f"{own} would take the place of the input {input_file}; give another name")
        try:
            self._format = check_output(path, spec, file_format=requested, overwrite=self._overwrite)
        except OutputError:
            if not goes_on or not self._is_complete():
                raise
            self._keep(spec)  # another process has completed it since the look above
            return None
        spec = with_mask(spec, source, self._format)
        if (goes_on or self._is_remote) and not _goes_by_regions(work, spec):
            raise SettingsError(
                f"{path}: with --match-pixel-size, or more axes than TZCYX, work cannot be resumed or shared, nor be "
                "written to a bucket"
            )
        return spec

    def _is_complete(self) -> bool:
        """Whether there is the result of this work, by another process or an earlier run."""
        return holds_result(self.path, self._replaces)

    def _keep(self, spec: OutputSpec) -> None:
        clear_leftovers(self.path)
        self._on_kept(self.path, _finished_in_words(self.path, spec))

    @property
    def novelty_path(self) -> Path | None:
        """The map that this process makes, known once the image is."""
        return None if self._novelty is None else self._novelty.path

    @property
    def _is_first(self) -> bool:
        """Whether this process looks at the whole image for all of them."""
        return bool(self._part.of(1))

    def novel_share(self, work: Work) -> float | None:
        if not self._is_first:
            return None
        if self._novelty is None:
            return super().novel_share(work)
        share = self._novelty.write(work.fitted, work.translator)
        if share is not None:
            warn_of_novelty(work.source.name, share, is_sampled=False)
        return share

    def fill(self, work: Work, spec: OutputSpec) -> Filling:
        if not self._part.of(work.plan.regions * work.planes):  # the plan has one region where the grid had many
            return replace(work.all_of_it, pixels=0, tiles=0, complete=False)
        if self._is_resumable(work) and _goes_by_regions(work, spec):
            return (yield from self._region_by_region(work, spec))

        def write(tiles: Iterator[OutputTile]) -> Steps:
            return written(self.path, spec, tiles, file_format=self._format, overwrite=self._overwrite)

        with reserved(self.path, self._overwrite, replaceable_folder=True):
            return (yield from _in_one_piece(work, spec, write, self.path.absolute().parent))

    def _is_resumable(self, work: Work) -> bool:
        """Whether it pays; what tells an array from others is found by reading all of it."""
        if self._in_place or self._is_remote or is_begun(self.path):
            return True
        return work.plan.regions * work.planes > 1 and (isinstance(work.source, ImageSource) or self._resume)

    def _region_by_region(self, work: Work, spec: OutputSpec) -> Filling:
        source, cancel = work.source, work.translator.cancel
        identity = image_identity(source) if isinstance(source, ImageSource) else content_identity(source, cancel)
        making = regions_made(
            work.fitted,
            identity,
            work.translator,
            self.path,
            spec,
            file_format=self._format,
            plan=work.plan,
            before=self._before,
            part=self._part,
            resume=self._resume or self._in_place,
            overwrite=self._overwrite,
        )
        try:
            return (yield from making)
        except ImageError as error:
            raise Pix2PixError(str(error)) from error  # midway: the output is begun


class PlainFileSink(Sink):
    """A TIFF of nothing but the pixels, for further use within the program.

    `image` is what it is the translation of: the channels that the model takes.
    """

    image: ArraySource

    def __init__(self, path: Path) -> None:
        self.path = path

    def spec(self, work: Work) -> OutputSpec:
        self.image = work.fitted.own
        return plain_spec(work.source, work.translator)

    def fill(self, work: Work, spec: OutputSpec) -> Filling:
        def write(tiles: Iterator[OutputTile]) -> Steps:
            return written(self.path, spec, tiles, file_format="tiff")

        return (yield from _in_one_piece(work, spec, write, self.path.parent))


def regions_of(source: ArraySource, model: Model, settings: TranslationSettings) -> list[PlaneRegion]:
    """The regions of an image, plane by plane, as far as they are known before it is planned (then it may be one)."""
    config, size = model.generator_config, plane_size(source)
    if settings.match_pixel_size or (settings.scheme == "whole" and settings.region is None):
        side = size
    else:
        passes = gathers(config, resolved_inference(settings, model))
        side = region_grid(size, config, settings.region, gathers=passes).side
    regions = list(Region.whole(*size).tiles(*side))
    return [PlaneRegion(plane, region) for plane in plane_indices(source) for region in regions]


def _goes_by_regions(work: Work, spec: OutputSpec) -> bool:
    return not work.fitted.is_rescaled and incompatibility(replace(spec, masked=False), "ome-zarr") is None


def _in_one_piece(
    work: Work, spec: OutputSpec, write: Callable[[Iterator[OutputTile]], Steps], scratch: Path | None
) -> Filling:
    """Hand all tiles to what writes them, those of a rescaled image at its own size again.

    Tiles of a rescaled image are counted while the network runs; going back takes little beside it.

    Parameters
    ----------
    scratch : folder for what does not fit into memory, where the settings name none; None for a place of its own.
    """
    fitted, translator = work.fitted, work.translator
    with ExitStack() as stack:
        if fitted.is_rescaled:
            place = translator.scratch or scratch or scratch_folder()
            small = stack.enter_context(temporary_folder(place)) / "matched.tif"
            tiles = translator.tiles(fitted, plan=work.plan, scratch=small.parent)
            plain = plain_spec(fitted, translator)
            yield from _written(work, tiles, lambda ahead: written(small, plain, ahead, file_format="tiff"))
            tiles = at_own_size(fitted, small, translator.model.target.mapping, masked=spec.masked)
        else:
            tiles = translator.tiles(fitted, plan=work.plan, masked=spec.masked, scratch=scratch)
        for event in _written(work, tiles, write):
            yield TilesDone(done=work.tiles, total=work.tiles) if fitted.is_rescaled else event
    return work.all_of_it


def _written(
    work: Work, tiles: Generator[OutputTile, None, None], write: Callable[[Iterator[OutputTile]], Steps]
) -> Generator[TilesDone, None, None]:
    """Count tiles as they are written; the next one is computed meanwhile."""
    cancel = work.translator.cancel
    with closing(tiles), closing(computed_ahead(tiles, cancel)) as ahead, closing(write(ahead)) as steps:
        for done, _ in enumerate(steps, start=1):
            yield TilesDone(done=done, total=work.tiles)
            cancel.check()


def _finished_in_words(path: Path, spec: OutputSpec) -> str:
    """See `made_otherwise`; refuses a file whose pixels are of another shape or type than those that would be made."""
    with open_image(path, 0) as found:
        same_type = found.dtype == spec.dtype or (spec.dtype == np.bool_ and found.dtype == np.uint8)
        if found.shape[-3:] != spec.shape[-3:] or prod(found.shape) != prod(spec.shape) or not same_type:
            raise OutputError(
                f"{path} is there already, of {found.shape} {found.dtype}, and is not what would be made, of "
                f"{spec.shape} {spec.dtype}; give another name, or --overwrite without --resume"
            )
        return made_otherwise(found.metadata.made_by, spec.metadata.made_by)
