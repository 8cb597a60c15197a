"""Every backend gives what PyTorch gives, or says why it does not run."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_pix2pix.translation.backends import selection
from napari_pix2pix.translation.backends.selection import (
    MEASURING_PAYS_MACS,
    RunnerWithAlternative,
    choose_backend,
    unavailable_reasons,
)
from napari_pix2pix.translation.backends.speeds import Speeds
from napari_pix2pix.translation.backends.stage_runner import TorchRunner
from napari_pix2pix.translation.cost import generator_macs
from napari_pix2pix.translation.pipeline import translate_array
from napari_pix2pix.translation.plan import BackendChoice
from napari_pix2pix.translation.settings import Scheme, TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import AnyArray
from pix2pix_training.choices import Norm, Statistics
from pix2pix_training.errors import BackendError, EngineError, EngineFileError, SettingsError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import LinearMapping
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.stages import StageSpec, whole_stage
from tests.product.translation.conftest import random_image, random_model

CPU = torch.device("cpu")
WHOLE = whole_stage(GeneratorConfig(depth=4))
SIZE = (150, 203)
EXACT = TranslationSettings(scheme="exact", tile=64, split_level=2, statistics="image")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("napari_pix2pix.translation.backends.cache.default_folder", lambda: tmp_path / "engines")
    return tmp_path / "engines"


@pytest.fixture
def openvino() -> Any:
    return pytest.importorskip("openvino", reason="OpenVINO is not installed")


def model_of(norm: Norm = "batch", **changes: Any) -> Model:
    config = GeneratorConfig(source_channels=2, target_channels=1, base_width=4, depth=4, norm=norm)
    model = random_model(replace(config, **changes), InferenceConfig(statistics="image"))
    unchanged = LinearMapping(dtype="float32", scope="dtype", channels=1, low=(-1.0,), high=(1.0,))
    return replace(model, target=ImageDescription(mapping=unchanged))


def result(model: Model, settings: TranslationSettings) -> AnyArray:
    return translate_array(random_image(2, *SIZE), model, settings)


@pytest.mark.usefixtures("openvino")
@pytest.mark.parametrize("norm, statistics", [("batch", "running"), ("batch", "image"), ("instance", "image")])
def test_openvino_equals_torch_in_exact_tiles(norm: Norm, statistics: Statistics) -> None:
    model = model_of(norm, dropout="paper")
    settings = replace(EXACT, statistics=statistics, dropout="seeded", backend="torch")
    expected = result(model, settings)
    found = result(model, replace(settings, backend="openvino"))
    assert expected.std() > 0.02
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.usefixtures("openvino")
def test_openvino_has_models_of_one_size_for_full_tiles_only() -> None:
    """What is run must depend on the window alone, or a resumed translation might end in other numbers."""
    from napari_pix2pix.translation.backends.openvino_runner import OpenVinoRunner

    network = model_of().generator()
    runner, torch_runner = OpenVinoRunner(network, "fp32"), TorchRunner(network)
    shallow = StageSpec(gives="encoded", level=2, top=2, start=0)
    deep = StageSpec(gives="up", level=2, top=4, start=2)

    def run(spec: StageSpec, rows: int, columns: int) -> None:
        channels = network.config.feature_channels(spec.start or 0)
        x = torch.rand(1, channels, rows, columns)
        with torch.inference_mode():
            deviation = runner.run(spec, {"features": x}) - torch_runner.run(spec, {"features": x})
        assert deviation.abs().max() < 1e-5

    for size in ((32, 32), (32, 48), (40, 40), (32, 32), (48, 32)):
        run(shallow, *size)
    run(deep, 16, 16)
    shapes = {spec: [sizes for known, sizes in runner._requests if known == spec] for spec in (shallow, deep)}
    assert shapes == {shallow: [None, ((1, 32, 32, 2),)], deep: [None]}


@pytest.mark.usefixtures("openvino")
@pytest.mark.parametrize("decoder", ["resize", "pixel-shuffle"])
def test_openvino_runs_every_decoder(decoder: str) -> None:
    settings = replace(EXACT, statistics="running", backend="torch")
    model = model_of(decoder=decoder)
    expected = result(model, settings)
    assert expected.std() > 0.02
    assert np.abs(result(model, replace(settings, backend="openvino")) - expected).max() < 1e-4


@pytest.mark.usefixtures("openvino")
@pytest.mark.parametrize("scheme, architecture", [("whole", "unet"), ("blend", "unet"), ("exact", "resnet")])
def test_openvino_runs_every_scheme(scheme: Scheme, architecture: Any) -> None:
    model = model_of(architecture=architecture, blocks=1)
    settings = TranslationSettings(scheme=scheme, tile=64, statistics="running", backend="torch")
    difference = result(model, replace(settings, backend="openvino")) - result(model, settings)
    assert np.abs(difference).max() < 1e-4


@pytest.mark.usefixtures("openvino")
def test_openvino_in_half_precision_comes_close() -> None:
    full = result(model_of(), replace(EXACT, backend="torch"))
    half = result(model_of(), replace(EXACT, backend="openvino", precision="bf16"))
    assert np.abs(full - half).mean() < 0.03


@pytest.mark.usefixtures("openvino")
def test_compiled_stages_are_found_again(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(EXACT, backend="openvino")
    expected = result(model_of(), settings)
    assert list(own_cache.iterdir())

    def compiled_again(*_: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr("napari_pix2pix.translation.backends.openvino_runner.OpenVinoRunner._converted", compiled_again)
    assert np.array_equal(result(model_of(), settings), expected)
    with pytest.raises(AssertionError, match="compiled again"):
        result(model_of(base_width=5), settings)


@pytest.mark.usefixtures("openvino")
def test_other_numbers_than_those_of_torch_are_refused(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_pix2pix.translation.backends.openvino_runner import OpenVinoRunner

    inferred = OpenVinoRunner._inferred

    def wrong(self: OpenVinoRunner, request: Any, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        return inferred(self, request, spec, inputs) * 1.01

    monkeypatch.setattr(OpenVinoRunner, "_inferred", wrong)
    with pytest.raises(EngineError, match=r"deviates from PyTorch by .* of the range"):
        result(model_of(), replace(EXACT, backend="openvino"))
    assert not list(own_cache.glob("*.engine"))


@pytest.mark.usefixtures("openvino")
def test_automatic_choice_goes_on_with_torch(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from napari_pix2pix.translation.backends.openvino_runner import OpenVinoRunner

    def fail(*_: object) -> Tensor:
        raise EngineError("the results differ")

    monkeypatch.setattr(selection, "MEASURING_PAYS_MACS", 0)
    monkeypatch.setattr(
        "napari_pix2pix.translation.translator.measured_speeds", lambda *_: Speeds(torch=1.0, openvino=2.0)
    )
    monkeypatch.setattr(OpenVinoRunner, "_compiled", fail)
    translator = Translator(model_of(), EXACT)
    plan = translator.plan(SIZE)
    assert translator.ran_with(plan)[0].name == "openvino"
    found = result_of(translator)
    assert np.array_equal(found, result(model_of(), replace(EXACT, backend="torch")))
    assert translator.ran_with(plan)[0] == BackendChoice(name="torch", reason="openvino failed: the results differ")
    assert "torch goes on: the results differ" in caplog.text


def result_of(translator: Translator) -> AnyArray:
    from pix2pix_training.array_source import MemorySource

    image = random_image(2, *SIZE)
    whole: AnyArray = np.empty((1, *SIZE), np.float32)
    for _, region, pixels in translator.tiles(MemorySource(image)):
        whole[:, *region.slices] = pixels
    return whole


@pytest.mark.parametrize("error", [EngineError, EngineFileError, BackendError])
def test_alternative_takes_over_for_good(error: type[Exception]) -> None:
    network = model_of().generator()
    calls = []

    class Failing(TorchRunner):
        name = "failing"

        def run(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
            calls.append(spec)
            raise error("no")

    runner = RunnerWithAlternative(Failing(network), TorchRunner(network, torch.float32))
    x = torch.rand(1, 2, 32, 32)
    with torch.inference_mode():
        for _ in range(2):
            assert torch.equal(runner.run(whole_stage(network.config), {"features": x}), network(x))
    assert (runner.name, runner.precision, runner.problem) == ("torch", "fp32", "failing failed: no")
    assert len(calls) == 1


@pytest.mark.usefixtures("openvino")
def test_nothing_is_measured_for_small_images_other_precisions_or_what_was_asked_for() -> None:
    assert choose_backend("auto", CPU, MEASURING_PAYS_MACS / 2).name == "torch"
    assert choose_backend("openvino", CPU, 0) == BackendChoice(name="openvino", reason="asked for")
    assert choose_backend("auto", CPU, MEASURING_PAYS_MACS, torch.bfloat16).name == "torch"
    assert choose_backend("openvino", CPU, 0, torch.bfloat16).name == "openvino"


@pytest.mark.usefixtures("openvino")
@pytest.mark.parametrize(
    "speeds, macs, name, words",
    [
        (Speeds(torch=1e11), 1e12, "torch", "the image is too small for trying OpenVINO to pay"),
        (Speeds(torch=1e11, openvino=2e11), 5e12, "openvino", "OpenVINO ran at 2.00 times the speed of PyTorch here"),
        (Speeds(torch=1e11, openvino=1.1e11), 1e12, "torch", "1.10 times .* too little for this image to make up"),
        (Speeds(torch=1e11, openvino=0.5e11), 1e14, "torch", "OpenVINO ran at 0.50 times the speed of PyTorch here"),
        (Speeds(torch=1e11, openvino=0.0), 1e14, "torch", "OpenVINO failed when it was tried"),
    ],
)
def test_the_one_that_is_sooner_done_is_chosen(speeds: Speeds, macs: float, name: str, words: str) -> None:
    choice = choose_backend("auto", CPU, macs, speeds=lambda: speeds)
    assert choice.name == name
    assert re.fullmatch(f".*{words}.*", choice.reason)
    assert choice.alternative == (name == "openvino")


@pytest.mark.usefixtures("openvino")
def test_images_add_up_to_what_compiling_pays_for(monkeypatch: pytest.MonkeyPatch) -> None:
    translator = Translator(model_of(), EXACT)
    image_macs = generator_macs(model_of().generator_config) * 160 * 208
    monkeypatch.setattr(selection, "MEASURING_PAYS_MACS", 0)
    monkeypatch.setattr(
        "napari_pix2pix.translation.translator.measured_speeds",
        lambda *_: Speeds(torch=image_macs / 4, openvino=image_macs / 2),
    )
    names = [translator.plan(SIZE).backend.name for _ in range(4)]
    assert names == ["torch", "torch", "openvino", "openvino"]


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match=r'pip install "napari-pix2pix\[openvino\]"'):
        Translator(model_of(), TranslationSettings(backend="openvino"))
    choice = choose_backend("auto", CPU, 1e15)
    assert choice.name == "torch"
    assert "not installed" in choice.reason
    assert "not installed" in str(unavailable_reasons()["openvino"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_tensorrt_without_gpu_is_an_error(backend: Any) -> None:
    with pytest.raises(BackendError, match="choose another backend"):
        Translator(model_of(), TranslationSettings(backend=backend))


@pytest.mark.parametrize(
    "missing, chosen, words",
    [
        ({}, "tensorrt", "a GPU that it can use"),
        ({"tensorrt": "TensorRT is not installed"}, "tensorrt-rtx", "a GPU that it can use"),
        (
            {"tensorrt": "TensorRT is not installed", "tensorrt-rtx": "the driver is too old"},
            "torch",
            "on the GPU; TensorRT is not installed; the driver is too old",
        ),
    ],
)
def test_automatic_choice_on_a_gpu(
    missing: dict[str, str], chosen: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "availability", missing.get)
    choice = choose_backend("auto", torch.device("cuda"), 0)
    assert (choice.name, choice.reason, choice.alternative) == (chosen, words, chosen != "torch")


@pytest.mark.usefixtures("openvino")
def test_damaged_models_in_the_cache_are_made_again(own_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = replace(EXACT, backend="openvino")
    expected = result(model_of(), settings)
    paths = sorted(own_cache.glob("*.engine"))
    damages: tuple[Callable[[bytes], bytes], ...] = (lambda c: c[:-40], lambda c: c + b"x", lambda _: b"")
    assert len(paths) >= len(damages)
    for path, damage in zip(paths, damages, strict=False):
        path.write_bytes(damage(path.read_bytes()))
    assert np.array_equal(result(model_of(), settings), expected)
    assert caplog.text.count("an engine in the cache is not used") >= len(damages)


@pytest.mark.usefixtures("openvino")
def test_what_is_compared_is_what_comes_back_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is changed by being stored would be noticed."""
    from napari_pix2pix.translation.backends.openvino_runner import OpenVinoRunner

    imported = OpenVinoRunner._imported

    def another(self: OpenVinoRunner, content: bytes) -> Any:
        other = OpenVinoRunner(model_of(base_width=5).generator(), "fp32")
        return imported(self, other._core.compile_model(other._converted(WHOLE), "CPU").export_model().getvalue())

    monkeypatch.setattr(OpenVinoRunner, "_imported", another)
    with pytest.raises(EngineError, match="deviates from PyTorch"):
        result(model_of(), TranslationSettings(scheme="whole", statistics="image", backend="openvino"))


@pytest.mark.usefixtures("openvino")
def test_openvino_on_a_gpu_is_refused() -> None:
    with pytest.raises(SettingsError, match="--device cpu"):
        choose_backend("openvino", torch.device("cuda"), 0)
