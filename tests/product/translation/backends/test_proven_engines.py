"""An engine is used, and kept, only where it gives the numbers of PyTorch; else the next precision is tried."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_pix2pix.translation.backends import tensorrt_runner
from napari_pix2pix.translation.backends.cache import EngineCache
from napari_pix2pix.translation.backends.tensorrt_runner import proven_engine
from pix2pix_training.errors import EngineError
from pix2pix_training.stages import Stage, whole_stage
from pix2pix_trt import stage_engines
from pix2pix_trt.engine import BuildRequest
from pix2pix_trt.engine_file import read_engine_file
from pix2pix_trt.flavours import EnginePrecision
from pix2pix_trt.runner import Engine
from tests.trt.networks import CONFIG, CPU, unet


class FakeRunner:
    """An engine that adds to PyTorch's output as many as its plan says."""

    opened = 0

    def __init__(self, engine: Engine, device: torch.device) -> None:
        FakeRunner.opened += 1
        self.offset = float(engine.plan)

    def run(self, sample: Any) -> torch.Tensor:
        with torch.inference_mode():
            output: torch.Tensor = Stage(unet(), whole_stage(CONFIG))(sample["features"])
        return output + self.offset

    def __enter__(self) -> FakeRunner:
        FakeRunner.opened += 1
        return self

    def __exit__(self, *_: object) -> None:
        FakeRunner.opened -= 1


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine with a GPU on which float16 overflows and bfloat16 does not; gives the precisions that were built."""
    built: list[str] = []

    def compile_stage(network: object, spec: object, request: BuildRequest, **_: object) -> bytes:
        built.append(request.precision)
        return b"nan" if request.precision == "fp16" else b"0.0"

    monkeypatch.setattr(tensorrt_runner, "EngineRunner", FakeRunner)
    monkeypatch.setattr(tensorrt_runner, "compile_stage", compile_stage)
    monkeypatch.setattr(stage_engines, "version", lambda flavour: "11.0")
    monkeypatch.setattr(stage_engines, "gpu_facts", lambda device: {"gpu": "some"})
    return built


class Folder:
    """Engines from another machine, by precision."""

    folder = Path("folder")

    def __init__(self, **plans: bytes) -> None:
        self.plans = plans

    def find(self, spec: object, shapes: object, precision: str) -> bytes | None:
        return self.plans.get(precision)


def prove(cache: EngineCache, *precisions: EnginePrecision, prepared: Any = None) -> Any:
    return proven_engine(
        unet(),
        whole_stage(CONFIG),
        "tensorrt",
        precisions=precisions,
        window=(64, 64),
        samples=[{"features": torch.rand(1, 3, 32, 32) * 2 - 1}],
        device=CPU,
        cache=cache,
        prepared=prepared,
    )


def test_next_precision_where_one_is_wrong(
    tmp_path: Path, machine: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    cache = EngineCache(tmp_path / "engines")
    proven = prove(cache, "fp16", "bf16", "fp32")
    assert proven.precision == "bf16"
    assert read_engine_file(proven.path).payload == proven.engine.plan
    assert machine == ["fp16", "bf16"]
    (warning,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "TensorRT in fp16 is not used" in warning.getMessage()
    assert len(list(cache.folder.glob("*.engine"))) == 1


def test_proven_engines_are_kept(tmp_path: Path, machine: list[str]) -> None:
    cache = EngineCache(tmp_path / "engines")
    prove(cache, "fp32")
    prove(cache, "fp32")
    assert machine == ["fp32"]


def test_engine_from_a_folder_is_compared_and_kept(tmp_path: Path, machine: list[str]) -> None:
    cache = EngineCache(tmp_path / "engines")
    proven = prove(cache, "fp32", prepared=Folder(fp32=b"0.00000"))
    assert proven.engine.plan == b"0.00000"
    assert prove(cache, "fp32").engine.plan == b"0.00000"
    assert machine == []


def test_engine_from_a_folder_that_deviates_is_not_used(
    tmp_path: Path, machine: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    cache = EngineCache(tmp_path / "engines")
    proven = prove(cache, "bf16", "fp32", prepared=Folder(bf16=b"0.5", fp32=b"0.0"))
    assert (proven.precision, machine) == ("fp32", [])
    assert "TensorRT in bf16 is not used" in caplog.text


def test_what_a_folder_lacks_is_compiled_in_words(
    tmp_path: Path, machine: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    prove(EngineCache(tmp_path / "engines"), "fp32", prepared=Folder(fp16=b"0.0"))
    assert machine == ["fp32"]
    assert "folder has no fp32 engine for stage up 0 in windows of 64 x 64; it is compiled here" in caplog.text


def test_no_precision_at_all_is_one_line(tmp_path: Path, machine: list[str]) -> None:
    with pytest.raises(EngineError, match="use backend torch") as caught:
        prove(EngineCache(tmp_path / "engines"), "fp16")
    assert "\n" not in str(caught.value)
