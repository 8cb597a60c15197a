"""Engines compiled ahead of time by the real TensorRT-RTX serve `translate`; PyTorch runs in the place of the GPU."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_pix2pix.translation import translator
from napari_pix2pix.translation.backends import selection, tensorrt_runner
from napari_pix2pix.translation.backends.compilation import compile_ahead
from napari_pix2pix.translation.pipeline import translate_array
from napari_pix2pix.translation.settings import CompileRequest, TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.errors import BackendError, EngineFileError, SettingsError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import Generator
from pix2pix_training.stages import Stage, StageSpec
from pix2pix_trt import engine_folder, stage_engines
from pix2pix_trt.engine_file import read_engine_file
from pix2pix_trt.runner import Engine, EngineMemoryError
from tests.product.translation.conftest import random_image, random_model

pytest.importorskip("onnxscript")
pytest.importorskip("tensorrt_rtx", reason="the package tensorrt-rtx is not installed")

SIZE = (300, 333)
REQUEST = CompileRequest(backend="tensorrt-rtx", precision="fp32", size=512, tile=64)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """A model on the statistics of the image, which has the most stages, and its engines."""
    model = random_model(GeneratorConfig(base_width=4, depth=4), InferenceConfig(statistics="image"))
    folder = tmp_path_factory.mktemp("compiled") / "engines"
    list(compile_ahead(model, "model", REQUEST, ["sm86", "sm120"], folder))
    return model, folder


@pytest.fixture
def model(compiled: tuple[Model, Path]) -> Model:
    return compiled[0]


@pytest.fixture
def engines(compiled: tuple[Model, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(compiled[1], tmp_path / "engines"))


class FakeGpu:
    """Loads engines of `folder` by running their stages in PyTorch, and counts how often."""

    def __init__(self, folder: Path) -> None:
        files = [read_engine_file(path) for path in folder.glob("*.engine")]
        self.stages = {file.payload: StageSpec(**file.key["stage"]) for file in files}
        self.network: Generator | None = None
        self.loaded: list[StageSpec] = []
        self.offset = 0.0

    def __call__(self, engine: Engine, device: torch.device) -> Any:
        gpu, spec = self, self.stages[engine.plan]
        self.loaded.append(spec)

        class Runner:
            def run(self, inputs: Mapping[str, Tensor]) -> Tensor:
                assert gpu.network is not None
                stage = Stage(gpu.network, spec)
                output: Tensor = stage(*(inputs[name] for name in stage.input_names))
                return output + gpu.offset

            def takes(self, inputs: Mapping[str, Tensor]) -> bool:
                return True

            def fixed(self, shapes: object) -> None:
                raise EngineMemoryError("no memory for a CUDA graph")

            def close(self) -> None:
                pass

            def __enter__(self) -> Runner:
                return self

            def __exit__(self, *_: object) -> None:
                pass

        return Runner()


@pytest.fixture
def gpu(engines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """A machine with an sm86 that must not compile."""

    def compiled(*_: object, **__: object) -> bytes:
        raise AssertionError("compiled here")

    fake = FakeGpu(engines)
    monkeypatch.setattr("napari_pix2pix.translation.backends.cache.default_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(selection, "_require", lambda asked, device: None)
    monkeypatch.setattr(translator, "widen_narrow_layers", lambda network: None)  # not done on GPUs
    monkeypatch.setattr(tensorrt_runner, "require", lambda flavour: None)
    for module in (engine_folder, stage_engines):
        monkeypatch.setattr(module, "gpu_facts", lambda device: {"gpu": "this"})
    monkeypatch.setattr(engine_folder, "architecture", lambda device: "sm86")
    monkeypatch.setattr(tensorrt_runner, "compile_stage", compiled)
    monkeypatch.setattr(tensorrt_runner, "EngineRunner", fake)
    return fake


def translator_of(model: Model, gpu: FakeGpu, **settings: Any) -> Translator:
    translator = Translator(model, TranslationSettings(device="cpu", **settings))
    gpu.network = translator._network
    return translator


def result(translator: Translator) -> Any:
    from pix2pix_training.array_source import MemorySource

    source = MemorySource(random_image(3, *SIZE))
    whole = np.empty((3, *SIZE), np.uint8)
    for _, region, pixels in translator.tiles(source):
        whole[:, *region.slices] = pixels
    return whole


def test_engines_of_another_machine_are_all_that_is_needed(model: Model, engines: Path, gpu: FakeGpu) -> None:
    translator = translator_of(model, gpu, engines=engines)
    plan = translator.plan(SIZE)
    expected = translate_array(random_image(3, *SIZE), model, TranslationSettings(device="cpu", scheme="whole"))
    difference = np.abs(result(translator).astype(int) - expected)
    assert difference.max() <= 1
    assert np.count_nonzero(difference) < 10
    assert (plan.scheme, plan.tile, translator.ran_with(plan)[0].name) == ("exact", 64, "tensorrt-rtx")
    assert translator.ran_with(plan)[1] == "fp32"
    assert set(gpu.loaded) == set(gpu.stages.values())


def test_they_are_compared_once_and_then_found_in_the_cache(model: Model, engines: Path, gpu: FakeGpu) -> None:
    first = result(translator_of(model, gpu, engines=engines))
    assert len(gpu.loaded) == 2 * len(gpu.stages)
    for path in engines.iterdir():
        path.unlink()
    gpu.loaded.clear()
    plan = {"scheme": "exact", "tile": 64, "split_level": 2}
    second = result(translator_of(model, gpu, backend="tensorrt-rtx", precision="fp32", **plan))
    assert np.array_equal(first, second)
    assert sorted(map(str, gpu.loaded)) == sorted(map(str, gpu.stages.values()))


def test_engine_that_gives_other_numbers_here_is_not_used(model: Model, engines: Path, gpu: FakeGpu) -> None:
    gpu.offset = 0.01
    with pytest.raises(AssertionError, match="compiled here"):  # fp32 is refused, so the next precision is tried
        result(translator_of(model, gpu, engines=engines))


def test_larger_images_are_planned_as_usual(
    model: Model, engines: Path, gpu: FakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    translator = translator_of(model, gpu, engines=engines)
    plain = Translator(model, TranslationSettings(device="cpu", max_memory=2**30)).plan((513, 100))
    assert replace(translator.plan((513, 100)), working_set_bytes=0).scheme == plain.scheme == "whole"
    assert "images of up to 512 pixels a side, this one has 513 x 100" in caplog.text
    assert translator_of(model, gpu, engines=engines, tile=32).plan(SIZE).tile == 32


def test_what_does_not_fit_is_an_error_before_any_work(model: Model, engines: Path, gpu: FakeGpu) -> None:
    def refusal(of: Model = model, **settings: Any) -> str:
        with pytest.raises((EngineFileError, SettingsError)) as caught:
            translator_of(of, gpu, **{"engines": str(engines), **settings})
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "another model" in refusal(random_model(model.generator_config, model.inference, seed=1))
    assert "other statistics" in refusal(statistics="running")
    assert "are in fp32, not in bf16" in refusal(precision="bf16")
    assert "not for backend torch" in refusal(backend="torch")
    assert "no folder of engines" in refusal(engines="nowhere")
    path = next(engines.iterdir())
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{path} is damaged" in refusal()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_engines_without_gpu_are_an_error(model: Model, engines: Path) -> None:
    with pytest.raises(BackendError, match="TensorRT-RTX needs"):
        Translator(model, TranslationSettings(device="cpu", engines=engines))
