"""TIFF that fills in any order: what other readers find in it, and that each byte is written once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_pix2pix.formats import ome_tiff, tiff, tiff_writing
from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.partial_output import open_partial
from napari_pix2pix.formats.source import open_image
from napari_pix2pix.formats.tiff_writing import TiffCanvas
from napari_pix2pix.formats.tile_grid import Cutting
from napari_pix2pix.formats.tiled_tiff import Piece
from napari_pix2pix.formats.writing import OutputSpec, Tile, write_image
from pix2pix_training.array_source import ArraySource
from pix2pix_training.cancel import Cancel
from pix2pix_training.regions import PlaneRegion, Region

AnyArray = NDArray[Any]
Pixels = Callable[[ArraySource], AnyArray]
Noise = Callable[[tuple[int, ...], str], AnyArray]
Tiles = Callable[[AnyArray, int], Iterator[Tile]]

_PART_PX = 512
_NONSENSE: list[Any] = [None, 5, [], "abc", [1, 2], [1, [None], "a"], [-9, [9] * 8, "a"], [1, [9, -9] * 4, "a"], {}]


def _spec(array: AnyArray, **changes: Any) -> OutputSpec:
    axes = "QPTZ"[4 - (array.ndim - 3) :] + "CYX"
    return OutputSpec(
        **{"axes": axes, "shape": array.shape, "dtype": array.dtype, "metadata": ImageMetadata(), **changes}
    )


@pytest.mark.parametrize("file_format", ["tiff", "ome-tiff", "imagej", "ome-zarr"])
@pytest.mark.parametrize(
    "shape",
    [(1, 8, 1), (3, 8, 1), (1, 1, 9), (1, 1, 1), (5, 1, 1), (2, 1, 8, 1), (2, 3, 8, 1), (2, 3, 1, 8), (300, 7, 1)],
)
def test_images_one_pixel_wide_or_high(
    tmp_path: Path, noise: Noise, pixels_of: Pixels, tiles_of: Tiles, file_format: str, shape: tuple[int, ...]
) -> None:
    array = noise(shape, "uint8")
    path = write_image(tmp_path / "a", _spec(array), tiles_of(array, 5), file_format=file_format)
    with open_image(path) as source:
        np.testing.assert_array_equal(pixels_of(source), array)
    if file_format != "ome-zarr":
        np.testing.assert_array_equal(np.squeeze(tifffile.imread(path)), np.squeeze(array))


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int16", "uint32", "int64", "uint64", "float16", "float32", "float64"]
)
@pytest.mark.parametrize("shape", [(1, 700, 1300), (2, 3, 530, 600)])
def test_parts_in_any_order(tmp_path: Path, noise: Noise, dtype: str, shape: tuple[int, ...]) -> None:
    array = noise(shape, dtype)
    spec = _spec(array)
    tiff.begin(tmp_path / "a.tif", spec)
    with TiffCanvas(tmp_path / "a.tif", spec, tiff.level_sizes(spec), part_px=_PART_PX) as canvas:
        for plane, region, pixels in sorted(_parts(array), key=lambda part: -part[1].x0):
            canvas.write_part(plane, region, pixels)
        canvas.finish(tmp_path / "a")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), np.squeeze(array))


def _parts(array: AnyArray) -> Iterator[Tile]:
    height, width = array.shape[-2:]
    for plane in np.ndindex(array.shape[:-3]):
        for y in range(0, height, _PART_PX):
            for x in range(0, width, _PART_PX):
                region = Region(y, min(y + _PART_PX, height), x, min(x + _PART_PX, width))
                yield plane, region, array[(*plane, slice(None), *region.slices)]


@pytest.mark.parametrize("rgb", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "bool"])
def test_a_pyramid_is_the_same_from_parts_and_from_tiles(
    tmp_path: Path, noise: Noise, tiles_of: Tiles, monkeypatch: pytest.MonkeyPatch, dtype: str, rgb: bool
) -> None:
    monkeypatch.setattr(ome_tiff, "PYRAMID_FROM_PX", 300)
    array = noise((2, 3, 1100, 901), dtype)
    spec = _spec(array, metadata=ImageMetadata(rgb=rgb))
    write_image(tmp_path / "tiles.ome.tif", spec, tiles_of(array, 300), file_format="ome-tiff")
    ome_tiff.begin(tmp_path / "parts.ome.tif", spec)
    with TiffCanvas(tmp_path / "parts.ome.tif", spec, ome_tiff.level_sizes(spec), part_px=_PART_PX) as canvas:
        for part in _parts(array):
            canvas.write_part(*part)
        canvas.finish(tmp_path / "a")
    with tifffile.TiffFile(tmp_path / "tiles.ome.tif") as one, tifffile.TiffFile(tmp_path / "parts.ome.tif") as other:
        assert len(one.series[0].levels) == len(other.series[0].levels) == 4
        for level, same in zip(one.series[0].levels, other.series[0].levels, strict=True):
            np.testing.assert_array_equal(level.asarray(), same.asarray())


def test_parts_of_an_earlier_run_are_taken_in_if_they_are_intact(tmp_path: Path, noise: Noise) -> None:
    array = noise((2, 600, 1100), "uint8")
    spec, path = _spec(array), tmp_path / "a.tif"
    tiff.begin(path, spec)
    parts = list(_parts(array))
    with TiffCanvas(path, spec, tiff.level_sizes(spec), part_px=_PART_PX) as canvas:
        pieces = [canvas.write_part(*part) for part in parts[:4]]
        canvas.write_part(*parts[4])  # not noted
    content = bytearray(path.read_bytes())
    content[pieces[1].start + 7] ^= 1
    path.write_bytes(content)
    with TiffCanvas(path, spec, tiff.level_sizes(spec), part_px=_PART_PX) as canvas:
        found = [canvas.restore(plane, region, piece) for (plane, region, _), piece in zip(parts, pieces, strict=False)]
        assert found == [True, False, True, True]
        beyond = Piece(len(content) - 2, pieces[0].lengths, pieces[0].digest)
        assert not canvas.restore(*parts[0][:2], beyond)
        assert not canvas.restore(*parts[0][:2], Piece(pieces[0].start, (3,), pieces[0].digest))
        for nonsense in _NONSENSE:
            assert not canvas.restore(*parts[0][:2], nonsense)
        for part in (parts[1], *parts[4:]):
            canvas.write_part(*part)
        canvas.finish(tmp_path / "a")
    np.testing.assert_array_equal(tifffile.imread(path), array)


@pytest.mark.skipif(sys.platform != "linux", reason="counts bytes in /proc")
@pytest.mark.parametrize("file_format", ["tiff", "ome-tiff", "imagej"])
def test_each_byte_is_written_once(tmp_path: Path, noise: Noise, tiles_of: Tiles, file_format: str) -> None:
    array = noise((3, 1500, 1700), "uint8")
    before = _bytes_written()
    path = write_image(tmp_path / "a.tif", _spec(array), tiles_of(array, 500), file_format=file_format)
    assert _bytes_written() - before < 1.2 * path.stat().st_size
    assert path.stat().st_size >= array.nbytes


@pytest.mark.skipif(sys.platform != "linux", reason="counts bytes in /proc")
@pytest.mark.parametrize("file_format", ["tiff", "ome-tiff", "imagej"])
def test_each_byte_is_written_once_where_work_can_be_resumed(tmp_path: Path, noise: Noise, file_format: str) -> None:
    array = noise((2, 1500, 1700), "uint8")
    spec, path = _spec(array), tmp_path / "a.tif"
    regions = [PlaneRegion((), Region(0, 1024, 0, 1700)), PlaneRegion((), Region(1024, 1500, 0, 1700))]
    cutting = Cutting(spec=spec, regions=regions, part_px=1024)
    cancel, before = Cancel(), _bytes_written()
    with open_partial(path, cutting, file_format=file_format, request={}, plan={}, cancel=cancel) as output:
        assert output is not None
        for number, place in enumerate(regions):
            output.begin(number)
            output.add(place.region, array[(slice(None), *place.region.slices)])
            output.record(number, {})
        assert output.finish(lambda number: pytest.fail(f"{number} is not damaged"), cancel)
    assert _bytes_written() - before < 1.2 * path.stat().st_size
    np.testing.assert_array_equal(tifffile.imread(path), array)


def _bytes_written() -> int:
    """By this process, to files of any kind."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines())
    return int(fields["wchar"])


