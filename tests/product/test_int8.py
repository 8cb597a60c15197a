"""``compile --precision int8`` and ``translate --precision int8``: the same in tiles, close to float32, or a reason."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from benchmarks import backends, int8_quality, student_speeds
from napari_pix2pix.cli.application import run
from napari_pix2pix.translation import int8_calibration
from napari_pix2pix.translation.backends import openvino_runner
from napari_pix2pix.translation.backends.stage_runner import UnequalEngineError
from napari_pix2pix.translation.int8_calibration import with_int8
from napari_pix2pix.translation.progress import ended
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training import device, int8_measurement
from pix2pix_training.array_source import AnyArray, MemorySource
from pix2pix_training.errors import EngineError, ModelFileError, SettingsError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import LinearMapping, foreground_mapping
from pix2pix_training.model_file import Model, load_model, model_digest, save_model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import pad_to_stride
from pix2pix_training.quantisation import (
    FIRST,
    IMAGE_IN_8_BITS,
    LAST,
    Int8Traits,
    convolution_names,
    without_last,
)
from pix2pix_training.regions import Region
from pix2pix_training.stages import Rounded, Stage, StageSpec
from tests.product.translation.conftest import random_image, random_model

CONFIG = GeneratorConfig(source_channels=1, target_channels=1, base_width=4, depth=4)

needs_int8 = pytest.mark.skipif(
    openvino_runner.unavailable_reason() is not None or not device.has_int8(),
    reason="OpenVINO or a processor with VNNI is missing",
)


def model_of(config: GeneratorConfig = CONFIG, inference: InferenceConfig | None = None) -> Model:
    """With results in float32, so that nothing is hidden by rounding."""
    model = random_model(config, inference or InferenceConfig())
    exact = LinearMapping(dtype="float32", scope="training-set", channels=1, low=(-1.0,), high=(1.0,))
    return replace(model, target=replace(model.target, mapping=exact))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(model_of(), tmp_path / "model.safetensors")
    (tmp_path / "images").mkdir()
    for number in range(4):
        tifffile.imwrite(tmp_path / "images" / f"{number}.tif", random_image(1, 60, 80, seed=number)[0])
    tifffile.imwrite(tmp_path / "image.tif", random_image(1, 150, 170, seed=9)[0])
    return tmp_path


def made_ready(folder: Path, *options: str) -> int:
    asked = ["--backend", "openvino", "--precision", "int8"]
    return run(["compile", str(folder / "model.safetensors"), *asked, *options])


def ready(folder: Path) -> Path:
    assert made_ready(folder, "--sample", str(folder / "images")) == 0
    return folder / "model-int8.safetensors"


def translated(model: Path, folder: Path, *options: str) -> AnyArray:
    out = folder / "result.tif"
    arguments = [str(folder / "image.tif"), "--model", str(model), "--out", str(out), "--overwrite", *options]
    assert run(["translate", *arguments]) == 0
    return tifffile.imread(out)


def test_a_model_is_made_ready_beside_its_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert made_ready(folder, "--sample", str(folder / "images"), "--json") == 0
    output = capsys.readouterr()
    said = json.loads(output.out.splitlines()[-1])
    before, after = load_model(folder / "model.safetensors"), load_model(folder / "model-int8.safetensors")
    assert said["model"] == str(folder / "model-int8.safetensors")
    assert after.int8 is not None
    assert set(after.int8.roundings) == set(said["int8"]["roundings"])
    assert {*after.int8.roundings, LAST} == set(convolution_names(CONFIG))
    assert 0 < after.int8.deviation <= after.int8.worst < 0.005
    assert "differ from those in float32 by" in output.err
    assert model_digest(before) != model_digest(after) == model_digest(replace(before, int8=after.int8))
    assert run(["info", str(folder / "model-int8.safetensors")]) == 0
    assert "int8: results differ" in capsys.readouterr().out
    assert made_ready(folder, "--sample", str(folder / "images")) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_what_costs_more_than_half_of_what_is_allowed_is_not_in_8_bits(folder: Path, dtype: str) -> None:
    """First the image is not, then the last convolution is not."""
    model = load_model(folder / "model.safetensors")
    wide = LinearMapping(dtype=dtype, scope="training-set", channels=1, low=(0.0,), high=(255.0,))
    model = replace(model, source=replace(model.source, mapping=wide))
    sample = [MemorySource(np.random.default_rng(0).integers(0, 256, (1, 256, 256)).astype(dtype))]

    def found(most_deviation: float) -> Int8Traits:
        traits = ended(with_int8(model, sample, most_deviation=most_deviation)).int8
        assert traits is not None
        return traits

    everything = found(1.0)
    assert LAST in everything.roundings
    assert (everything.roundings[FIRST] == IMAGE_IN_8_BITS) is (dtype == "uint8")
    if dtype == "uint8":
        inner = found(1.99 * everything.deviation)
        assert inner.roundings[FIRST] == (-12, 4096)  # 8192 steps from -1 to 1
        assert {**inner.roundings, FIRST: IMAGE_IN_8_BITS} == everything.roundings
        assert 0 < inner.deviation < everything.deviation
        everything = inner
    others = found(1.99 * everything.deviation)
    assert others.roundings == without_last(everything.roundings)
    assert 0 < others.deviation < everything.deviation


@needs_int8
@pytest.mark.parametrize("most_deviation", [1.0, 0.01, 0.004])
@pytest.mark.parametrize("split", ["whole", "1", "2", "3"])
def test_what_is_chosen_is_computed_by_openvino(
    split: str, most_deviation: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Of other combinations of what is in 8 bits it was seen to compute some wrongly."""
    sample = [MemorySource(random_image(1, 200, 220, seed=seed)) for seed in (1, 2)]
    model = ended(with_int8(model_of(replace(CONFIG, base_width=8)), sample, most_deviation=most_deviation))
    settings = TranslationSettings(precision="int8", device="cpu", scheme="whole")
    if split != "whole":
        settings = replace(settings, scheme="exact", tile=64, split_level=int(split))
    for _ in Translator(model, settings).tiles(MemorySource(random_image(1, 150, 170, seed=7))):
        pass
    assert "OpenVINO is wrong" not in caplog.text


