"""Decoded planes stay while the budget lasts, files are opened and closed as needed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from napari_pix2pix.formats.caching import MAX_OPEN_FILES, PixelCache
from pix2pix_training.array_source import ArraySource, SelectedChannels
from pix2pix_training.errors import ImageError
from pix2pix_training.machine import available_memory_bytes
from pix2pix_training.regions import Region

AnyArray = NDArray[Any]
Pixels = Callable[[ArraySource], AnyArray]
Noise = Callable[[tuple[int, ...], str], AnyArray]


@pytest.mark.parametrize("budget", [0, 100, 10_000])
@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_pixels_are_those_of_the_file(tmp_path: Path, pixels_of: Pixels, noise: Noise, budget: int, name: str) -> None:
    array = noise((20, 30), "uint8")
    Image.fromarray(array).save(tmp_path / name)
    with PixelCache(budget) as cache:
        source = cache.open(tmp_path / name)
        assert (source.axes, source.shape, source.dtype) == ("CYX", (1, 20, 30), array.dtype)
        for _ in range(2):
            source.read(Region(2, 9, 3, 30))[:] = 0  # the caller may write to what it gets
            np.testing.assert_array_equal(pixels_of(source)[0], array)


def test_kept_planes_need_no_file_and_others_do(tmp_path: Path, noise: Noise, pixels_of: Pixels) -> None:
    cache = PixelCache(budget_bytes=700)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        Image.fromarray(noise((20, 30), "uint8")).save(path)
    kept, other = map(cache.open, paths)
    for source in (kept, other):
        pixels_of(source)
    for path in paths:
        path.unlink()
    pixels_of(kept)
    with pytest.raises(ImageError, match=r"b\.png does not exist"):
        pixels_of(other)


def test_planes_of_a_stack_are_kept_one_by_one(tmp_path: Path, noise: Noise, pixels_of: Pixels) -> None:
    array = noise((3, 20, 30), "uint8")
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", metadata=None)
    with PixelCache(budget_bytes=1300) as cache:
        source = cache.open(tmp_path / "a.tif")
        for _ in range(2):
            np.testing.assert_array_equal(pixels_of(source)[:, 0], array)


def _open_files(folder: Path) -> int:
    """How many files of a folder this process has open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the listing itself is closed
            links.append(descriptor.readlink())
    return sum(link.parent == folder for link in links)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux shows them")
@pytest.mark.parametrize("budget", [0, 1 << 20])
def test_many_files_are_not_open_at_once(tmp_path: Path, noise: Noise, pixels_of: Pixels, budget: int) -> None:
    with PixelCache(budget) as cache:
        sources = []
        for number in range(3 * MAX_OPEN_FILES):
            path = tmp_path / f"{number}.tif"
            tifffile.imwrite(path, np.full((4, 4), number, np.uint8), metadata=None, compression="zlib")
            sources.append(cache.open(path))
        for number, source in enumerate(sources):
            assert (pixels_of(source) == number).all()
        assert _open_files(tmp_path) <= 2 * MAX_OPEN_FILES + 2
    assert _open_files(tmp_path) == 0


def test_sources_survive_the_closing_of_their_cache(tmp_path: Path, noise: Noise, pixels_of: Pixels) -> None:
    array = noise((20, 30), "uint8")
    Image.fromarray(array).save(tmp_path / "a.png")
    with PixelCache(10_000) as cache:
        source = cache.open(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels_of(source)[0], array)


@pytest.mark.parametrize("budget", [0, 5_000, 1 << 20])
def test_threads_read_the_same(tmp_path: Path, noise: Noise, pixels_of: Pixels, budget: int) -> None:
    arrays = [noise((40, 50), "uint8") + number for number in range(6)]
    for number, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / f"{number}.png")
    failures: list[int] = []
    with PixelCache(budget) as cache:
        sources = [cache.open(tmp_path / f"{number}.png") for number in range(6)]

        def read_all(start: int) -> None:
            for number in [*range(start, 6), *range(start)]:
                failures.extend([] if np.array_equal(pixels_of(sources[number])[0], arrays[number]) else [number])

        threads = [Thread(target=read_all, args=(start,)) for start in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_available_memory_is_plausible() -> None:
    assert 1 << 20 < available_memory_bytes() < 1 << 46


def test_default_budget_is_a_share_of_the_available_memory(tmp_path: Path, noise: Noise, pixels_of: Pixels) -> None:
    array = noise((20, 30), "uint8")
    path = tmp_path / "a.png"
    Image.fromarray(array).save(path)
    with PixelCache() as cache:
        source = cache.open(path)
        pixels_of(source)
        path.unlink()
        np.testing.assert_array_equal(pixels_of(source)[0], array)


def test_another_process_opens_the_files_again(tmp_path: Path, noise: Noise, pixels_of: Pixels) -> None:
    array = noise((20, 30), "uint8")
    Image.fromarray(array).save(tmp_path / "a.png")
    with PixelCache(budget_bytes=0) as cache:
        source = cache.open(tmp_path / "a.png")
        pixels_of(source)
        sent = pickle.loads(pickle.dumps(SelectedChannels(source, [0])))
    np.testing.assert_array_equal(pixels_of(sent)[0], array)
    assert sent.name == source.name


def test_another_process_has_its_share_of_a_budget_that_was_given(
    tmp_path: Path, noise: Noise, pixels_of: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_pix2pix.formats.caching.os.cpu_count", lambda: 2)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        Image.fromarray(noise((20, 30), "uint8")).save(path)
    with PixelCache(budget_bytes=700) as cache:  # one of 600 bytes fits here, and none into half of it
        sources = [cache.open(path) for path in paths]
        for source in sources:
            pixels_of(source)
        sent = pickle.loads(pickle.dumps(sources[0]))
    pixels_of(sent)
    paths[0].write_bytes(b"")
    with pytest.raises(ImageError, match=r"a\.png"):
        pixels_of(sent)


def test_what_is_kept_in_full_is_not_decoded_again_by_another_process(
    tmp_path: Path, noise: Noise, pixels_of: Pixels
) -> None:
    Image.fromarray(noise((20, 30), "uint8")).save(tmp_path / "a.png")
    with PixelCache() as cache:
        source = cache.open(tmp_path / "a.png")
        pixels_of(source)
        with pytest.raises(pickle.PicklingError, match="in memory"):
            pickle.dumps(source)
