"""The command line: what it promises for good input, in files, numbers and exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from napari_pix2pix import Pix2Pix
from napari_pix2pix.cli.application import COMMANDS, run
from pix2pix_training.errors import OutputError, SettingsError
from pix2pix_training.model_file import load_model, save_model
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.networks import Discriminator, build_generator
from pix2pix_training.setting_options import training_config
from pix2pix_training.settings_tables import settings_from_toml
from tests.product.conftest import model_for

TINY = ["--patch-size", "32", "--base-width", "4", "--depth", "3"]


def result_of(arguments: Sequence[str | Path], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Run with --json and parse the last line of stdout."""
    capsys.readouterr()
    assert run([*map(str, arguments), "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return result


def train_tiny(folders: tuple[Path, Path], out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    source, target = folders
    return result_of(
        ["train", "--source", source, "--target", target, "--out", out, "--steps", "3", *TINY, *more], capsys
    )


def test_train_translate_evaluate(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = train_tiny(folders, tmp_path / "run", capsys)
    expected = {"steps", "seconds", "seconds_per_step", "resumed_from_step", "skipped_patches", "metrics", "model"}
    expected |= {"stopped_early", "warnings"}
    assert trained.keys() == expected
    assert trained["steps"] == 3
    assert trained["metrics"]["mae"] > 0
    model = Path(trained["model"])
    translated = result_of(["translate", folders[0], "--model", model, "--out", tmp_path / "out"], capsys)
    assert [Path(p).name for p in translated["outputs"]] == ["0.tif", "1.tif", "2.tif", "3.tif"]
    assert translated["pixels"] == 4 * 40 * 48
    expected = {
        *("outputs", "pixels", "seconds", "seconds_setup", "backend", "device", "precision", "scheme", "statistics"),
        *("tile", "split_level", "mac_overhead", "peak_memory_bytes", "tiles", "tiles_reused", "backend_reason"),
        *("clipped_share", "novel_share", "warnings"),
    }
    assert translated.keys() == expected
    scored = result_of(["evaluate", "--prediction", tmp_path / "out", "--target", folders[1]], capsys)
    directly = result_of(["evaluate", "--model", model, "--source", folders[0], "--target", folders[1]], capsys)
    assert directly.pop("clipped_share") == [0.0]
    assert directly == scored
    assert scored["data_range"] == [0, 255]
    assert len(scored["images"]) == 4
    assert scored["constant"]["pearson"] is None


@pytest.fixture
def reference_pair(tmp_path: Path) -> tuple[Path, Path]:
    """State_dicts of a ResNet and a PatchGAN, for one channel in and out."""
    config = GeneratorConfig(architecture="resnet", blocks=1, base_width=2, source_channels=1, target_channels=1)
    discriminator = Discriminator(2, DiscriminatorConfig(layers=1, base_width=3))
    paths = tmp_path / "latest_net_G.pth", tmp_path / "latest_net_D.pth"
    for network, path in zip((build_generator(config), discriminator), paths, strict=True):
        torch.save(network.state_dict(), path)
    return paths


def test_training_goes_on_from_networks_of_the_reference(
    folders: tuple[Path, Path],
    reference_pair: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A ResNet with batch norm, where the preset takes a U-Net with instance norm: the model to start from decides."""
    generator, discriminator = reference_pair
    imported = tmp_path / "imported.safetensors"
    files = ["import-weights", str(generator), "--discriminator", str(discriminator)]
    assert run([*files, "--out", str(imported), "--statistics", "running", "--license", "CC0-1.0"]) == 0
    said = capsys.readouterr().err
    assert "ResNet, 1 blocks, base width 2, batch norm" in said
    assert "PatchGAN of 1 layers (16 x 16 pixels), base width 3, batch norm, sees source and target" in said
    assert "norms use running averages of training, dropout off" in said
    assert load_model(imported).credits.license == "CC0-1.0"
    command: list[str | Path] = [
        "train",
        "--source",
        folders[0],
        "--target",
        folders[1],
        "--out",
        tmp_path / "run",
        "--steps",
        "1",
    ]
    result_of([*command, "--patch-size", "32", "--init", imported, "--author", "A. Author"], capsys)
    trained = load_model(tmp_path / "run" / "model.safetensors")
    assert trained.generator_config == load_model(imported).generator_config
    assert trained.inference.statistics == "running"
    assert trained.credits.authors == ("A. Author",)
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["networks"]["discriminator"]
    before = torch.load(discriminator, weights_only=True)["model.0.weight"]
    change = float((state["model.0.weight"] - before).abs().max())
    assert 0 < change < 1e-3  # one step of Adam away


def test_a_run_does_not_replace_the_one_that_it_starts_from(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_tiny(folders, tmp_path / "run", capsys)
    model = tmp_path / "run" / "model.safetensors"
    before = model.read_bytes()
    command = ["train", "--source", str(folders[0]), "--target", str(folders[1]), "--out", str(tmp_path / "run")]
    assert run([*command, "--steps", "1", "--init", str(model), "--overwrite"]) == 2
    assert "would be replaced by what is made from it; give another folder" in capsys.readouterr().err
    with pytest.raises(OutputError, match="would be replaced by what is made from it"):
        Pix2Pix.train(*folders, out=tmp_path / "run", steps=1, init=model, overwrite=True)
    assert model.read_bytes() == before


def test_resume_continues_where_the_run_stopped(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_tiny(folders, tmp_path / "run", capsys)
    again = train_tiny(folders, tmp_path / "run", capsys, "--resume")
    assert (again["steps"], again["resumed_from_step"], again["seconds_per_step"]) == (3, 3, None)


@pytest.mark.parametrize("steps", ["3", "2"])
def test_a_run_that_is_long_enough_says_so(
    steps: str, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_tiny(folders, tmp_path / "run", capsys)
    source, target = map(str, folders)
    words = ["--source", source, "--target", target, "--out", str(tmp_path / "run"), "--steps", steps, *TINY]
    assert run(["train", *words, "--resume"]) == 0
    assert "nothing is trained now" in capsys.readouterr().err


def test_depth_of_the_preset_follows_the_patch_of_options_and_of_the_file(tmp_path: Path) -> None:
    toml = tmp_path / "config.toml"
    toml.write_text("patch_size = 96\n", encoding="utf-8")
    assert training_config({}, settings_from_toml(toml), {}).generator.depth == 5
    assert training_config({}, settings_from_toml(toml), {"patch_size": 128}).generator.depth == 7
    assert training_config({}, {"patch_size": 64, "generator": {"depth": 3}}).generator.depth == 3
    assert training_config({}, {}).generator.depth == 8
    with pytest.raises(SettingsError, match="300 is not a multiple of 32"):
        training_config({}, {"patch_size": 300})
    with pytest.raises(SettingsError, match="128 is not a multiple of 256"):
        training_config({}, {"preset": "paper", "patch_size": 128})


def test_defaults_stand_in_the_config_of_the_run(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_tiny(folders, tmp_path / "run", capsys)
    config = tomllib.loads((tmp_path / "run" / "config.toml").read_text(encoding="utf-8"))
    assert (config["seed"], config["precision"], config["generator"]["depth"]) == (0, "auto", 3)
    train_tiny(folders, tmp_path / "again", capsys, "--config", str(tmp_path / "run" / "config.toml"), "--steps", "2")
    again = tomllib.loads((tmp_path / "again" / "config.toml").read_text(encoding="utf-8"))
    assert again == {**config, "steps": 2}


def test_run_begins_with_a_line_about_its_network_and_not_with_all_settings(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = map(str, folders)
    assert (
        run(["train", "--source", source, "--target", target, "--out", str(tmp_path / "run"), "--steps", "1", *TINY])
        == 0
    )
    said = capsys.readouterr().err
    assert "U-Net, 3 down-samplings, base width 4" in said
    assert "patches of 32 px, 1 a step" in said
    assert "config.toml" in said
    assert "beta1 = " not in said


def test_paper_preset_writes_the_test_mode_of_the_paper(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = train_tiny(folders, tmp_path / "run", capsys, "--preset", "paper")
    model = load_model(Path(trained["model"]))
    assert (model.inference.statistics, model.inference.dropout) == ("image", "seeded")
    assert model.generator_config.dropout == "paper"


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_pairs_from_side_by_side_images(direction: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    for number in range(2):
        left = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(np.concatenate([left, 255 - left], 1)).save(folder / f"{number}.png")
    arguments: list[str | Path] = [
        "train",
        "--pairs",
        folder,
        "--direction",
        direction,
        "--out",
        tmp_path / "run",
        "--steps",
        "1",
        *TINY,
    ]
    assert result_of([*arguments, "--validation", "0.5"], capsys)["steps"] == 1


def test_pairs_from_a_table_with_channels_in_separate_files(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "pairs.csv"
    rows = [f"source/{n}.tif,target/{n}.tif,target/{n}.tif" for n in range(3)]
    table.write_text("\n".join(["source,source_2,target", *rows]))
    trained = result_of(["train", "--pairs", table, "--out", tmp_path / "run", "--steps", "1", *TINY], capsys)
    assert load_model(Path(trained["model"])).generator_config.source_channels == 2


def test_large_16_bit_pair_with_channels_per_file_and_a_held_out_region(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b", "t"):
        pixels = rng.integers(0, 60_000, (120, 200)).astype(np.uint16)
        (tmp_path / f"{name}.png").write_bytes(imagecodecs.png_encode(pixels))
    files: list[str | Path] = [
        "--source",
        tmp_path / "a.png",
        "--source",
        tmp_path / "b.png",
        "--target",
        tmp_path / "t.png",
    ]
    trained = result_of(
        ["train", *files, "--out", tmp_path / "run", "--steps", "1", *TINY, "--validation", "0:120,150:200"], capsys
    )
    model = load_model(Path(trained["model"]))
    assert model.source.channel_names == ("a", "b")
    inputs: list[str | Path] = [tmp_path / "a.png", tmp_path / "b.png"]
    translated = result_of(
        ["translate", *inputs, "--as-channels", "--model", trained["model"], "--out", tmp_path / "out.tif"], capsys
    )
    written = tifffile.imread(translated["outputs"][0])
    assert (written.shape, written.dtype.name) == ((120, 200), "uint16")
    scored = result_of(
        ["evaluate", "--model", trained["model"], *files, "--region", "0:120,150:200"],
        capsys,
    )
    assert scored["mean"]["mae"] > 0


def test_labels_are_translated_as_categories_with_their_colours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for side in ("photo", "label"):
        (tmp_path / side).mkdir()
    palette = [0, 0, 0, 200, 30, 30, 30, 200, 30]
    for number in range(2):
        label = np.zeros((32, 40), np.uint8)
        label[10:, 10:] = 1 + number
        image = Image.fromarray(label, mode="P")
        image.putpalette(palette)
        image.save(tmp_path / "label" / f"{number}.png")
        Image.fromarray(label * 100).save(tmp_path / "photo" / f"{number}.png")
    sides: list[str | Path] = ["--source", tmp_path / "photo", "--target", tmp_path / "label"]
    trained = result_of(
        ["train", *sides, "--out", tmp_path / "run", "--steps", "1", *TINY, "--validation", "0"], capsys
    )
    translated = result_of(
        ["translate", tmp_path / "photo", "--model", trained["model"], "--out", tmp_path / "out", "--format", "png"],
        capsys,
    )
    with Image.open(translated["outputs"][0]) as written:
        assert written.mode == "P"
        assert written.getpalette()[:9] == palette  # type: ignore[index]
        assert set(np.unique(np.asarray(written))) <= {0, 1, 2}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_output_has_the_size_of_the_input_and_the_type_of_the_target(
    dtype: str, channels: int, image_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "m.safetensors"
    save_model(model_for(1, channels, target=dtype), model)
    result_of(["translate", image_path, "--model", model, "--out", tmp_path / "out.ome.tif"], capsys)
    written = tifffile.imread(tmp_path / "out.ome.tif")
    assert written.dtype == np.dtype(dtype)
    assert written.size == channels * 40 * 50


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_weights_of_the_file_leave_the_memory_when_the_network_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from napari_pix2pix.translation import batch

    model, image, out = tmp_path / "kept-nowhere.safetensors", tmp_path / "grey.tif", tmp_path / "out.tif"
    save_model(model_for(1, 1), model)
    tifffile.imwrite(image, np.zeros((40, 40), np.uint8))
    translate_batch, mapped = batch.translate_batch, []

    def looked_at(*args: Any, **options: Any) -> Any:
        mapped.append(model.name in Path("/proc/self/maps").read_text())
        return translate_batch(*args, **options)

    monkeypatch.setattr(batch, "translate_batch", looked_at)
    result_of(["translate", image, "--model", model, "--out", out], capsys)
    assert mapped == [False]


@pytest.mark.parametrize(("dtype", "low"), [("uint64", 2**40), ("int64", -500)])
def test_integers_of_64_bits_are_trained_on_and_translated(
    dtype: str, low: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = tmp_path / "source", tmp_path / "target"
    for seed, folder in enumerate(folders):
        folder.mkdir()
        values = np.random.default_rng(seed).integers(low, low + 1000, (2, 64, 64)).astype(dtype)
        for number in range(2):
            tifffile.imwrite(folder / f"{number}.tif", values[number])
    train_tiny(folders, tmp_path / "run", capsys)
    model, out = tmp_path / "run" / "model.safetensors", tmp_path / "out.tif"
    result_of(["translate", folders[0] / "0.tif", "--model", model, "--out", out], capsys)
    written = tifffile.imread(out)
    assert (written.dtype, written.shape) == (np.dtype(dtype), (64, 64))
    assert low <= written.min() < written.max() < low + 1000


def test_stack_is_translated_plane_by_plane_with_its_pixel_size(
    model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (3, 24, 30), np.uint8)
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(tmp_path / "stack.ome.tif", stack, metadata=metadata)
    result_of(
        ["translate", tmp_path / "stack.ome.tif", "--model", model_path, "--out", tmp_path / "out.ome.tif"], capsys
    )
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as written:
        assert written.series[0].axes == "ZYX"
        assert 'PhysicalSizeX="0.25"' in (written.ome_metadata or "")
        planes = written.asarray()
    tifffile.imwrite(tmp_path / "plane.tif", stack[1])
    result_of(["translate", tmp_path / "plane.tif", "--model", model_path, "--out", tmp_path / "plane_out.tif"], capsys)
    assert np.array_equal(tifffile.imread(tmp_path / "plane_out.tif"), planes[1])


def test_nan_and_nodata_stay_what_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = np.random.default_rng(0).random((40, 50), np.float32)
    image[5:20, 10:30] = np.nan
    tifffile.imwrite(tmp_path / "in.tif", image)
    save_model(model_for(1, 1, "float32", "float32"), tmp_path / "m.safetensors")
    arguments: list[str | Path] = [
        "translate",
        tmp_path / "in.tif",
        "--model",
        tmp_path / "m.safetensors",
        "--out",
        tmp_path / "out.tif",
    ]
    result_of(arguments, capsys)
    assert np.array_equal(np.isnan(tifffile.imread(tmp_path / "out.tif")), np.isnan(image))


@pytest.mark.parametrize("size", [(1, 2), (3, 3), (9, 40)])
@pytest.mark.parametrize("value", [None, 7])
def test_tiny_and_constant_images_are_legal(
    size: tuple[int, int], value: int | None, model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, size, np.uint8) if value is None else np.full(size, value, np.uint8)
    Image.fromarray(image).save(tmp_path / "in.png")
    result_of(["translate", tmp_path / "in.png", "--model", model_path, "--out", tmp_path / "out.png"], capsys)
    with Image.open(tmp_path / "out.png") as written:
        assert written.size == size[::-1]


def test_dry_run_writes_nothing(
    model_path: Path, image_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["translate", image_path, "--model", model_path, "--out", tmp_path / "out.tif", "--dry-run"]
    assert run(list(map(str, arguments))) == 0
    assert "40 x 50 pixels, scheme whole" in capsys.readouterr().err
    assert not (tmp_path / "out.tif").exists()


def test_skipping_failures_translates_the_rest(
    folders: tuple[Path, Path], model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = folders[0] / "1.tif"
    damaged.write_bytes(damaged.read_bytes()[:200])
    arguments: list[str | Path] = [
        "translate",
        folders[0],
        "--model",
        model_path,
        "--out",
        tmp_path / "out",
        "--on-error",
        "skip",
    ]
    result = result_of([*arguments, "--format", "tiff"], capsys)
    assert [Path(p).name for p in result["outputs"]] == ["0.tif", "2.tif", "3.tif"]
    assert "1.tif" in result["failed"][str(damaged)]


def test_export_of_a_state_dict_and_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reference_pair: tuple[Path, Path]
) -> None:
    """Networks of the reference go in and come out under its names, unchanged."""
    model = tmp_path / "model.safetensors"
    generator, discriminator = reference_pair
    assert run(["import-weights", str(generator), "--discriminator", str(discriminator), "--out", str(model)]) == 0
    out = [tmp_path / "exported_G.pth", tmp_path / "exported_D.pth"]
    result = result_of(["export", model, "--format", "state-dict", "--out", out[0], "--discriminator", out[1]], capsys)
    assert result == {"outputs": [str(path) for path in out], "format": "state-dict", "warnings": []}
    for before, after in zip(reference_pair, out, strict=True):
        expected, found = (torch.load(path, weights_only=True) for path in (before, after))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_networks_that_were_trained_here_leave_and_come_back(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Generator and discriminator, by the names of the reference, to go on training from."""
    trained = train_tiny(folders, tmp_path / "run", capsys, "--depth", "5", "--norm", "batch")
    out = [tmp_path / "net_G.pth", tmp_path / "net_D.pth"]
    result_of(
        ["export", trained["model"], "--format", "state-dict", "--out", out[0], "--discriminator", out[1]], capsys
    )
    back = tmp_path / "back.safetensors"
    assert run(["import-weights", str(out[0]), "--discriminator", str(out[1]), "--out", str(back)]) == 0
    before, after = load_model(trained["model"]).discriminator, load_model(back).discriminator
    assert before is not None and after is not None
    assert before.config == after.config
    assert all(torch.equal(after.weights[name], before.weights[name]) for name in before.weights)


def test_export_to_onnx_documents_the_mapping(
    model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    out = tmp_path / "model.onnx"
    result_of(["export", model_path, "--format", "onnx", "--out", out, "--license", "CC0-1.0"], capsys)
    entries = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert entries["source_mapping"].endswith("pixels of type uint8; per channel: low = [0.0], high = [255.0]")
    assert "(clip(output, -1, 1) + 1) * (high - low) / 2 + low, rounded" in entries["target_mapping"]
    assert entries["inference"] == "norms use statistics of the whole image, dropout off"
    assert entries["license"] == "CC0-1.0"
    assert json.loads(entries["pix2pix"])["generator"]["base_width"] == 4


def test_onnx_with_its_mapping_is_the_translation(
    model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    image = np.random.default_rng(0).integers(0, 256, (48, 64), np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", image)
    result_of(["translate", tmp_path / "image.tif", "--model", model_path, "--out", tmp_path / "out.tif"], capsys)
    result_of(["export", model_path, "--format", "onnx", "--with-mapping", "--out", tmp_path / "model.onnx"], capsys)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (result,) = session.run(["target"], {"source": image[None, None]})
    translated = tifffile.imread(tmp_path / "out.tif")
    assert (result.dtype, result.shape) == (np.uint8, (1, 1, 48, 64))
    assert np.abs(result[0, 0].astype(int) - translated).max() <= 1
    assert translated.std() > 0


def test_info_describes_models_and_images(
    model_path: Path, image_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert result_of(["info", image_path], capsys)["shape"] == [1, 40, 50]
    described = result_of(["info", model_path], capsys)
    assert described["generator"]["base_width"] == 4
    assert described["credits"] == {"authors": [], "license": None, "citation": None}


def test_info_prints_the_card_of_a_model(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_tiny(folders, tmp_path / "run", capsys, "--author", "A. Author", "--license", "CC-BY-4.0")
    assert run(["info", str(tmp_path / "run" / "model.safetensors")]) == 0
    card = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert card["network"].startswith(
        "U-Net, 3 down-samplings, base width 4, batch renorm, no dropout, decoder by resizing and convolution, "
        "1 -> 1 channels"
    )
    assert card["source"] == "1 channel; uint8, 0..255 to [-1, 1]"
    assert card["mode"] == "norms use running averages of training, dropout off"
    assert card["training"].startswith("3 steps, ")
    assert "preset seamless, patches of 32 px, batch 1, seed 0" in card["training"]
    assert card["validation"].startswith("mae 0.")
    assert (card["authors"], card["licence"], card["citation"]) == ("A. Author", "CC-BY-4.0", "not stated")


def test_doctor_says_what_can_run_and_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    facts = result_of(["doctor"], capsys)
    assert facts["backends"]["torch"] == "ready"
    assert re.search(r"\d+ cores, \d+ threads, (with|no) bfloat16 instructions", facts["devices"]["cpu"])
    assert facts["problems"] == []


def test_demo_leaves_figure_model_and_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = result_of(["demo", "--out", tmp_path / "demo", "--steps", "2"], capsys)
    with Image.open(result["figure"]) as figure:
        assert figure.size[0] > 1000
    assert load_model(Path(result["model"])).generator_config.target_channels == 2
    assert result["scores"]["mae"] > 0
    assert run(["demo", "--out", str(tmp_path / "demo")]) == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    assert run(["demo", "--out", str(tmp_path / "mine"), "--overwrite"]) == 2
    assert (tmp_path / "mine" / "thesis.txt").exists()


def imported_by(code: str) -> set[str]:
    listing = f"import sys; {code}; print(*sorted(m.split('.')[0] for m in sys.modules))"
    found = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    return set(found.stdout.splitlines()[-1].split())


def test_the_list_of_commands_imports_nothing_that_takes_time() -> None:
    found = imported_by("from napari_pix2pix.cli.application import run; run(['--help'])")
    assert not found & {"torch", "napari", "qtpy", "PyQt6", "PySide6", "numpy", "tifffile", "pydantic"}


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"{version('napari-pix2pix')}\n"


def test_help_of_a_command_imports_neither_torch_nor_napari_nor_qt() -> None:
    found = imported_by("from napari_pix2pix.cli.application import run; run(['train', '--help'])")
    assert not found & {"torch", "napari", "qtpy", "PyQt6", "PySide6", "numpy", "tifffile"}


def test_a_command_that_is_listed_is_loaded_when_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    for name, (_, does) in COMMANDS.items():
        assert run([name, "--help"]) == 0
        assert does.split(": ")[0] in " ".join(capsys.readouterr().out.split())


def test_training_loads_no_package_that_it_does_not_use(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torchvision", "torchvision.transforms.v2", "zarr"):
        monkeypatch.setitem(sys.modules, name, None)
    changes = ["--flips", "both", "--quarter-turns", "--scale-jitter", "1.2", "--noise", "0.1"]
    train_tiny(folders, tmp_path / "run", capsys, *changes)
    with pytest.raises(ImportError):
        train_tiny(folders, tmp_path / "turned", capsys, "--rotation", "30")


def test_everything_but_the_widgets_imports_without_napari() -> None:
    modules = sorted(
        ".".join(path.with_suffix("").parts)
        for path in Path("napari_pix2pix").rglob("*.py")
        if path.name != "__init__.py" and "_widgets" not in path.parts
    )
    block = "sys.modules.update(napari=None, qtpy=None, magicgui=None)"
    imports = "; ".join(f"import {module}" for module in modules)
    assert "torch" in imported_by(f"{block}; {imports}")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for child processes")
def test_interrupt_keeps_what_is_finished(folders: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = map(str, folders)
    arguments = ["train", "--source", source, "--target", target, "--out", str(tmp_path / "run"), "--steps", "100000"]
    command = [sys.executable, "-m", "napari_pix2pix", *arguments, *TINY, "--validate-every", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ}) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "metrics.csv").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in errors
    assert (tmp_path / "run" / "last.pt").exists()
    assert load_model(tmp_path / "run" / "model.safetensors").training["step"] > 0


@pytest.mark.parametrize("again", ["the file", "its folder", "its folder in other words"])
def test_an_input_that_is_named_twice_is_translated_once(
    again: str, tmp_path: Path, model_path: Path, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = folders[0], sorted(folders[0].iterdir())[0]
    inputs: dict[str, list[Path | str]] = {
        "the file": [file, file],
        "its folder": [file, folder],
        "its folder in other words": [folder, f"{folder}/."],
    }
    arguments = [str(path) for path in inputs[again]]
    out = tmp_path / "out"
    assert run(["translate", *arguments, "--model", str(model_path), "--out", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    names = [file.name] if again == "the file" else sorted(path.name for path in folder.iterdir())
    assert sorted(Path(path).name for path in result["outputs"]) == names
    assert any("is named more than once and is used once" in warning for warning in result["warnings"])
