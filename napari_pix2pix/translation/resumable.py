"""Translating an image unit by unit, so that a later run, or another process, can go on with it."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from hashlib import blake2b
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

from napari_pix2pix.formats.ome_zarr_layout import Layout, Unit, layout_of
from napari_pix2pix.formats.partial_output import WHOLE, PartialOutput, Shard, open_partial
from napari_pix2pix.formats.unit_grid import UnitGrid
from napari_pix2pix.formats.writing import OutputSpec
from napari_pix2pix.translation.pipeline import Progress, Translator
from napari_pix2pix.translation.plan import Plan, Split
from napari_pix2pix.translation.prefetch import computed_ahead
from pix2pix_training.array_source import ArraySource, Region
from pix2pix_training.errors import ImageError, Pix2PixError


@dataclass(frozen=True, kw_only=True)
class UnitsDone:
    """What a run did: the plan that it followed, how much was its part, and whether the output is complete now."""

    plan: Plan
    pixels: int
    tiles: int
    tiles_reused: int
    complete: bool


def all_made(making: Generator[tuple[int, int], None, UnitsDone], progress: Progress | None) -> UnitsDone:
    """Run `units_made` to its end, which completes the output if its units were the last."""
    while True:
        try:
            done, total = next(making)
        except StopIteration as end:
            result: UnitsDone = end.value
            return result
        except ImageError as error:
            raise Pix2PixError(str(error)) from error  # midway: the output is begun
        if progress is not None:
            progress(done, total)


def units_made(
    source: ArraySource,
    identity: Sequence[Any],
    translator: Translator,
    path: Path,
    spec: OutputSpec,
    *,
    file_format: str,
    plan: Plan,
    shard: Shard = WHOLE,
    resume: bool = False,
    overwrite: bool = False,
) -> Generator[tuple[int, int], None, UnitsDone]:
    """Make the units of this process one by one, and complete the output if they were the last.

    Closed before its end, it leaves an unfinished output that can be resumed.

    Parameters
    ----------
    identity : what tells the image from others, ready for JSON; see `file_identity`.
    plan : for an output that is begun now; one that is resumed keeps the plan that it was begun with.
    resume, overwrite : see `open_partial`.

    Yields
    ------
    tuple of int
        After each tile the number of tiles that are done, and of all.
    """
    layout = layout_of(spec)
    with open_partial(
        path,
        layout,
        file_format=file_format,
        request=_request(identity, translator, layout, file_format, shard, translator.backend(plan).name),
        plan=asdict(plan),
        shard=shard,
        resume=resume,
        overwrite=overwrite,
    ) as output:
        plan = _plan_from_json(output.plan)
        missing = frozenset(output.mine) - output.finished
        pixels = sum(map(layout.pixels, output.mine))
        share = pixels * spec.channels / prod(spec.shape)
        tiles = round(plan.tiles * prod(spec.leading_shape) * share)
        computed = 0
        for new_pixels in _make(source, translator, plan, layout, output, missing, path.parent):
            computed += 1
            yield tiles * (pixels - sum(map(layout.pixels, missing)) + new_pixels) // pixels, tiles
        return UnitsDone(
            plan=plan,
            pixels=pixels,
            tiles=tiles,
            tiles_reused=max(0, tiles - computed) if output.finished else 0,
            complete=output.finish(),
        )


def _make(
    source: ArraySource,
    translator: Translator,
    plan: Plan,
    layout: Layout,
    output: PartialOutput,
    missing: Collection[Unit],
    scratch: Path,
) -> Iterator[int]:
    """After each tile, the number of pixels of missing units that have been made so far.

    The next tile is computed while one is stored.
    """

    def wanted(plane: tuple[int, ...], region: Region) -> bool:
        return any(unit in missing for unit in layout.units_in(plane, region))

    grid = UnitGrid(layout, missing)
    with (
        closing(
            translator.tiles(source, plan=plan, wanted=wanted, masked=layout.spec.masked, scratch=scratch)
        ) as tiles,
        closing(computed_ahead(tiles, translator.cancel)) as ahead,
    ):
        for tile in ahead:
            for unit, pixels in grid.add(tile):
                output.put(unit, pixels)
            yield grid.pixels


def _request(
    identity: Sequence[Any], translator: Translator, layout: Layout, file_format: str, shard: Shard, backend: str
) -> dict[str, Any]:
    """What decides the content of an output; the names are those that an error message uses."""
    spec = layout.spec
    return {
        "version of this program": version("napari-pix2pix"),
        "model": translator.model_digest,
        "input": list(identity),
        "settings": {**asdict(translator.settings), **asdict(translator.inference), "scratch": None},
        "backend": [backend, translator.device.type, str(translator.precision)],
        "format": [file_format, spec.axes, *spec.shape, spec.dtype.name, layout.unit_px, spec.masked],
        "number of shards": shard.count,
    }


def file_identity(path: Path) -> list[Any]:
    """Name, size and time of change: cheap for a file of any size, and changed by whatever rewrites it."""
    if path.is_file():
        stat = path.stat()
        return [path.name, stat.st_size, stat.st_mtime_ns]
    content = blake2b(digest_size=16)
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        stat = file.stat()
        content.update(f"{file.relative_to(path).as_posix()} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return [path.name, content.hexdigest()]


def _plan_from_json(stored: Mapping[str, Any]) -> Plan:
    fields = dict(stored)
    fields["splits"] = tuple(Split(**split) for split in stored["splits"])
    fields["padded_size"] = tuple(stored["padded_size"])
    return Plan(**fields)
