"""Options of ``train`` that say what of the images is trained on."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_pix2pix.cli.application import run

TINY = ["--steps", "2", "--patch-size", "32", "--base-width", "4", "--depth", "3"]


def train(out: Path, *arguments: str | Path) -> int:
    return run(["train", "--out", str(out), *TINY, *map(str, arguments)])


def test_sampling_by_content_stands_in_the_config(folders: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = folders
    options = ["--sampling", "content", "--keep-constant"]
    assert train(tmp_path / "run", "--source", source, "--target", target, *options) == 0
    config = tomllib.loads((tmp_path / "run" / "config.toml").read_text(encoding="utf-8"))
    assert config["sampling"] == {"placement": "content", "skip_constant": False}


def test_unknown_sampling_is_one_line(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "run", "--source", folders[0], "--target", folders[1], "--sampling", "dense") == 2
    assert "choose one of uniform, content" in capsys.readouterr().err


def test_skipped_patches_are_counted_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 512)).astype(np.uint8)
    image[:, :400] = 0
    tifffile.imwrite(tmp_path / "a.tif", image)
    options = ["--validation", "0", "--batch-size", "8"]
    assert train(tmp_path / "run", "--source", tmp_path / "a.tif", "--target", tmp_path / "a.tif", *options) == 0
    assert "constant or empty patches were skipped" in capsys.readouterr().err