def test_many_pages_are_bigtiff_by_their_number_alone(
    tmp_path: Path, noise: Noise, tiles_of: Tiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = noise((3, 60, 70), "uint8")
    for limit, expected in ((200_000, False), (190_000, True)):
        monkeypatch.setattr(tiff_writing, "_BIGTIFF_FROM_BYTES", limit)
        path = write_image(tmp_path / f"{limit}.tif", _spec(array), tiles_of(array, 60), file_format="tiff")
        with tifffile.TiffFile(path) as tif:
            assert tif.is_bigtiff == expected
            np.testing.assert_array_equal(tif.asarray(), array)


def test_where_0_is_white_stays_said(tmp_path: Path, noise: Noise, tiles_of: Tiles, pixels_of: Pixels) -> None:
    pillow = pytest.importorskip("PIL.Image")
    for file_format in ("tiff", "ome-tiff", "imagej"):
        array = noise((1, 40, 50), "uint8")
        spec = _spec(array, metadata=ImageMetadata(white_is_zero=True))
        path = write_image(tmp_path / f"{file_format}.tif", spec, tiles_of(array, 20), file_format=file_format)
        with open_image(path) as source:
            assert source.metadata.white_is_zero
            np.testing.assert_array_equal(pixels_of(source), array)
        np.testing.assert_array_equal(tifffile.imread(path), array[0])
        if file_format == "imagej":
            np.testing.assert_array_equal(np.asarray(pillow.open(path)), 255 - array[0])