@needs_int8
@pytest.mark.parametrize("rounded", ["all", "all but the last"])
@pytest.mark.parametrize("split", ["1", "2"])
def test_in_tiles_the_result_is_that_of_the_whole_image(folder: Path, rounded: str, split: str) -> None:
    """And close to float32, from which it yet differs; stages are compared with the same integers in PyTorch."""
    model = ready(folder)
    if rounded == "all":
        sample = [MemorySource(tifffile.imread(folder / "image.tif")[None])]
        save_model(ended(with_int8(load_model(model), sample, most_deviation=1.0)), model)
    found = load_model(model).int8
    assert found is not None and (LAST in found.roundings) == (rounded == "all")
    whole = translated(model, folder, "--precision", "int8", "--scheme", "whole")
    asked = ["--scheme", "exact", "--tile", "32", "--split-level", split]
    tiles = translated(model, folder, "--precision", "int8", *asked)
    exact = translated(model, folder, "--precision", "fp32", "--scheme", "whole")
    assert np.abs(tiles - whole).max() < 2e-6
    assert 1e-4 < np.abs(whole - exact).mean() / 2 < (0.01 if rounded == "all" else 0.005)


@needs_int8
@pytest.mark.parametrize("height", [16, 128])
@torch.inference_mode()
def test_deep_features_one_cell_wide_are_those_of_pytorch(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO alone gives others, and compares itself with PyTorch at one size only."""
    monkeypatch.setattr(openvino_runner, "require_parity", lambda *_: None)
    sample = [MemorySource(random_image(1, 128, 128))]
    translator = Translator(
        ended(with_int8(model_of(replace(CONFIG, base_width=8)), sample, most_deviation=1.0)),
        TranslationSettings(precision="int8", device="cpu"),
    )
    network = translator._network
    runner = openvino_runner.OpenVinoRunner(network, "int8")
    spec = StageSpec(gives="up", level=3, top=4, start=3, rounded=Rounded.FEATURES)
    features = torch.randint(0, 256, (1, network.config.feature_channels(3), height >> 3, 2), dtype=torch.uint8)
    assert torch.equal(runner.run(spec, {"features": features}), Stage(network, spec)(features))


@needs_int8
@pytest.mark.parametrize("most_deviation", [1.0, 0.008])
@pytest.mark.parametrize("size", [(64, 64), (64, 50), (640, 40)])
@torch.inference_mode()
def test_narrow_images_are_computed_by_openvino_but_for_the_deepest_levels(
    size: tuple[int, int], most_deviation: float, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(replace(CONFIG, base_width=8, depth=6))
    sample = [MemorySource(random_image(1, 200, 220, seed=seed)) for seed in (1, 2)]
    model = ended(with_int8(model, sample, most_deviation=most_deviation))
    translator = Translator(model, TranslationSettings(precision="int8", device="cpu"))
    network = copy.deepcopy(translator._network)
    ran: list[StageSpec] = []
    compute = openvino_runner.OpenVinoRunner._inferred

    def noted(runner: openvino_runner.OpenVinoRunner, request: Any, spec: StageSpec, inputs: Any) -> torch.Tensor:
        ran.append(spec)
        return compute(runner, request, spec, inputs)

    monkeypatch.setattr(openvino_runner.OpenVinoRunner, "_inferred", noted)
    image = random_image(1, *size, seed=3)
    ((_, _, found),) = translator.tiles(MemorySource(image))
    x = model.source.mapping.to_network(torch.from_numpy(image)[None])
    expected = network(pad_to_stride(x, 64))[0, :, : size[0], : size[1]].numpy()
    assert np.abs(found - expected).max() < 2e-6
    assert {(spec.gives, spec.top) for spec in ran} == {("encoded", 3), ("up", 3)}
    assert "OpenVINO is wrong" not in caplog.text


@needs_int8
def test_what_openvino_gets_wrong_pytorch_computes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ready(folder)
    options = ["--precision", "int8", "--scheme", "exact", "--tile", "32", "--split-level", "2"]
    expected = translated(model, folder, *options)
    assert "OpenVINO is wrong" not in capsys.readouterr().err

    def unequal(*_: object) -> None:
        raise UnequalEngineError("in int8 it deviates from PyTorch")

    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setattr(openvino_runner, "require_parity", unequal)
    assert np.abs(translated(model, folder, *options) - expected).max() < 2e-6
    assert "OpenVINO is wrong in a part of this network (in int8 it deviates from PyTorch)" in capsys.readouterr().err


@needs_int8
def test_what_openvino_would_compute_in_float32_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_runner.OpenVinoRunner, "_fix_ranges", lambda *_: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    with pytest.raises(EngineError, match="where int8 is wanted"):
        translator = Translator(load_model(ready(folder)), TranslationSettings(precision="int8"))
        list(translator.tiles(MemorySource(random_image(1, 64, 64))))


@needs_int8
def test_a_model_that_was_trained_here_needs_no_sample(folder: Path) -> None:
    train = ["train", "--source", str(folder / "images"), "--target", str(folder / "images"), "--out"]
    small = ["--patch-size", "32", "--depth", "3", "--base-width", "2", "--steps", "2", "--validation", "0.25"]
    assert run([*train, str(folder / "run"), *small, "--source-values", "dtype", "--target-values", "dtype"]) == 0
    trained = folder / "run" / "model.safetensors"
    assert translated(trained, folder, "--precision", "int8").shape == (150, 170)
    trained.replace(folder / "model.safetensors")
    assert made_ready(folder) == 0
    assert model_digest(load_model(folder / "model-int8.safetensors")) == model_digest(
        load_model(folder / "model.safetensors")
    )


@pytest.mark.parametrize(
    "options, words",
    [
        ([], "was not made ready for precision int8; do that with compile MODEL"),
        (["--target", "IMAGES"], "--target belongs to the images of --sample"),
        (["--sample", "IMAGES", "--architectures", "sm86"], "leave it out"),
        (["--sample", "IMAGES/0.tif", "--target", "IMAGES/1.tif"], "pixels of uint8"),
        (["--sample", "nowhere"], "nowhere"),
        (["--sample", "WIDE"], "the model was trained on uint8; give images of that type"),
    ],
)
def test_wrong_use_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    tifffile.imwrite(folder / "wide.tif", random_image(1, 60, 80, "uint16")[0])
    named = {"IMAGES": str(folder / "images"), "WIDE": str(folder / "wide.tif")}
    given = [re.sub("IMAGES|WIDE", lambda found: named[found.group()], option) for option in options]
    assert made_ready(folder, *given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line and "--convert-values" not in line
    assert not (folder / "model-int8.safetensors").exists()


@pytest.mark.parametrize(
    "config, inference, words",
    [
        (replace(CONFIG, architecture="resnet"), InferenceConfig(), "ResNet"),
        (replace(CONFIG, norm="instance"), InferenceConfig(statistics="image"), "statistics of each image"),
    ],
)
def test_networks_that_cannot_are_refused(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    config: GeneratorConfig,
    inference: InferenceConfig,
    words: str,
) -> None:
    save_model(model_of(config, inference), folder / "model.safetensors")
    translate = [
        str(folder / "image.tif"),
        "--model",
        str(folder / "model.safetensors"),
        "--out",
        str(folder / "o.tif"),
    ]
    assert made_ready(folder, "--sample", str(folder / "images")) == 2
    assert made_ready(folder) == 2
    assert run(["translate", *translate, "--precision", "int8"]) == 2
    for line in capsys.readouterr().err.splitlines():
        assert words in line


def test_channels_that_lie_in_files_of_their_own(folder: Path) -> None:
    model = random_model(replace(CONFIG, source_channels=2), InferenceConfig())
    save_model(model, folder / "model.safetensors")
    for side in ("red", "targets"):
        (folder / side).mkdir()
        for number in range(4):
            tifffile.imwrite(folder / side / f"{number}.tif", random_image(1, 60, 80, seed=20 + number)[0])
    sample = ["--sample", str(folder / "images"), "--sample", str(folder / "red")]
    assert made_ready(folder, *sample) == 0
    without = load_model(folder / "model-int8.safetensors").int8
    assert made_ready(folder, *sample, "--target", str(folder / "targets"), "--overwrite") == 0
    judged = load_model(folder / "model-int8.safetensors").int8
    assert without is not None and judged is not None and judged.psnr_loss is not None
    assert without == replace(judged, psnr_loss=None)


def test_a_sample_of_one_part_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert made_ready(folder, "--sample", str(folder / "images" / "0.tif")) == 0  # parts of 64 x 64
    tifffile.imwrite(folder / "small.tif", random_image(1, 30, 40)[0])
    assert made_ready(folder, "--sample", str(folder / "small.tif"), "--overwrite") == 2
    assert "more or larger images" in capsys.readouterr().err


@pytest.mark.parametrize("value", [np.nan, 7.0])
def test_a_sample_without_content_is_refused(value: float, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    floats = random_model(CONFIG, InferenceConfig(), dtype="float32")
    save_model(floats, folder / "model.safetensors")
    tifffile.imwrite(folder / "empty.tif", np.full((200, 200), value, np.float32))
    assert made_ready(folder, "--sample", str(folder / "empty.tif")) == 2
    assert "of the parts of the sample, 64 x 64 pixels or smaller, 0 have valid pixels that" in capsys.readouterr().err


def test_parts_are_as_small_as_gives_enough_of_them_with_content() -> None:
    model = random_model(CONFIG, InferenceConfig(), dtype="float32")
    image = random_image(1, 2048, 2048, "float32")
    image[:, 256:] = np.nan
    made = ended(int8_calibration.with_int8(model, [MemorySource(image)], most_deviation=1.0))
    assert made.int8 is not None
    assert made.int8.parts == 8  # of 256 x 256


def test_what_is_invalid_does_not_count() -> None:
    """Of parts that are mostly nodata, the valid pixels alone are judged, and those of the target."""
    model = random_model(CONFIG, InferenceConfig(), dtype="float32")
    images = [random_image(1, 64, 64, "float32", seed) for seed in range(8)]
    targets = [image.copy() for image in images]
    for image, target in zip(images, targets, strict=True):
        image[:, 16:] = np.nan
        target[:, :, 32:] = np.nan
    made = ended(int8_calibration.with_int8(model, *([MemorySource(i) for i in side] for side in (images, targets))))
    assert made.int8 is not None
    network = model.generator()
    known = int8_calibration.known_pair(model, MemorySource(images[0]), MemorySource(targets[0]))
    part = int8_measurement.Part(known, (), Region.whole(64, 64))
    other = copy.deepcopy(network)
    network.register_forward_hook(lambda _m, _g, given: torch.zeros_like(given))

    def wrong_where_it_does_not_count(_m: object, _g: object, given: torch.Tensor) -> torch.Tensor:
        result = torch.zeros_like(given)
        result[..., 16:, :] = 1
        return result

    other.register_forward_hook(wrong_where_it_does_not_count)
    assert part.cost(network, other) == int8_measurement._Cost(0.0, 0.0)


def test_targets_of_categories_are_said_to_be_left_aside(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = replace(CONFIG, target_channels=2)
    model = random_model(config, InferenceConfig())
    save_model(replace(model, target=replace(model.target, mapping=foreground_mapping())), folder / "model.safetensors")
    (folder / "labels").mkdir()
    for number in range(4):
        tifffile.imwrite(folder / "labels" / f"{number}.tif", np.full((60, 80), 300, np.uint16))
    assert made_ready(folder, "--sample", str(folder / "images"), "--target", str(folder / "labels")) == 0
    assert "the targets are categories, which have no PSNR, so they are not used" in capsys.readouterr().err


def test_beyond_the_limit_of_the_deviation(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = partial(int8_calibration.with_int8, most_deviation=1e-5)
    monkeypatch.setattr(int8_calibration, "with_int8", strict)
    assert made_ready(folder, "--sample", str(folder / "images")) == 2
    assert "of their range in the mean, and 0.001 % is allowed" in capsys.readouterr().err


def test_beyond_the_limit_of_psnr(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against results in float32 as targets any difference is a loss; of enough images, each is a part as a whole."""
    for number in range(4, 8):
        tifffile.imwrite(folder / "images" / f"{number}.tif", random_image(1, 60, 80, seed=number)[0])
    arguments = ["--model", str(folder / "model.safetensors"), "--out", str(folder / "targets"), "--backend", "torch"]
    assert run(["translate", str(folder / "images"), *arguments]) == 0
    for path in (folder / "targets").iterdir():
        path.rename(path.with_name(path.name.split(".")[0] + ".tif"))
    assert made_ready(folder, "--sample", str(folder / "images"), "--target", str(folder / "targets")) == 2
    assert "dB of PSNR against the targets, and 0.3 dB is allowed" in capsys.readouterr().err


def test_models_and_processors_that_are_not_ready(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TranslationSettings(precision="int8", device="cpu")
    with pytest.raises(SettingsError, match="was not made ready for precision int8; do that with compile MODEL"):
        Translator(model_of(), settings)
    model = load_model(ready(folder))
    with pytest.raises(SettingsError, match="statistics of each image"):
        Translator(model, replace(settings, statistics="image"))
    monkeypatch.setattr("napari_pix2pix.translation.translator.has_int8", lambda: False)
    with pytest.raises(SettingsError, match="VNNI"):
        Translator(model, settings)
    with pytest.raises(SettingsError, match="runs with OpenVINO"):
        replace(settings, backend="torch")


@pytest.mark.parametrize("change", [{"decoder_2": None}, {"decoder_2": (-3, 256)}, {"decoder_0": (-3, 0)}])
def test_roundings_that_do_not_fit_the_network_of_a_file(
    folder: Path, change: dict[str, tuple[int, int] | None]
) -> None:
    model = load_model(ready(folder))
    assert model.int8 is not None
    roundings = {name: value for name, value in {**model.int8.roundings, **change}.items() if value is not None}
    save_model(replace(model, int8=replace(model.int8, roundings=roundings)), folder / "damaged.safetensors")
    with pytest.raises(ModelFileError, match="roundings of int8 are not those of the generator"):
        load_model(folder / "damaged.safetensors")


def test_an_export_says_that_it_leaves_int8_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxscript")
    assert run(["export", str(ready(folder)), "--format", "onnx", "--out", str(folder / "model.onnx")]) == 0
    assert "without how it computes in int8; the model file keeps it" in capsys.readouterr().err
    export = ["export", str(folder / "model-int8.safetensors"), "--out", str(folder / "int8.onnx"), "--format", "onnx"]
    assert run([*export, "--precision", "int8"]) == 0
    assert "without how it computes" not in capsys.readouterr().err
    assert b"QuantizeLinear" in (folder / "int8.onnx").read_bytes()
    assert run([*export, "--precision", "int4", "--overwrite"]) == 2
    assert "precision is 'int4'; choose one of fp32, int8" in capsys.readouterr().err


@needs_int8
def test_the_benchmark_of_students(folder: Path) -> None:
    narrow = replace(CONFIG, base_width=2)
    save_model(random_model(CONFIG, InferenceConfig()), folder / "teacher.safetensors")
    save_model(random_model(narrow, InferenceConfig()), folder / "student.safetensors")
    words = ["--teacher", str(folder / "teacher.safetensors"), "--students", str(folder / "student.safetensors")]
    student_speeds.main(
        [*words, "--source", str(folder / "images"), "--size", "256", "--repeats", "1", "--out", str(folder)]
    )
    rows = json.loads((folder / "student_speeds.json").read_text())["rows"]
    assert [(row["name"], row["base_width"], len(row["seconds"])) for row in rows] == [
        ("teacher, plain PyTorch", 4, 1),
        ("teacher", 4, 1),
        ("student", 2, 1),
        ("student, int8", 2, 1),
    ]


@needs_int8
@pytest.mark.slow
@pytest.mark.parametrize("files", [[], ["--files"]])
def test_the_benchmark_of_backends(tmp_path: Path, files: list[str]) -> None:
    words = ["--size", "512", "--base-width", "2", "--repeats", "1", "--statistics", "running", *files]
    backends.main(["--out", str(tmp_path), *words, "--only", backends.PLAIN, "openvino, exact, fp32", backends.INT8])
    plain, exact, int8 = json.loads((tmp_path / "backends.json").read_text())["entries"]
    assert plain["largest_difference"] == 0
    assert exact["largest_difference"] < (0.01 if files else 1e-4)  # a step of 8 bits
    assert exact["largest_difference"] < int8["largest_difference"]


def test_the_benchmark_of_what_8_bits_cost(folder: Path) -> None:
    images, model = str(folder / "images"), folder / "of_bytes.safetensors"
    save_model(random_model(CONFIG, InferenceConfig()), model)
    int8_quality.main(["--out", str(folder), "--set", "noise", str(model), images, images])
    own, symmetric = json.loads((folder / "int8_quality.json").read_text())["rows"]
    assert 0 < own["mean"] < symmetric["mean"] < symmetric["worst"] < 0.1
    assert own["psnr"] == pytest.approx(own["psnr_in_float32"], abs=0.3)
    assert len((folder / "int8_quality.md").read_text().splitlines()) == 4
