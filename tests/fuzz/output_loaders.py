"""An unfinished output that is damaged before work on it goes on."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from hypothesis import strategies as st

from napari_pix2pix.formats import ImageMetadata, OutputSpec
from napari_pix2pix.formats.partial_output import open_partial
from napari_pix2pix.formats.tile_grid import Cutting
from pix2pix_training.cancel import Cancel
from pix2pix_training.regions import PlaneRegion, Region
from tests.fuzz.loading import HEADER, Loader
from tests.fuzz.mutation import as_json, byte_edits, edited, edited_document, node_edits

_OUTPUT = "o.tif"


def _part_of_output(folder: Path, *, is_first: bool) -> None:
    """Go on with an image of two regions, made of zeros; the first time only one of them is made."""
    spec = OutputSpec(axes="CYX", shape=(1, 16, 272), dtype=np.dtype(np.uint8), metadata=ImageMetadata())
    regions = [PlaneRegion((), Region(0, 16, 0, 256)), PlaneRegion((), Region(0, 16, 256, 272))]
    cutting = Cutting(spec=spec, regions=regions, part_px=256)
    cancel = Cancel()
    with open_partial(
        folder / _OUTPUT, cutting, file_format="tiff", request={"model": "m"}, plan={"tile": 8}, resume=True,
        cancel=cancel,
    ) as output:  # fmt: skip
        assert output is not None

        def compute(number: int) -> None:
            region = regions[number].region
            output.begin(number)
            output.add(region, np.zeros((1, region.height, region.width), np.uint8))
            output.record(number, {"values seen": None})

        for number in [0] if is_first else sorted({0, 1} - output.finished()):
            compute(number)
        if not is_first:
            for number in output.finished():
                output.facts(number)
            assert output.finish(compute, cancel)


@cache
def _begun_output() -> dict[str, bytes]:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        _part_of_output(Path(folder), is_first=True)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _state_damage() -> st.SearchStrategy[Any]:
    drawn: list[st.SearchStrategy[Any]] = []
    for name, content in _begun_output().items():
        if name.endswith(".json"):
            drawn.append(st.tuples(st.just(name), st.just("tree"), node_edits(json.loads(content))))
        if content:
            drawn.append(st.tuples(st.just(name), st.just("bytes"), byte_edits(len(content), HEADER)))
    return st.one_of(drawn)


def _resume_output(folder: Path, damage: Any) -> None:
    """An output that is completed is right, whatever was damaged of it before."""
    damaged, kind, edits = damage
    for name, content in _begun_output().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name == damaged:
            content = (
                edited(content, edits) if kind == "bytes" else as_json(edited_document(json.loads(content), edits))
            )
        (folder / name).write_bytes(content)
    _part_of_output(folder, is_first=False)
    assert not tifffile.imread(folder / _OUTPUT).any()
    assert [path.name for path in folder.iterdir()] == [_OUTPUT]


OUTPUT_LOADERS: dict[str, Loader] = {
    "output state": Loader(st.deferred(_state_damage), _resume_output),
}
