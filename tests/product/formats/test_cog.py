"""GeoTIFF outputs that are made part by part: resumed, interrupted, and each byte written twice at most."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rio_cogeo.cogeo import cog_validate

from napari_pix2pix.formats import cog
from napari_pix2pix.formats.cog import CogCanvas
from napari_pix2pix.formats.georeference import web_mercator
from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.writing import OutputSpec, Tile, write_image
from pix2pix_training.errors import Pix2PixError
from pix2pix_training.regions import Region
from tests.faults.injection import no_file_longer_than

AnyArray = NDArray[Any]
Noise = Callable[[tuple[int, ...], str], AnyArray]
Tiles = Callable[[AnyArray, int], Iterator[Tile]]

_PART_PX = 512
_PLACE = web_mercator(pixel_size_m=2, left_m=5, top_m=7)


def _spec(samples: AnyArray, *, masked: bool, alpha: bool = False, **options: Any) -> OutputSpec:
    shape = (len(samples) - masked, *samples.shape[1:])
    metadata = ImageMetadata(georeference=_PLACE, alpha=alpha, rgb=shape[0] == 3)
    return OutputSpec(axes="CYX", shape=shape, dtype=samples.dtype, metadata=metadata, masked=masked, **options)


@pytest.fixture
def samples(noise: Noise) -> AnyArray:
    """Three colours and an opacity that hides a third."""
    samples = noise((4, 1300, 1100), "uint8")
    samples[3] = 255
    samples[3, 300:700, 100:] = 0
    return samples


def _parts(samples: AnyArray) -> list[tuple[Region, AnyArray]]:
    regions = list(Region.whole(samples.shape[1], samples.shape[2]).tiles(_PART_PX))
    return [(region, samples[:, *region.slices]) for region in regions[::-1]]


def _content(path: Path) -> tuple[AnyArray, AnyArray]:
    with rasterio.open(path) as dataset:
        return dataset.read(), dataset.dataset_mask()


@pytest.mark.parametrize("alpha", [True, False])
def test_parts_in_any_order_over_two_runs_make_the_file_of_one(
    tmp_path: Path, samples: AnyArray, tiles_of: Tiles, alpha: bool
) -> None:
    spec = _spec(samples, masked=True, alpha=alpha)
    whole = write_image(tmp_path / "whole.tif", spec, tiles_of(samples, 600), file_format="geotiff")
    path, parts = tmp_path / "parts.tif", _parts(samples)
    cog.begin(path, spec)
    canvas = CogCanvas(path, spec, _PART_PX)
    size, checksum = canvas.frame()
    notes = [canvas.write_part((), *part) for part in parts[:4]]
    canvas.close()
    with CogCanvas(path, spec, _PART_PX) as canvas:
        assert canvas.frame(size) == (size, checksum)
        for (region, _), note in zip(parts, notes, strict=False):
            assert canvas.restore((), region, note)
        for part in parts[4:]:
            canvas.write_part((), *part)
        canvas.finish(path)
    for made, expected in zip(_content(path), _content(whole), strict=True):
        np.testing.assert_array_equal(made, expected)
    assert cog_validate(path, strict=True)[0]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["parts.tif", "whole.tif"]


def test_a_damaged_part_is_not_taken_in(tmp_path: Path, samples: AnyArray) -> None:
    spec, path = _spec(samples, masked=True), tmp_path / "a.tif"
    cog.begin(path, spec)
    with CogCanvas(path, spec, _PART_PX) as canvas:
        region, pixels = _parts(samples)[0]
        size, _ = canvas.frame()
        note = canvas.write_part((), region, pixels)
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(bytes(content))
    with CogCanvas(path, spec, _PART_PX) as canvas:
        canvas.frame(size)
        assert not canvas.restore((), region, note)


def test_a_mask_that_hides_nothing_is_left_out(tmp_path: Path, noise: Noise, tiles_of: Tiles) -> None:
    samples = noise((3, 300, 200), "int16")
    samples[2] = np.iinfo(np.int16).max
    path = write_image(tmp_path / "a.tif", _spec(samples, masked=True), tiles_of(samples, 128), file_format="geotiff")
    with rasterio.open(path) as dataset:
        assert dataset.mask_flag_enums[0][0].name == "all_valid"
        np.testing.assert_array_equal(dataset.read(), samples[:2])


def test_nan_is_no_data_and_left_out_of_overviews(tmp_path: Path, tiles_of: Tiles) -> None:
    pixels = np.full((1, 1200, 1200), 5, np.float32)
    pixels[0, ::2, ::2] = np.nan
    pixels[0, :100, :100] = np.nan
    path = write_image(tmp_path / "a.tif", _spec(pixels, masked=False), tiles_of(pixels, 600), file_format="geotiff")
    with rasterio.open(path) as dataset:
        assert np.isnan(dataset.nodata)
        half = dataset.read(1, out_shape=(600, 600))
    expected = np.full((600, 600), 5)
    np.testing.assert_array_equal(np.isnan(half[:50, :50]), np.ones((50, 50), bool))
    np.testing.assert_array_equal(half[50:], expected[50:])


@pytest.mark.parametrize("dtype", ["uint8", "bool"])
def test_overviews_of_masked_images_are_masked(tmp_path: Path, tiles_of: Tiles, dtype: str) -> None:
    samples = np.ones((2, 1200, 1200), dtype)
    if dtype == "uint8":
        samples[0], samples[1] = 100, 255
    samples[:, :600] = 0
    path = write_image(tmp_path / "a.tif", _spec(samples, masked=True), tiles_of(samples, 600), file_format="geotiff")
    with rasterio.open(path) as dataset:
        assert dataset.overviews(1) == [2, 4]
        mask = dataset.dataset_mask(out_shape=(600, 600))
        pixels = dataset.read(1, out_shape=(600, 600))
    np.testing.assert_array_equal(mask > 0, np.arange(600)[:, None] >= np.full((1, 600), 300))
    assert (pixels[300:] == (100 if dtype == "uint8" else 1)).all()


def test_an_interruption_while_gdal_copies_ends_it_and_keeps_the_parts(
    tmp_path: Path, samples: AnyArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, path = _spec(samples, masked=True), tmp_path / "a.tif"
    cog.begin(path, spec)
    with CogCanvas(path, spec, _PART_PX) as canvas:
        size, _ = canvas.frame()
        notes = [canvas.write_part((), *part) for part in _parts(samples)]

        class Interrupted(threading.Thread):
            def join(self, timeout: float | None = None) -> None:
                if timeout is not None:
                    raise KeyboardInterrupt
                super().join()

        monkeypatch.setattr(cog, "Thread", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            canvas.finish(path)
    assert not [thread for thread in threading.enumerate() if thread.name == "copying"]
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]
    monkeypatch.undo()
    with CogCanvas(path, spec, _PART_PX) as canvas:
        canvas.frame(size)
        assert all(canvas.restore((), region, note) for (region, _), note in zip(_parts(samples), notes, strict=True))
        canvas.finish(path)
    np.testing.assert_array_equal(_content(path)[1], samples[3])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the bytes that a process writes are counted by Linux")
def test_bytes_written_are_at_most_two_and_a_half_times_the_file(
    tmp_path: Path, samples: AnyArray, tiles_of: Tiles
) -> None:
    def written() -> int:
        return int(Path("/proc/self/io").read_text().split("wchar: ")[1].split()[0])

    tile = samples.repeat(2, 1)
    before = written()
    path = write_image(tmp_path / "a.tif", _spec(tile, masked=True), tiles_of(tile, 1024), file_format="geotiff")
    assert written() - before < 2.5 * path.stat().st_size


@pytest.mark.skipif(sys.platform != "linux", reason="limits the length of files as Linux does")
@pytest.mark.parametrize("missing", [1, 5, 300])
def test_a_file_whose_end_is_not_on_the_disk_is_told(
    tmp_path: Path, noise: Noise, tiles_of: Tiles, missing: int
) -> None:
    """Among what GDAL writes last is where the image lies, and it does not say that this failed."""
    samples = noise((1, 272, 264), "uint8")
    spec = _spec(samples, masked=False)
    path = write_image(tmp_path / "a.tif", spec, tiles_of(samples, 600), file_format="geotiff")
    length = path.stat().st_size
    path.unlink()
    with no_file_longer_than(length - missing), pytest.raises(Pix2PixError, match=r"a\.tif could not be completed"):
        write_image(path, spec, tiles_of(samples, 600), file_format="geotiff")
    assert list(tmp_path.iterdir()) == []
