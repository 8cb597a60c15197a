"""Neighbouring planes as channels, from training to translation, export and the model's card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_pix2pix.bioimageio_export.package_description import _channels, block_sizes
from napari_pix2pix.bioimageio_export.sample import test_sample as sample_of_package
from napari_pix2pix.cli.application import run
from napari_pix2pix.translation.pipeline import translate_array
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.errors import ImageError, ModelFileError, SettingsError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.model_file import Model, load_model, save_model
from tests.product.conftest import model_for

TINY = ["--steps", "2", "--patch-size", "32", "--base-width", "4", "--depth", "3", "--validation", "0"]


@pytest.fixture
def model() -> Model:
    """Of one channel, seen in three planes."""
    plain = model_for(3, 1)
    return replace(plain, source=replace(plain.source, z_context=1, channel_names=("phase",)))


@pytest.fixture
def stack() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (4, 1, 72, 56), np.uint8)


def neighbours(stack: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], z: int) -> list[int]:
    return [max(z - 1, 0), z, min(z + 1, len(stack) - 1)]


@pytest.mark.parametrize("scheme", ["whole", "exact"])
def test_a_plane_is_translated_as_one_image_of_all_channels(
    model: Model, stack: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], scheme: str
) -> None:
    settings = TranslationSettings(scheme=scheme, tile=24 if scheme == "exact" else None)  # type: ignore[arg-type]
    translated = translate_array(stack, model, settings, axes="ZCYX")
    assert translated.shape == (4, 1, 72, 56)
    plain = replace(model, source=replace(model.source, z_context=0))
    for z in range(4):
        expected = translate_array(stack[neighbours(stack, z), 0], plain, TranslationSettings(scheme="whole"))
        difference = np.abs(translated[z].astype(int) - expected)
        assert difference.max() <= (0 if scheme == "whole" else 1)


def test_what_is_no_stack_is_refused(model: Model, stack: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    with pytest.raises(
        ImageError, match=r"no Z stack of several planes, and 1 neighbouring planes .* give the whole stack"
    ):
        translate_array(stack[0], model)
    with pytest.raises(ImageError, match=r"has 2 channels, the model expects 1 \(phase\)"):
        translate_array(np.concatenate([stack, stack], 1), model, axes="ZCYX")


def test_the_model_file_keeps_it(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.source.z_context == 1
    assert loaded.source.channels == 1
    assert loaded.target.z_context == 0


def test_context_that_does_not_fit_is_refused(model: Model) -> None:
    with pytest.raises(SettingsError, match="3 channels does not fit 5 planes"):
        replace(model.source, z_context=2)
    with pytest.raises(SettingsError, match="between 0 and 50"):
        replace(model.source, z_context=-1)
    colours = CategoryMapping(dtype="uint8", values=((0, 0, 0), (1, 1, 1)))
    with pytest.raises(SettingsError, match="cannot be categories"):
        ImageDescription(mapping=colours, z_context=1)


def test_train_and_translate_a_stack(
    stack: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(tmp_path / "phase.ome.tif", stack[:, 0], metadata={"axes": "ZYX", "Channel": {"Name": ["phase"]}})
    tifffile.imwrite(tmp_path / "stain.ome.tif", 255 - stack[:, 0], metadata={"axes": "ZYX"})
    files = ["--source", str(tmp_path / "phase.ome.tif"), "--target", str(tmp_path / "stain.ome.tif")]
    assert run(["train", *files, "--out", str(tmp_path / "run"), "--z-context", "1", *TINY]) == 0
    path = tmp_path / "run" / "model.safetensors"
    trained = load_model(path)
    assert trained.generator_config.source_channels == 3
    assert trained.source.z_context == 1
    out = tmp_path / "out.ome.tif"
    assert run(["translate", str(tmp_path / "phase.ome.tif"), "--model", str(path), "--out", str(out)]) == 0
    np.testing.assert_array_equal(tifffile.imread(out), translate_array(stack, trained, axes="ZCYX")[:, 0])
    capsys.readouterr()
    assert run(["info", str(path)]) == 0
    assert "1 channel (phase); each plane with 1 neighbouring in Z on each side" in capsys.readouterr().out
    scored = ["evaluate", "--model", str(path), *files, "--json"]
    assert run(scored) == 0
    with_model = capsys.readouterr().out.splitlines()[-1]
    assert run(["evaluate", "--prediction", str(out), *files[2:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["mean"] == json.loads(with_model)["mean"]
    tifffile.imwrite(tmp_path / "plane.tif", stack[0, 0])
    assert run(["translate", str(tmp_path / "plane.tif"), "--model", str(path), "--out", str(tmp_path / "p.tif")]) == 2
    assert "plane.tif with axes CYX is no Z stack" in capsys.readouterr().err


def test_training_refuses_what_is_no_stack(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--source", str(folders[0]), "--target", str(folders[1]), "--out", str(tmp_path / "run")]
    assert run(["train", *files, "--z-context", "2", *TINY]) == 2
    assert "is no Z stack of several planes, and 2 neighbouring planes" in capsys.readouterr().err
    assert run(["train", *files, "--z-context", "-1", *TINY]) == 2
    assert "z_context is -1; it must lie between 0 and 50" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_file_with_context_beyond_reason_is_refused(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(model, path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'\\"z_context\\": 1', b'\\"z_context\\": 7'))
    with pytest.raises(ModelFileError, match="3 channels does not fit 15 planes"):
        load_model(path)


def test_channels_of_an_exported_package_are_named_by_plane(model: Model) -> None:
    assert _channels(model.source)["channel_names"] == ["phase_plane_1", "phase_plane_2", "phase_plane_3"]
    assert _channels(model.target)["channel_names"] == ["channel_0"]


def test_the_sample_of_an_exported_package_has_the_neighbours(
    model: Model, stack: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "stack.ome.tif", stack[:, 0], metadata={"axes": "ZYX"})
    sizes = block_sizes(model.generator_config, model.inference)
    sample = sample_of_package(model, model.inference, tmp_path / "stack.ome.tif", sizes)
    assert sample.source.shape[1] == 3
    np.testing.assert_array_equal(sample.source[0, 0], sample.source[0, 1])  # the first plane is repeated
    assert (sample.source[0, 2] != sample.source[0, 1]).any()
