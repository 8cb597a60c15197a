"""Feature planes that do not fit into memory go to a disk: beside the output, or where the user says."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile

from napari_pix2pix.formats import open_image
from napari_pix2pix.translation.pipeline import translate_array, translate_file
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training import machine
from pix2pix_training.array_source import whole_plane
from pix2pix_training.errors import Pix2PixError, SettingsError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.machine import is_memory, scratch_folder
from pix2pix_training.network_config import GeneratorConfig
from tests.product.translation.conftest import random_image, random_model

MODEL = random_model(
    GeneratorConfig(base_width=4, depth=4, source_channels=1, target_channels=1), InferenceConfig(statistics="image")
)
LITTLE: dict[str, Any] = {"max_memory": 3 * 2**19, "split_level": 2}
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="mounts are only looked up on Linux")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, random_image(1, 600, 460)[0])
    return path


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders in which planes were put."""
    folders: list[Path] = []
    make = tempfile.TemporaryFile

    def watched(*args: Any, dir: Any = None, **kind: Any) -> Any:
        folders.append(Path(dir))
        return make(*args, dir=dir, **kind)

    monkeypatch.setattr(tempfile, "TemporaryFile", watched)
    return folders


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """A list of mounts that a test can fill."""
    found: list[SimpleNamespace] = []
    monkeypatch.setattr(psutil, "disk_partitions", lambda *, all: found)
    return found


def mount(point: Path | str, kind: str) -> SimpleNamespace:
    return SimpleNamespace(mountpoint=str(point), fstype=kind)


def test_planes_go_beside_the_output(image: Path, used: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "results"
    out.mkdir()
    translate_file(image, MODEL, out / "out.tif", TranslationSettings(**LITTLE))
    assert used
    assert set(used) == {out}
    assert [path.name for path in out.iterdir()] == ["out.tif"]


def test_planes_go_where_the_user_says(image: Path, used: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "fast"
    folder.mkdir()
    settings = TranslationSettings(**LITTLE, scratch=folder)
    translate_file(image, MODEL, tmp_path / "out.tif", settings)
    translate_array(random_image(1, 600, 460), MODEL, settings)
    assert set(used) == {folder}
    assert not list(folder.iterdir())


def test_a_scratch_folder_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="missing is no folder; give one that exists"):
        TranslationSettings(scratch=tmp_path / "missing")


@on_linux
def test_memory_is_told_from_disk_by_the_innermost_mount(mounts: list[SimpleNamespace], tmp_path: Path) -> None:
    (tmp_path / "a b" / "disk").mkdir(parents=True)
    mounts += [mount("/", "ext4"), mount(tmp_path / "a b", "tmpfs"), mount(tmp_path / "a b" / "disk", "xfs")]
    assert not is_memory(tmp_path)
    assert is_memory(tmp_path / "a b")
    assert not is_memory(tmp_path / "a b" / "disk")
    mounts.clear()
    assert not is_memory(tmp_path)


@on_linux
def test_arrays_use_the_cache_of_the_user_where_temporary_files_are_in_memory(
    mounts: list[SimpleNamespace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, cache = tmp_path / "tmp", tmp_path / "cache"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(machine, "user_cache_path", lambda _: cache)
    mounts.append(mount("/", "ext4"))
    assert scratch_folder() == temporary
    mounts.append(mount(temporary, "tmpfs"))
    assert scratch_folder() == cache
    mounts[:] = [mount("/", "tmpfs")]
    assert scratch_folder() == temporary


@on_linux
def test_planes_in_memory_are_said(
    mounts: list[SimpleNamespace], image: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mounts.append(mount("/", "tmpfs"))
    with caplog.at_level(logging.WARNING):
        translate_file(image, MODEL, tmp_path / "out.tif", TranslationSettings(**LITTLE))
    assert f"go to {tmp_path}, which is memory on this machine; choose a folder on a disk with --scratch" in caplog.text


def test_a_folder_that_cannot_take_planes_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    settings = TranslationSettings(**LITTLE, scratch=tmp_path)
    with pytest.raises(Pix2PixError, match=r"cannot be kept in .*: No space left on device; .*scratch"):
        translate_array(random_image(1, 600, 460), MODEL, settings)


def test_the_scratch_folder_does_not_matter_for_going_on(image: Path, tmp_path: Path) -> None:
    """What is begun with one folder is gone on with in another."""
    out = tmp_path / "out.ome.zarr"
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()

    def stop(done: int, total: int) -> None:
        if 2 * done > total:
            raise KeyboardInterrupt

    large = tmp_path / "large.tif"
    tifffile.imwrite(large, random_image(1, 1100, 1030)[0])
    settings: dict[str, Any] = {"scheme": "exact", "tile": 256}
    with pytest.raises(KeyboardInterrupt):
        translate_file(large, MODEL, out, TranslationSettings(**settings, scratch=first), progress=stop)
    translate_file(large, MODEL, out, TranslationSettings(**settings, scratch=second), resume=True)
    expected = translate_array(tifffile.imread(large), MODEL, TranslationSettings(**settings))
    with open_image(out) as image_out:
        difference = image_out.read(whole_plane(image_out)).astype(int) - expected
    assert np.abs(difference).max() <= 1
