"""Ways through the list of an image's regions: alone, going on with what is there, or as one of several processes."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

from napari_pix2pix.formats.ome_zarr_layout import unit_side
from napari_pix2pix.formats.output_state import WHOLE, Part
from napari_pix2pix.formats.partial_output import PartialOutput, open_partial
from napari_pix2pix.formats.remote import RemotePath
from napari_pix2pix.formats.tile_grid import Cutting
from napari_pix2pix.formats.writing import OutputSpec
from napari_pix2pix.translation.fitted_image import FittedImage, warn_of_values
from napari_pix2pix.translation.plan import Plan
from napari_pix2pix.translation.prefetch import computed_ahead
from napari_pix2pix.translation.progress import RegionDone, TilesDone
from napari_pix2pix.translation.translated_image import TranslatedImage
from napari_pix2pix.translation.translator import Translator
from napari_pix2pix.translation.values_seen import ValuesSeen
from pix2pix_training.array_source import AnyArray
from pix2pix_training.intensity import Mapping as IntensityMapping
from pix2pix_training.machine import scratch_folder
from pix2pix_training.regions import Region


@dataclass(frozen=True, kw_only=True)
class Amount:
    """What a run did: the plan that it followed, how much was its part, and whether the output is complete now."""

    plan: Plan
    pixels: int
    tiles: int
    tiles_reused: int
    complete: bool


def regions_made(
    fitted: FittedImage,
    identity: Sequence[Any],
    translator: Translator,
    path: Path,
    spec: OutputSpec,
    *,
    file_format: str,
    plan: Plan,
    before: list[int] | None = None,
    part: Part = WHOLE,
    resume: bool = False,
    overwrite: bool = False,
) -> Generator[TilesDone | RegionDone, None, Amount]:
    """Make the missing regions of this process's part, and complete the output if they were the last.

    Closed before its end, it leaves an unfinished output that can be resumed.

    Parameters
    ----------
    identity : what tells the image from others, ready for JSON; see `image_identity`.
    plan : for an output that is begun now; one that is resumed keeps the plan that it was begun with.
    before, resume, overwrite : see `open_partial`.
    """
    regions = TranslatedImage(translator, fitted, plan).regions
    cutting = Cutting(spec=spec, regions=regions, part_px=unit_side(spec, plan.region))
    with open_partial(
        path,
        cutting,
        file_format=file_format,
        request=_request(identity, translator, cutting, plan, file_format),
        plan=asdict(plan),
        before=before,
        part=part,
        resume=resume,
        overwrite=overwrite,
        cancel=translator.cancel,
    ) as output:
        if output is not None:
            plan = Plan.from_json(output.plan)
        mine = part.of(len(regions))
        pixels = {number: regions[number].region.pixels for number in mine}
        total = sum(pixels.values())
        tiles = max(1, round(plan.tiles * total * spec.channels / prod(spec.shape[-3:])))
        if output is None:
            return Amount(plan=plan, pixels=total, tiles=tiles, tiles_reused=tiles, complete=True)
        scratch = scratch_folder() if isinstance(path, RemotePath) else path.parent
        work = _Work(translator, fitted, output, plan, masked=spec.masked, scratch=scratch)
        missing = [number for number in mine if number not in output.finished()]
        reused = done = total - sum(pixels[number] for number in missing)
        for number, tile_pixels in work.make(missing):
            if tile_pixels is not None:
                done += tile_pixels
                yield TilesDone(done=tiles * done // total, total=tiles)
            else:
                present = len(mine) - len(missing) + missing.index(number) + 1
                yield RegionDone(number=number, done=present, total=len(mine))
            translator.cancel.check()
        mapping = work.values_of_all()
        complete = output.finish(work.make_one, translator.cancel)
        warn_of_values(fitted, mapping, translator.model.source)
        reused_tiles = tiles * reused // max(1, total)
        return Amount(plan=plan, pixels=total, tiles=tiles, tiles_reused=reused_tiles, complete=complete)


class _Work:
    """Makes regions of an output, any at a time."""

    def __init__(
        self,
        translator: Translator,
        fitted: FittedImage,
        output: PartialOutput,
        plan: Plan,
        *,
        masked: bool,
        scratch: Path,
    ) -> None:
        self._translator = translator
        self._fitted = fitted
        self._output = output
        self._own: set[int] = set()
        self._image = TranslatedImage(
            translator,
            fitted,
            plan,
            masked=masked,
            scratch=translator.scratch or scratch,
            shared=lambda name, make: output.shared(name, make, translator.cancel),
        )

    def make(self, numbers: Iterable[int]) -> Iterator[tuple[int, int | None]]:
        """Compute, write and record regions, one after the other.

        Gives the number of the region with the pixels of each tile when it is written, and with None at its end.

        The next tile is computed while one is written.
        """
        begun: int | None = None
        with (
            closing(self._tiles(numbers)) as tiles,
            closing(computed_ahead(tiles, self._translator.cancel)) as ahead,
        ):
            for number, tile, facts in ahead:
                if number != begun:
                    self._output.begin(number)
                    begun = number
                if tile is not None:
                    self._output.add(*tile)
                    yield number, tile[0].pixels
                else:
                    self._output.record(number, facts)
                    yield number, None

    def make_one(self, number: int) -> None:
        for _ in self.make([number]):
            pass

    def _tiles(
        self, numbers: Iterable[int]
    ) -> Generator[tuple[int, tuple[Region, AnyArray] | None, Mapping[str, Any]], None, None]:
        """The tiles of regions, and after the last of each None with what is to be recorded of it."""
        for number in numbers:
            seen = ValuesSeen()
            with closing(self._image.tiles(self._output.regions[number], seen)) as tiles:
                for tile in tiles:
                    yield number, tile, {}
            self._fitted.values_seen.merge(seen)
            self._own.add(number)
            yield number, None, {_SEEN: seen.as_json()}

    def values_of_all(self) -> IntensityMapping:
        """Take what was counted of values in regions that were not made here too; the mapping of the values."""
        for number in self._output.finished() - self._own:
            self._fitted.values_seen.merge(ValuesSeen.from_json(self._output.facts(number).get(_SEEN)))
        return self._image.mapping


_SEEN = "values seen"


def _request(
    identity: Sequence[Any], translator: Translator, cutting: Cutting, plan: Plan, file_format: str
) -> dict[str, Any]:
    """What decides the content of an output; the names are those that an error message uses."""
    spec = cutting.spec
    request = {
        "version of this program": version("napari-pix2pix"),
        "model": translator.model_digest,
        "input": list(identity),
        "settings": {**asdict(translator.settings), **asdict(translator.inference), "scratch": None},
        "device": [translator.device.type, str(translator.precision)],
        "format": [file_format, spec.axes, *spec.shape, spec.dtype.name, *plan.region, cutting.part_px, spec.masked],
    }
    as_stored: dict[str, Any] = json.loads(json.dumps(request, default=str))
    return as_stored
