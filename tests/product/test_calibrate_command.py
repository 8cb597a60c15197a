"""``calibrate``: an error map for a model that has none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from napari_pix2pix.cli.application import run
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.model_file import Model, load_model, save_model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = GeneratorConfig(source_channels=1, target_channels=1, base_width=4, depth=6)
    side = ImageDescription(mapping=dtype_mapping(np.dtype("uint8"), 1))
    model = Model(generator_config=config, weights=build_generator(config).state_dict(), source=side, target=side)
    save_model(replace(model, training={"imported_from": ["latest_net_G.pth"]}), tmp_path / "imported.safetensors")
    return tmp_path / "imported.safetensors"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for side in ("source", "target"):
        (tmp_path / side).mkdir()
        for number in range(6):
            Image.fromarray(rng.integers(0, 256, (48, 56), dtype=np.uint8)).save(tmp_path / side / f"{number}.png")
    return tmp_path


def calibrated(model: Path, images: Path, out: Path, *options: str) -> int:
    folders = ["--source", str(images / "source"), "--target", str(images / "target"), "--patch-size", "32"]
    return run(["calibrate", str(model), *folders, "--steps", "3", "--out", str(out), *options])


def test_a_model_gets_an_error_map_and_keeps_its_generator(
    model_path: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "calibrated.safetensors"
    assert calibrated(model_path, images, out, "--coverage", "0.8", "--json") == 0
    before, after = load_model(model_path), load_model(out)
    assert all(torch.equal(after.weights[name], tensor) for name, tensor in before.weights.items())
    assert after.error is not None and before.error is None
    traits = after.error.traits
    assert (traits.coverage, traits.images, traits.chose_model) == (0.8, 2, False)
    assert traits.measured == pytest.approx(0.8, abs=0.05)
    captured = capsys.readouterr()
    said = json.loads(captured.out.splitlines()[-1])
    assert (said["model"], said["error"]["images"], said["novelty"]) == (str(out), 2, None)
    assert "novelty: the images have too few pixels" in captured.out + captured.err
    result = [str(images / "source" / "0.png"), "--model", str(out), "--out", str(tmp_path / "0.png"), "--error-map"]
    assert run(["translate", *result]) == 0
    assert run(["translate", *result[:-2], str(tmp_path / "0.tif"), "--error-map"]) == 0
    capsys.readouterr()
    assert run(["info", str(tmp_path / "0-error.tif"), "--json"]) == 0
    made_by = json.loads(capsys.readouterr().out)["made_by"]["model"]
    for path, checksum in ((out, made_by), (model_path, None)):
        assert run(["info", str(path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["error_map_checksum"] == checksum
    assert run(["info", str(out)]) == 0
    assert f"checksum of the error map: {made_by}" in capsys.readouterr().out


@pytest.mark.parametrize("coverage", ["0.8", "0"])
def test_a_run_says_how_to_ask_for_its_error_map(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], coverage: str
) -> None:
    tiny = ["--depth", "3", "--base-width", "4", "--patch-size", "32", "--discriminator-base-width", "4"]
    folders = ["--source", str(images / "source"), "--target", str(images / "target"), "--out", str(tmp_path / "run")]
    assert run(["train", *folders, *tiny, "--steps", "2", "--validation", "0.3", "--coverage", coverage]) == 0
    said = "with an error map for 80 % of pixels, which translate --error-map writes"
    assert (said in capsys.readouterr().err) == (coverage == "0.8")
    assert (
        run(["train", *folders, *tiny, "--steps", "2", "--validation", "0.3", "--coverage", coverage, "--resume"]) == 0
    )
    assert (said in capsys.readouterr().err) == (coverage == "0.8")


def test_a_model_learns_what_tells_other_images_unless_it_knows(
    model_path: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    for side in ("source", "target"):
        for number in range(6):
            Image.fromarray(rng.integers(0, 256, (256, 256), dtype=np.uint8)).save(images / side / f"{number}.png")
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    assert calibrated(model_path, images, first, "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["novelty"]["yardstick"] == "held-out"
    made = load_model(first).novelty
    for path in (images / "source").iterdir():
        Image.fromarray(np.zeros((256, 256), np.uint8)).save(path)
    assert calibrated(first, images, second) == 0
    again = load_model(second).novelty
    assert made is not None and again is not None
    assert torch.equal(made.weights["cells"], again.weights["cells"])


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--coverage", "1"), "coverage is 1"), (("--validation", "0"), "nothing is held out")],
)
def test_what_cannot_be_calibrated_is_refused(
    model_path: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    words: str,
) -> None:
    assert calibrated(model_path, images, tmp_path / "out.safetensors", *options) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_images_of_another_type_are_refused(
    model_path: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (images / "target").iterdir():
        Image.fromarray(np.zeros((48, 56, 3), np.uint8)).save(path)
    assert calibrated(model_path, images, tmp_path / "out.safetensors") == 2
    assert "a target with channels 3 of uint8, and the model has 1 of uint8" in capsys.readouterr().err
