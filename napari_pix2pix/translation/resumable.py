"""Ways through the list of an image's regions: alone, going on with what is there, or as one of several processes."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from hashlib import blake2b
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_pix2pix.formats.ome_zarr_layout import unit_side
from napari_pix2pix.formats.output_state import WHOLE, Part
from napari_pix2pix.formats.partial_output import Cutting, PartialOutput, open_partial
from napari_pix2pix.formats.source import ImageSource, damage_reported
from napari_pix2pix.formats.writing import OutputSpec
from napari_pix2pix.translation.fitted_image import FittedImage, warn_of_values
from napari_pix2pix.translation.plan import Plan
from napari_pix2pix.translation.prefetch import computed_ahead
from napari_pix2pix.translation.progress import RegionDone, TilesDone
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translated_image import TranslatedImage
from napari_pix2pix.translation.translator import Translator
from napari_pix2pix.translation.values_seen import ValuesSeen
from pix2pix_training.array_source import AnyArray, ArraySource, channel_count, plane_indices, plane_size
from pix2pix_training.cancel import Cancel
from pix2pix_training.intensity import Mapping as IntensityMapping
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
    resume, overwrite : see `open_partial`.
    """
    regions = TranslatedImage(translator, fitted, plan).regions
    cutting = Cutting(spec=spec, regions=regions, part_px=unit_side(spec, plan.region))
    with open_partial(
        path,
        cutting,
        file_format=file_format,
        request=_request(identity, translator, cutting, plan, file_format),
        plan=asdict(plan),
        part=part,
        resume=resume,
        overwrite=overwrite,
        cancel=translator.cancel,
    ) as output:
        plan = Plan.from_json(output.plan)
        work = _Work(translator, fitted, output, plan, masked=spec.masked, scratch=path.parent)
        mine = part.of(len(regions))
        pixels = {number: regions[number].region.pixels for number in mine}
        total = sum(pixels.values())
        tiles = max(1, round(plan.tiles * total * spec.channels / prod(spec.shape[-3:])))
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

_NOT_OF_VALUES = ("device", "max_memory", "scratch", "engines")
"""Settings that say where an image is translated, not what becomes of it."""


def made_by(source: ArraySource, translator: Translator) -> tuple[tuple[str, str], ...]:
    """What an output says of its making, see `ImageMetadata.made_by`: settings that differ from their defaults."""
    asked, usual = asdict(translator.settings), asdict(TranslationSettings())
    changed = {name: value for name, value in asked.items() if name not in _NOT_OF_VALUES and value != usual[name]}
    names = " + ".join(Path(name).name for name in source.name.split(" + "))
    texts = {
        "program": f"napari-pix2pix {version('napari-pix2pix')}",
        "model": translator.model_digest,
        "source": names.encode(errors="replace").decode(),
        **changed,
        **asdict(translator.inference),
    }
    return tuple((name, str(value)) for name, value in texts.items())


def made_otherwise(path: Path, found: Iterable[tuple[str, str]], wanted: Iterable[tuple[str, str]]) -> str:
    """What to say of a complete output that is left as it is: whether it is what would be made now."""
    theirs, ours = dict(found), dict(wanted)
    if not theirs:
        return f"{path} is complete already, nothing to do; it does not say which model and settings made it"
    names = [name for name in {**theirs, **ours} if name != "program" and theirs.get(name) != ours.get(name)]
    if not names:
        return f"{path} is complete already, nothing to do"
    differences = (f"{name} {theirs.get(name, 'as usual')} instead of {ours.get(name, 'as usual')}" for name in names)
    return (
        f"{path} is complete already and is left as it is, though it was made with {', '.join(differences)}; give "
        "another name, or --overwrite without --resume"
    )


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
        "backend": [translator.ran_with(plan)[0].name, translator.device.type, str(translator.precision)],
        "format": [file_format, spec.axes, *spec.shape, spec.dtype.name, *plan.region, cutting.part_px, spec.masked],
    }
    as_stored: dict[str, Any] = json.loads(json.dumps(request, default=str))
    return as_stored


_WHOLE_BYTES = 64 << 20
"""Up to here all of a file counts, and when it was changed does not; of larger ones samples, and when."""


_SAMPLES = 64


_SAMPLE_BYTES = 1 << 20


_STRIP_BYTES = 1 << 25


def image_identity(source: ImageSource) -> list[Any]:
    """Of an open image, ready for JSON: of all files that hold it, and which image in them it is."""
    identity: list[Any] = []
    for path in source.files:
        with damage_reported(path):
            identity.append(file_identity(path))
    return [*identity, *([source.series] if source.series else [])]


def content_identity(source: ArraySource, cancel: Cancel) -> list[Any]:
    """What tells the content of an image from others, ready for JSON: every pixel counts, its name does not.

    All of it is read, a strip at a time; raises `Interrupted` where `cancel` is set.
    """
    content = blake2b(digest_size=16)
    height, width = plane_size(source)
    rows = max(1, _STRIP_BYTES // max(1, channel_count(source) * width * source.dtype.itemsize))
    for plane in plane_indices(source):
        for strip in Region.whole(height, width).strips(rows):
            cancel.check()
            pixels, opacity = source.read_with_opacity(strip, plane)
            content.update(np.ascontiguousarray(pixels).data)
            content.update(b"" if opacity is None else np.ascontiguousarray(opacity).data)
    return [list(source.shape), source.dtype.name, source.nodata, content.hexdigest()]


def file_identity(path: Path) -> list[Any]:
    """Of a file, or of a folder that holds an image, ready for JSON: name, size and content.

    Of more than 64 MB, samples of the content and the times of change.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    stats = [file.stat() for file in files]
    total = sum(stat.st_size for stat in stats)
    digest = blake2b(digest_size=16)
    for file, stat in zip(files, stats, strict=True):
        digest.update(f"{file.relative_to(path).as_posix()} {stat.st_size}\n".encode())
        if total > _WHOLE_BYTES:
            digest.update(f"{stat.st_mtime_ns}\n".encode())
    for file, start, length in _pieces(files, [stat.st_size for stat in stats]):
        with file.open("rb") as opened:
            opened.seek(start)
            digest.update(opened.read(length))
    return [path.name, total, digest.hexdigest()]


def _pieces(files: Sequence[Path], sizes: Sequence[int]) -> list[tuple[Path, int, int]]:
    """Parts of files to be read, each with its start and length: evenly spread over all of them, with both ends."""
    total = sum(sizes)
    if total <= _WHOLE_BYTES:
        return [(file, 0, size) for file, size in zip(files, sizes, strict=True)]
    starts = [number * (total - _SAMPLE_BYTES) // (_SAMPLES - 1) for number in range(_SAMPLES)]
    pieces, before = [], 0
    for file, size in zip(files, sizes, strict=True):
        pieces += [(file, start - before, _SAMPLE_BYTES) for start in starts if before <= start < before + size]
        before += size
    return pieces
