"""Which engines the TensorRT backend asks for, with engines that run PyTorch in their place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from napari_pix2pix.translation.backends import tensorrt_runner
from napari_pix2pix.translation.backends.tensorrt_runner import TensorRtRunner
from pix2pix_training.errors import BackendError, EngineFileError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import Generator, build_generator, set_inference_mode
from pix2pix_training.stages import Stage, StageSpec, whole_stage
from pix2pix_trt.runner import EngineMemoryError

CONFIG = GeneratorConfig(base_width=4, depth=3, norm="instance")
WHOLE = whole_stage(CONFIG)


class FakeEngines:
    """Remembers what was asked for; `opened` counts the engines that are on the GPU."""

    def __init__(self, network: Generator) -> None:
        self.network = network
        self.asked: list[dict[str, Any]] = []
        self.opened = 0
        self.refused = False

    def proven(self, network: Generator, spec: StageSpec, flavour: str, **order: Any) -> Any:
        for fraction in (0.1, 0.2):
            order["progress"](fraction)
        self.asked.append({"spec": spec, "flavour": flavour, **order})
        return SimpleNamespace(
            engine=SimpleNamespace(spec=spec, window=order["window"], refused=self.refused),
            precision=order["precisions"][-1],
            path=Path("an.engine"),
        )

    def runner(self, engine: Any, device: torch.device) -> Any:
        if engine.refused:
            raise EngineFileError("made for another GPU")
        stage = Stage(self.network, engine.spec)
        self.opened += 1

        def takes(inputs: dict[str, torch.Tensor]) -> bool:
            return all(n <= most for n, most in zip(inputs["features"].shape[2:], engine.window, strict=True))

        def run(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            assert takes(inputs)
            return cast(torch.Tensor, stage(*(inputs[n] for n in stage.input_names)))

        return SimpleNamespace(run=run, close=self.close, takes=takes)

    def close(self) -> None:
        self.opened -= 1

    def discard(self, path: Path) -> None:
        self.refused = False


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngines]:
    network = build_generator(CONFIG)
    set_inference_mode(network, InferenceConfig(statistics="image"))
    fake = FakeEngines(network)
    monkeypatch.setattr(tensorrt_runner, "require", lambda flavour: None)
    monkeypatch.setattr(tensorrt_runner, "proven_engine", fake.proven)
    monkeypatch.setattr(tensorrt_runner, "EngineRunner", fake.runner)
    with torch.inference_mode():
        yield fake


def image(rows: int, columns: int) -> dict[str, torch.Tensor]:
    return {"features": torch.rand(1, 3, rows, columns) * 2 - 1}


def test_windows_of_like_size_share_an_engine(engines: FakeEngines) -> None:
    runner = TensorRtRunner("tensorrt-rtx", engines.network, ["fp16", "fp32"])
    for rows, columns in ((64, 72), (72, 64), (256, 256)):
        inputs = image(rows, columns)
        assert torch.equal(runner.run(WHOLE, inputs), engines.network(inputs["features"]))
    (order,) = engines.asked
    assert (order["flavour"], order["window"], order["precisions"]) == ("tensorrt-rtx", (256, 256), ["fp16", "fp32"])
    assert order["samples"][0]["features"].shape == (1, 3, 64, 72)


def test_larger_windows_take_the_place_of_the_engine(engines: FakeEngines) -> None:
    runner = TensorRtRunner("tensorrt", engines.network, ["fp32"])
    runner.run(WHOLE, image(64, 264))
    runner.run(WHOLE, image(264, 64))
    runner.run(WHOLE, image(64, 64))
    assert [order["window"] for order in engines.asked] == [(256, 512), (512, 512)]
    assert engines.opened == 1


def test_each_stage_has_its_engine(engines: FakeEngines) -> None:
    runner = TensorRtRunner("tensorrt", engines.network, ["fp32"])
    encode = StageSpec(gives="encoded", level=1, top=1, start=0)
    runner.run(WHOLE, image(64, 64))
    assert runner.run(encode, image(64, 64)).shape == (1, 4, 32, 32)
    assert [order["spec"] for order in engines.asked] == [WHOLE, encode]


def test_a_build_is_said_once(engines: FakeEngines, caplog: pytest.LogCaptureFixture) -> None:
    TensorRtRunner("tensorrt", engines.network, ["fp32"]).run(WHOLE, image(64, 64))
    assert caplog.messages == ["compiling stage up 0 for this GPU; it may take minutes, and is kept"]


def test_precision_is_that_of_the_engines(engines: FakeEngines) -> None:
    runner = TensorRtRunner("tensorrt", engines.network, ["fp16", "fp32"])
    assert runner.precision == "fp16"
    runner.run(WHOLE, image(64, 64))
    assert runner.precision == "fp32"


def test_engine_of_the_cache_that_does_not_load_is_made_again(
    engines: FakeEngines, caplog: pytest.LogCaptureFixture
) -> None:
    engines.refused = True
    runner = TensorRtRunner("tensorrt", engines.network, ["fp32"], cache=cast(Any, engines))
    inputs = image(64, 64)
    assert torch.equal(runner.run(WHOLE, inputs), engines.network(inputs["features"]))
    assert len(engines.asked) == 2
    assert "not used: made for another GPU" in caplog.text


def test_engine_without_memory_is_tried_smaller(engines: FakeEngines, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(engine: Any, device: torch.device) -> Any:
        if engine.window > (256, 256):
            raise EngineMemoryError("the GPU lacks the memory")
        return engines.runner(engine, device)

    monkeypatch.setattr(tensorrt_runner, "EngineRunner", refuse)
    runner = TensorRtRunner("tensorrt", engines.network, ["fp32"])
    with pytest.raises(torch.OutOfMemoryError, match="lacks the memory"):
        runner.run(WHOLE, image(512, 256))
    runner.run(WHOLE, image(256, 256))
    assert [order["window"] for order in engines.asked] == [(512, 256), (256, 256)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_gpu_it_does_not_start() -> None:
    with pytest.raises(BackendError, match="TensorRT"):
        TensorRtRunner("tensorrt-rtx", build_generator(CONFIG), ["fp32"])
