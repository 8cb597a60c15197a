"""Map tiles as one raster, and a raster as map tiles."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import from_origin

from napari_pix2pix.formats.georeference import GDAL_NODATA, georeference_tags, web_mercator
from napari_pix2pix.formats.map_tiles import is_tile_pyramid
from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.source import ImageSource, open_image
from napari_pix2pix.formats.writing import OutputSpec, Tile, check_output, write_image
from pix2pix_training.array_source import ArraySource
from pix2pix_training.errors import ImageError, OutputError, Pix2PixError
from pix2pix_training.regions import Region

AnyArray = NDArray[Any]
Pixels = Callable[[ArraySource], AnyArray]
Noise = Callable[[tuple[int, ...], str], AnyArray]
Tiles = Callable[[AnyArray, int], Iterator[Tile]]

_SIZE = 16
_PLACE = web_mercator(pixel_size_m=2, left_m=1000, top_m=5000)


def _save_pyramid(folder: Path, raster: AnyArray, *, zoom: int, row: int, column: int, suffix: str = ".png") -> None:
    """Tiles of the deepest zoom, and black ones for all zooms above."""
    for y in range(0, raster.shape[0], _SIZE):
        for x in range(0, raster.shape[1], _SIZE):
            place = (zoom, row + y // _SIZE, column + x // _SIZE)
            pixels = raster[y : y + _SIZE, x : x + _SIZE]
            while place[0] >= zoom - 2:
                path = folder / str(place[0]) / str(place[2]) / f"{place[1]}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():
                    Image.fromarray(pixels).save(path)
                place, pixels = (place[0] - 1, place[1] // 2, place[2] // 2), np.zeros_like(pixels)


def _save_geotiffs(folder: Path, raster: AnyArray, nodata: float | None = None) -> None:
    """Tiles of different sizes, shape (Y, X), that cover the raster; named so that the last comes first."""
    folder.mkdir(exist_ok=True)
    rows, columns = (0, 20, 50, raster.shape[0]), (0, 33, raster.shape[1])
    for y0, y1 in itertools.pairwise(rows):
        for x0, x1 in itertools.pairwise(columns):
            tags = [(*tag, False) for tag in georeference_tags(_PLACE.moved(y0, x0))]
            if nodata is not None:
                tags.append((GDAL_NODATA, "s", 0, str(nodata), False))
            tifffile.imwrite(folder / f"{99 - y0}-{x0}.tif", raster[y0:y1, x0:x1], extratags=tags)


def _spec(source: ImageSource, **changes: Any) -> OutputSpec:
    usual: dict[str, Any] = {"dtype": source.dtype, "metadata": source.metadata, "nodata": source.nodata}
    return OutputSpec(axes="CYX", shape=source.shape, **(usual | changes))


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("channels", [1, 3])
def test_pyramid_is_one_raster(tmp_path: Path, noise: Noise, pixels_of: Pixels, channels: int) -> None:
    raster = noise((48, 32, channels), "uint8")
    _save_pyramid(tmp_path, raster[..., 0] if channels == 1 else raster, zoom=5, row=6, column=9)
    with open_image(tmp_path) as source:
        assert (source.shape, source.dtype.name, source.nodata) == ((channels, 48, 32), "uint8", None)
        np.testing.assert_array_equal(pixels_of(source), np.moveaxis(raster, -1, 0))
        np.testing.assert_array_equal(source.read(Region(13, 35, 7, 8)), np.moveaxis(raster, -1, 0)[:, 13:35, 7:8])
        place = source.metadata.georeference
    assert place is not None
    assert place.transform is not None
    pixel = 2 * 20_037_508.342789244 / (_SIZE * 2**5)
    expected = (pixel, 0, -20_037_508.342789244 + 9 * 16 * pixel, 0, -pixel, 20_037_508.342789244 - 6 * 16 * pixel)
    np.testing.assert_allclose(place.transform, expected)
    assert place.crs_name == "EPSG:3857"


def test_missing_tiles_are_invalid(
    tmp_path: Path, noise: Noise, pixels_of: Pixels, caplog: pytest.LogCaptureFixture
) -> None:
    raster = noise((48, 32), "uint16")
    _save_pyramid(tmp_path, raster, zoom=5, row=6, column=9)
    for name in ("9/7.png", "10/6.png", "10/7.png", "10/8.png"):
        (tmp_path / "5" / name).unlink()
    raster[16:32, :16] = 0
    with caplog.at_level(logging.WARNING), open_image(tmp_path) as source:
        assert (source.shape, source.dtype.name, source.masked) == ((1, 48, 16), "uint16", True)
        pixels, opacity = source.read_with_opacity(Region(0, 48, 0, 16))
    assert opacity is not None
    assert (opacity[16:32] == 0).all()
    assert (np.delete(opacity, np.s_[16:32], 0) == 255).all()
    np.testing.assert_array_equal(pixels[0], raster[:, :16])
    assert "2 tiles have none of the deepest zoom below them" in caplog.text


def test_rows_from_the_south(tmp_path: Path, noise: Noise, pixels_of: Pixels, tiles_of: Tiles) -> None:
    raster = noise((48, 32), "uint8")
    _save_pyramid(tmp_path / "north", raster, zoom=5, row=6, column=8)
    for file in _files(tmp_path / "north"):
        zoom, column, row = file.removesuffix(".png").split("/")
        flipped = tmp_path / "south" / zoom / column / f"{2 ** int(zoom) - 1 - int(row)}.png"
        flipped.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "north" / file).rename(flipped)
    (tmp_path / "south" / "tilemapresource.xml").write_text("<TileMap/>", encoding="utf-8")
    with open_image(tmp_path / "south") as source:
        np.testing.assert_array_equal(pixels_of(source)[0], raster)
        assert source.metadata.tiles is not None
        assert source.metadata.tiles.parents[0][1][:2] == ("5/8/25.png", "5/9/25.png")
        write_image(tmp_path / "out", _spec(source), tiles_of(raster[None], 16), file_format="tiles")
    assert _files(tmp_path / "out") == _files(tmp_path / "south")
    with open_image(tmp_path / "out") as source:
        np.testing.assert_array_equal(pixels_of(source)[0], raster)


@pytest.mark.parametrize("tile_px", [10, 16, 64])
def test_pyramid_out_is_like_the_one_in(tmp_path: Path, noise: Noise, tiles_of: Tiles, tile_px: int) -> None:
    raster = noise((48, 64), "uint8")
    _save_pyramid(tmp_path / "in", raster, zoom=5, row=6, column=8)
    with open_image(tmp_path / "in") as source:
        out = write_image(tmp_path / "out", _spec(source), tiles_of(255 - raster[None], tile_px), file_format="tiles")
    assert _files(out) == _files(tmp_path / "in")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    with open_image(out) as written:
        np.testing.assert_array_equal(written.read(Region(0, 48, 0, 64))[0], 255 - raster)
    blocks = (255 - raster[:32, 32:]).reshape(16, 2, 16, 2).mean((1, 3))
    np.testing.assert_array_equal(np.asarray(Image.open(out / "4" / "5" / "3.png")), np.rint(blocks))
    assert np.asarray(Image.open(out / "3" / "2" / "1.png"))[8:, :8].std() > 0


@pytest.mark.parametrize("nodata", [None, 7])
def test_georeferenced_tiles(
    tmp_path: Path, noise: Noise, pixels_of: Pixels, tiles_of: Tiles, nodata: float | None
) -> None:
    raster = noise((90, 70), "int16")
    _save_geotiffs(tmp_path / "in", raster, nodata)
    with open_image(tmp_path / "in") as source:
        assert (source.shape, source.nodata) == ((1, 90, 70), nodata)
        np.testing.assert_array_equal(pixels_of(source)[0], raster)
        assert source.metadata.georeference == _PLACE
        out = write_image(tmp_path / "out", _spec(source), tiles_of(raster[None] // 2, 40), file_format="tiles")
    assert _files(out) == _files(tmp_path / "in")
    with open_image(out) as written, open_image(out / "79-33.tif") as tile:
        np.testing.assert_array_equal(pixels_of(written)[0], raster // 2)
        assert (tile.metadata.georeference, tile.nodata) == (_PLACE.moved(20, 33), nodata)
    (tmp_path / "in" / "99-0.tif").unlink()
    with open_image(tmp_path / "in") as source:
        corner, opacity = source.read_with_opacity(Region(0, 20, 0, 33))
        assert opacity is not None
        assert not opacity.any()
        assert (corner == (nodata or 0)).all()


def test_first_of_overlapping_tiles_is_seen_where_it_is_valid(tmp_path: Path, pixels_of: Pixels) -> None:
    for name, column, value in (("a.tif", 0, 1), ("b.tif", 5, 2)):
        tags = [(*tag, False) for tag in georeference_tags(_PLACE.moved(0, column))]
        pixels = np.full((4, 10), value, np.uint8)
        pixels[0] = 0
        pixels[0, :6] = 9 * value
        tifffile.imwrite(tmp_path / name, pixels, extratags=[*tags, (GDAL_NODATA, "s", 0, "0", False)])
    with open_image(tmp_path) as source:
        pixels = pixels_of(source)[0]
    np.testing.assert_array_equal(pixels[1], [1] * 10 + [2] * 5)
    np.testing.assert_array_equal(pixels[0], [9] * 6 + [18] * 5 + [0] * 4)


def test_a_mosaic_can_become_one_geotiff(tmp_path: Path, noise: Noise, tiles_of: Tiles, pixels_of: Pixels) -> None:
    raster = noise((48, 32), "uint8")
    _save_pyramid(tmp_path / "in", raster, zoom=5, row=6, column=9)
    with open_image(tmp_path / "in") as source:
        write_image(tmp_path / "a.tif", _spec(source), tiles_of(raster[None], 32), file_format="geotiff")
        with open_image(tmp_path / "a.tif") as written:
            np.testing.assert_array_equal(pixels_of(written)[0], raster)
            assert written.metadata.georeference == source.metadata.georeference


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transform": (3.0, 0.0, 1000.0, 0.0, -3.0, 5000.0)}, "does not lie on the pixel grid"),
        ({"transform": (2.0, 0.0, 1001.0, 0.0, -2.0, 5000.0)}, "does not lie on the pixel grid"),
        ({"crs": "EPSG:32633"}, "differ in coordinate system"),
    ],
)
def test_tiles_that_do_not_fit(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    for name, place in (("a.tif", _PLACE), ("b.tif", replace(_PLACE, **change))):
        tags = [(*tag, False) for tag in georeference_tags(place)]
        tifffile.imwrite(tmp_path / name, np.zeros((40, 40), np.uint8), extratags=tags)
    with pytest.raises(ImageError, match=message):
        open_image(tmp_path)


def _geotiff(path: Path, bands: AnyArray, row: float = 0, column: float = 0, **options: Any) -> None:
    """A tile whose first pixel lies at a row and column of the place that the tests have in common."""
    profile = {
        "driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2],
        "dtype": bands.dtype.name, "crs": "EPSG:3857",
        "transform": from_origin(1000 + 2 * column, 5000 - 2 * row, 2, 2),
    }  # fmt: skip
    path.parent.mkdir(exist_ok=True)
    with rasterio.open(path, "w", **(profile | options)) as dataset:
        dataset.write(bands)


def _read(source: ImageSource) -> tuple[AnyArray, AnyArray]:
    pixels, opacity = source.read_with_opacity(Region(0, source.shape[1], 0, source.shape[2]))
    return pixels, np.full(source.shape[1:], 255) if opacity is None else opacity


def test_gaps_beside_overlapping_tiles_hold_no_data(tmp_path: Path, noise: Noise) -> None:
    """As much overlaps as is missing, so that the areas add up to the rectangle."""
    tiles = noise((4, 1, 100, 100), "uint8")
    for number, (row, column) in enumerate([(0, 0), (0, 50), (50, 0), (0, 100)]):
        _geotiff(tmp_path / f"{number}.tif", tiles[number], row, column)
    with open_image(tmp_path) as source:
        pixels, opacity = _read(source)
    assert pixels.shape == (1, 150, 200)
    covered = np.ones((150, 200), bool)
    covered[100:, 100:] = False
    np.testing.assert_array_equal(opacity > 0, covered)
    np.testing.assert_array_equal(pixels[0, :100, :100], tiles[0, 0])
    np.testing.assert_array_equal(pixels[0, 100:, :100], tiles[2, 0, 50:])


@pytest.mark.parametrize(("row", "column"), [(0.5, 0), (0, 40.5), (0.1, 40)])
def test_tiles_between_the_pixels_of_others_are_refused(
    tmp_path: Path, noise: Noise, row: float, column: float
) -> None:
    _geotiff(tmp_path / "a.tif", noise((1, 40, 40), "uint8"))
    _geotiff(tmp_path / "b.tif", noise((1, 40, 40), "uint8"), row, column)
    with pytest.raises(ImageError, match=r"b\.tif does not lie on the pixel grid of .*a\.tif .*resample the tiles"):
        open_image(tmp_path)


def test_tiles_with_alpha_and_masks_make_one_mask(tmp_path: Path, noise: Noise, tiles_of: Tiles) -> None:
    folder, colours = tmp_path / "in", noise((3, 40, 80), "uint8")
    alpha = np.full((1, 40, 40), 255, np.uint8)
    alpha[:, :7] = 0
    _geotiff(folder / "a.tif", np.concatenate([colours[..., :40], alpha]), photometric="RGB", ALPHA="YES")
    _geotiff(folder / "b.tif", colours[..., 40:], 0, 40, photometric="RGB")
    with open_image(folder) as source:
        assert source.shape == (3, 40, 80)
        _, opacity = _read(source)
        spec = _spec(source, masked=True, nodata=None)
    expected = np.full((40, 80), 255)
    expected[:7, :40] = 0
    np.testing.assert_array_equal(opacity, expected)
    samples = np.concatenate([colours, opacity[None]])
    write_image(tmp_path / "out", spec, tiles_of(samples, 32), file_format="tiles")
    with open_image(tmp_path / "out") as written:
        np.testing.assert_array_equal(_read(written)[1], expected)


def test_alpha_of_tiles_is_what_is_asked_for(tmp_path: Path, noise: Noise) -> None:
    bands = noise((4, 40, 40), "uint8")
    bands[3] = 255
    bands[3, :7] = 0
    for column in (0, 40):
        _geotiff(tmp_path / f"{column}.tif", bands, 0, column, photometric="RGB", ALPHA="YES")
    for choice, channels, masked in (("keep", 4, False), ("mask", 3, True), ("drop", 3, False), ("auto", 3, True)):
        with open_image(tmp_path, alpha=choice) as source:  # type: ignore[arg-type]
            assert (source.shape[0], source.masked) == (channels, masked)
            assert _read(source)[0].shape == (channels, 40, 80)


def test_a_nodata_value_of_each_tile(tmp_path: Path, noise: Noise) -> None:
    tiles = noise((2, 1, 40, 40), "int16")
    tiles[0, 0, :5], tiles[1, 0, -5:] = -1, -2
    for number in (0, 1):
        _geotiff(tmp_path / f"{number}.tif", tiles[number], 0, 40 * number, nodata=-1 - number)
    with open_image(tmp_path) as source:
        _, opacity = _read(source)
        expected = np.concatenate([tiles[0, 0] != -1, tiles[1, 0] != -2], 1)
        assert source.masked
        np.testing.assert_array_equal(opacity > 0, expected)


@pytest.mark.parametrize("nodata", [(-1, None), (None, -1), (-1, -2)])
def test_the_nodata_value_of_a_tile_is_data_in_another(
    tmp_path: Path, noise: Noise, nodata: tuple[int | None, int | None]
) -> None:
    tiles = noise((2, 1, 40, 40), "int16")
    tiles[:, 0, :5], tiles[:, 0, -5:] = -1, -2
    for number in (0, 1):
        _geotiff(tmp_path / f"{number}.tif", tiles[number], 0, 40 * number, nodata=nodata[number])
    with open_image(tmp_path) as source:
        pixels, opacity = _read(source)
        assert (source.nodata, source.masked) == (None, True)
    expected = np.concatenate([tiles[number, 0] != nodata[number] for number in (0, 1)], 1)
    np.testing.assert_array_equal(opacity > 0, expected)
    np.testing.assert_array_equal(pixels[0][expected], np.concatenate(tiles[:, 0], 1)[expected])


def test_tiles_too_far_apart_for_one_image_are_refused(tmp_path: Path, noise: Noise) -> None:
    for column in (0, 2**32):
        _geotiff(tmp_path / f"{column}.tif", noise((1, 40, 40), "uint8"), 0, column)
    with pytest.raises(ImageError, match="so far apart that they span 40 x 4294967336 pixels; check where each lies"):
        open_image(tmp_path)


def test_pngs_with_world_files_are_tiles_too(tmp_path: Path, noise: Noise, pixels_of: Pixels) -> None:
    raster = noise((40, 80), "uint8")
    for column in (0, 40):
        Image.fromarray(raster[:, column : column + 40]).save(tmp_path / f"{column}.png")
        (tmp_path / f"{column}.pgw").write_text(f"2\n0\n0\n-2\n{1001 + 2 * column}\n4999\n")
    with open_image(tmp_path) as source:
        np.testing.assert_array_equal(pixels_of(source)[0], raster)


def test_tiles_in_degrees(tmp_path: Path, noise: Noise) -> None:
    path = tmp_path / "2" / "4" / "3.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(noise((16, 16), "uint8")).save(path)
    (tmp_path / "tilemapresource.xml").write_text(
        '<TileMap><SRS>EPSG:4326</SRS><TileSets profile="geodetic"/></TileMap>'
    )
    with open_image(tmp_path) as source:
        place = source.metadata.georeference
    assert place is not None
    assert (place.crs, place.transform) == ("EPSG:4326", (45 / 16, 0, 0, 0, -45 / 16, 90))


def test_names_of_no_tile_are_refused(tmp_path: Path, noise: Noise) -> None:
    path = tmp_path / "3" / "9" / "1.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(noise((16, 16), "uint8")).save(path)
    with pytest.raises(ImageError, match="zoom 3 has no such row and column"):
        open_image(tmp_path)
    (tmp_path / "3").rename(tmp_path / "99")
    with pytest.raises(ImageError, match="is no zoom of map tiles"):
        open_image(tmp_path)


def test_folders_that_are_no_tiles(tmp_path: Path, noise: Noise) -> None:
    with pytest.raises(ImageError, match="is a folder, not an image file, and holds no map tiles"):
        open_image(tmp_path)
    Image.fromarray(noise((8, 9), "uint8")).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="no georeferenced tile"):
        open_image(tmp_path)
    assert not is_tile_pyramid(tmp_path)


def test_unequal_tiles_are_refused_when_read(tmp_path: Path, noise: Noise, pixels_of: Pixels) -> None:
    _save_pyramid(tmp_path, noise((32, 32), "uint8"), zoom=5, row=6, column=8)
    Image.fromarray(noise((8, 8), "uint8")).save(tmp_path / "5" / "9" / "7.png")
    with open_image(tmp_path) as source, pytest.raises(ImageError, match="all tiles must be alike"):
        pixels_of(source)


def test_outputs_that_tiles_cannot_hold(tmp_path: Path, noise: Noise) -> None:
    _save_pyramid(tmp_path / "in", noise((32, 32), "uint8"), zoom=5, row=6, column=8)
    with open_image(tmp_path / "in") as source:
        reals = _spec(source, dtype=np.dtype("float32"))
    with pytest.raises(OutputError, match=r"PNG cannot hold 1 channels of float32.*5/8/6\.png"):
        check_output(tmp_path / "out", reals, file_format="tiles", overwrite=False)
    plain = OutputSpec(axes="CYX", shape=(1, 8, 8), dtype=np.dtype("u1"), metadata=ImageMetadata())
    with pytest.raises(OutputError, match="only what was read from map tiles"):
        check_output(tmp_path / "out", plain, file_format="tiles", overwrite=False)


def test_only_tiles_are_replaced(tmp_path: Path, noise: Noise, tiles_of: Tiles) -> None:
    raster = noise((32, 32), "uint8")
    _save_pyramid(tmp_path / "in", raster, zoom=5, row=6, column=8)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_bytes(b"precious")
    with open_image(tmp_path / "in") as source:
        spec = _spec(source)
    with pytest.raises(OutputError, match="is a folder"):
        write_image(tmp_path / "out", spec, tiles_of(raster[None], 32), file_format="tiles", overwrite=True)
    with pytest.raises(OutputError, match="exists already"):
        write_image(tmp_path / "in", spec, tiles_of(raster[None], 32), file_format="tiles")
    write_image(tmp_path / "in", spec, tiles_of(255 - raster[None], 32), file_format="tiles", overwrite=True)
    with open_image(tmp_path / "in") as source:
        np.testing.assert_array_equal(source.read(Region(0, 32, 0, 32))[0], 255 - raster)
    assert (tmp_path / "out" / "thesis.doc").read_bytes() == b"precious"


def test_a_folder_of_images_is_not_replaced_by_a_file(tmp_path: Path, noise: Noise, tiles_of: Tiles) -> None:
    raster = noise((32, 32), "uint8")
    _save_geotiffs(tmp_path / "in", noise((90, 70), "uint8"))
    _save_pyramid(tmp_path / "web", raster, zoom=5, row=6, column=8)
    with open_image(tmp_path / "web") as source:
        spec = _spec(source)
    for file_format in ("tiff", "tiles"):
        with pytest.raises(OutputError, match="is a folder"):
            write_image(tmp_path / "in", spec, tiles_of(raster[None], 32), file_format=file_format, overwrite=True)
    assert len(_files(tmp_path / "in")) == 6


def test_failure_midway_leaves_nothing(tmp_path: Path, noise: Noise, tiles_of: Tiles) -> None:
    raster = noise((32, 32), "uint8")
    _save_pyramid(tmp_path / "in", raster, zoom=5, row=6, column=8)
    with open_image(tmp_path / "in") as source, pytest.raises(Pix2PixError, match="incomplete"):
        write_image(tmp_path / "out", _spec(source), iter(list(tiles_of(raster[None], 16))[:-1]), file_format="tiles")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
