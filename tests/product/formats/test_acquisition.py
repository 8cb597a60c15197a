"""What files say about their making: into the output, and back, and readable by others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_pix2pix.formats.georeference import web_mercator
from napari_pix2pix.formats.metadata import ImageMetadata, time_step
from napari_pix2pix.formats.source import open_image
from napari_pix2pix.formats.writing import OutputSpec, Tile, write_image

ome_types = pytest.importorskip("ome_types")

Tiles = Callable[[NDArray[Any], int], Iterator[Tile]]

_TAKEN = (
    ("date", "2026-11-22T10:30:00"),
    ("description", 'fixed, stained <µ> & "washed"'),
    ("make", "Some Maker"),
    ("model", "Scope 3"),
    ("objective", "NominalMagnification 20, LensNA 0.8"),
)
_METADATA = ImageMetadata(
    acquisition=_TAKEN, time_step_s=2.5, orientation=6, georeference=web_mercator(pixel_size_m=1, left_m=0, top_m=0)
)


def _written(path: Path, tiles_of: Tiles, file_format: str) -> Path:
    array = np.arange(3 * 40 * 50, dtype=np.uint8).reshape(3, 40, 50)
    spec = OutputSpec(axes="CYX", shape=array.shape, dtype=array.dtype, metadata=_METADATA)
    return write_image(path, spec, tiles_of(array, 32), file_format=file_format)


@pytest.mark.parametrize("file_format", ["tiff", "ome-tiff", "imagej", "geotiff", "png"])
def test_round_trip(tmp_path: Path, tiles_of: Tiles, file_format: str) -> None:
    with open_image(_written(tmp_path / "a", tiles_of, file_format)) as source:
        assert source.metadata.acquisition == _TAKEN
        assert source.metadata.time_step_s == 2.5
        assert source.metadata.orientation == (1 if file_format == "png" else 6)  # a PNG is turned as it is read


def test_other_programs_find_it_in_ome(tmp_path: Path, tiles_of: Tiles) -> None:
    image = ome_types.from_tiff(_written(tmp_path / "a.ome.tif", tiles_of, "ome-tiff"), validate=True).images[0]
    assert (image.acquisition_date.isoformat(), image.description) == (_TAKEN[0][1], _TAKEN[1][1])
    assert (image.pixels.time_increment, image.pixels.time_increment_unit.value) == (2.5, "s")


@pytest.mark.parametrize("file_format", ["tiff", "geotiff"])
def test_other_programs_find_it_in_tiff(tmp_path: Path, tiles_of: Tiles, file_format: str) -> None:
    with tifffile.TiffFile(_written(tmp_path / "a.tif", tiles_of, file_format)) as tif:
        tags = {code: tif.pages.first.tags[code].value for code in (271, 272, 274, 306)}
    assert tags == {271: "Some Maker", 272: "Scope 3", 274: 6, 306: "2026:11:22 10:30:00"}


def test_other_programs_find_it_in_imagej(tmp_path: Path, tiles_of: Tiles) -> None:
    with tifffile.TiffFile(_written(tmp_path / "a.tif", tiles_of, "imagej")) as tif:
        fields = tif.imagej_metadata or {}
    assert (fields["finterval"], fields["tunit"]) == (2.5, "sec")
    assert "make = Some Maker" in fields["Info"]


def test_files_of_others(tmp_path: Path) -> None:
    array = np.zeros((2, 8, 9), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array[0], description="by hand", datetime="2020:01:02 03:04:05", metadata=None)
    tifffile.imwrite(
        tmp_path / "b.tif", array, imagej=True, metadata={"axes": "TYX", "finterval": 0.5, "Info": "dish 4"}
    )
    times = {"axes": "TYX", "AcquisitionDate": "2020-01-02T03:04:05", "TimeIncrement": 200, "TimeIncrementUnit": "ms"}
    tifffile.imwrite(tmp_path / "c.ome.tif", array, metadata=times)
    found = {}
    for path in sorted(tmp_path.iterdir()):
        with open_image(path) as source:
            found[path.name] = source.metadata.acquisition, source.metadata.time_step_s
    date = ("date", "2020-01-02T03:04:05")
    assert found == {
        "a.tif": ((date, ("description", "by hand")), None),
        "b.tif": ((("info", "dish 4"),), 0.5),
        "c.ome.tif": ((date,), 0.2),
    }


@pytest.mark.parametrize("value", ["0", "-1", "fast", None])
def test_time_steps_that_are_none(value: str | None) -> None:
    assert time_step(value, "s") is None
    assert time_step("3", "fortnight") is None


@pytest.mark.parametrize("name", ['a "quoted" & <tagged> name', "µ → 漢 'x' ]]>", "&amp;", "tab\tnew\nline"])
def test_texts_with_markup_are_escaped_in_ome(tmp_path: Path, tiles_of: Tiles, name: str) -> None:
    """tifffile before 2026.2.24 wrote names of channels as they are, which is no XML."""
    array = np.zeros((2, 20, 30), np.uint8)
    metadata = ImageMetadata(channel_names=(name, "GFP"), acquisition=(("description", name), ("model", name)))
    spec = OutputSpec(axes="CYX", shape=array.shape, dtype=array.dtype, metadata=metadata)
    path = write_image(tmp_path / "a.ome.tif", spec, tiles_of(array, 32), file_format="ome-tiff")
    image = ome_types.from_tiff(path, validate=True).images[0]
    assert [channel.name.split() for channel in image.pixels.channels] == [name.split(), ["GFP"]]
    with open_image(path) as source:
        assert source.metadata.channel_names == (name, "GFP")
