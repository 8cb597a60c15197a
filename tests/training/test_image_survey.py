"""One reading of all pixels finds what a run has to know of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pix2pix_training.array_source import AnyArray, MemorySource, Opacity
from pix2pix_training.image_survey import survey
from pix2pix_training.intensity import PERCENTILES, percentiles
from pix2pix_training.regions import Region


class CountingSource(MemorySource):
    """Counts how many pixels are read."""

    pixels_read = 0

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        self.pixels_read += region.height * region.width
        return super().read_with_opacity(region, plane)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_it_finds_what_separate_readings_find_in_one(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    images = [CountingSource((rng.random((2, 3, 50, 60)) * 100).astype(dtype), name=str(n)) for n in range(3)]
    known = survey(images, each=True)
    assert [image.pixels_read for image in images] == [2 * 50 * 60] * 3
    assert known.percentiles == percentiles(images, PERCENTILES)
    assert [facts.ends for facts in known.facts] == [percentiles([image], PERCENTILES) for image in images]
    everything = np.concatenate([image._array for image in images])
    assert known.low == tuple(everything.min((0, 2, 3)).astype(float))
    assert known.high == tuple(everything.max((0, 2, 3)).astype(float))
    assert known.is_complete
    assert not known.is_constant


def test_invalid_pixels_do_not_count() -> None:
    values = np.full((3, 1, 40, 40), 5, np.float32)
    values[0, :, :20] = np.nan
    values[1] = np.inf
    values[2, :, :3] = 7
    (facts,) = (known := survey([MemorySource(values)])).facts
    assert facts.planes == ((0,), (2,))
    assert (known.low, known.high, known.values) == ((5,), (7,), (frozenset({5.0, 7.0}),))
    masked = survey([MemorySource(np.arange(4, dtype=np.uint8).reshape(1, 2, 2), nodata=3)])
    assert masked.codes == frozenset({(0,), (1,), (2,)})
    opacity = np.array([[255, 0], [0, 255]], np.uint8)
    seen = survey([MemorySource(np.arange(4, dtype=np.uint8).reshape(1, 2, 2), opacity=opacity)])
    assert seen.codes == frozenset({(0,), (3,)})


def digest(array: AnyArray, **changes: Any) -> str:
    return survey([MemorySource(array, name=changes.pop("name", "x"), **changes)]).facts[0].digest


def test_the_checksum_is_that_of_the_content() -> None:
    image = np.random.default_rng(0).integers(0, 255, (2, 1100, 1030)).astype(np.uint8)
    same = digest(image)
    assert digest(image.copy(), name="y") == same
    assert digest(np.asfortranarray(image)) == same
    for index in ((0, 0, 0), (1, 1099, 1029), (0, 500, 1024)):
        changed = image.copy()
        changed[index] ^= 1
        assert digest(changed) != same
    assert digest(image.transpose(0, 2, 1)) != same
    assert digest(image.astype(np.uint16)) != same
    assert digest(image, nodata=0) != same
    opacity = np.full((1100, 1030), 255, np.uint8)
    assert digest(image, opacity=opacity) != digest(image, opacity=opacity // 2 * 0)


@pytest.mark.parametrize("channels", [1, 2, 3, 9])
@pytest.mark.parametrize("dtype", ["uint8", "int16", ">u2", "int32", "int64", "bool"])
def test_codes_are_the_different_pixels(channels: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2 if dtype == "bool" else 100, (5, channels)).astype(dtype)
    image = codes[rng.integers(0, 5, (300, 300))].transpose(2, 0, 1)
    image[:, 299, 299] = codes[0]
    expected = {tuple(int(v) for v in code) for code in codes}
    assert survey([MemorySource(image)]).codes == frozenset(expected)


def test_of_very_many_pixels_evenly_spaced_tiles_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pix2pix_training.image_survey.MOST_READ", 2000)
    monkeypatch.setattr("pix2pix_training.image_survey._TILE_PX", 10)
    images = [CountingSource(np.arange(4000, dtype=np.float32).reshape(1, 40, 100) + n, name=str(n)) for n in range(2)]
    images[1]._array[:, :10] = np.nan
    known = survey(images)
    assert sum(image.pixels_read for image in images) == 2000
    assert not known.is_complete
    assert survey(images, complete=True).is_complete
    empty = CountingSource(np.full((4, 1, 40, 100), np.nan, np.float32), name="planes")
    empty._array[2, :, 35:] = 1
    assert survey([empty]).facts[0].planes == ((2,),), "also of planes of which no tile was read"
