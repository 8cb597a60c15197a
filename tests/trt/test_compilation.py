"""Shapes, parity and files of compiled stages; engines are built by the real TensorRT-RTX where it is installed."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pix2pix_training.errors import EngineError, SettingsError
from pix2pix_training.stages import Stage, whole_stage
from pix2pix_trt import compilation, keys
from pix2pix_trt.cache import EngineCache
from pix2pix_trt.compilation import (
    TOLERANCES,
    UnequalEngineError,
    compile_to_file,
    proven_engine,
    relative_deviation,
    require_parity,
    rounded_window,
    stage_shapes,
)
from pix2pix_trt.engine import BuildRequest, EnginePrecision, ShapeRange
from pix2pix_trt.engine_file import read_engine_file
from pix2pix_trt.runner import Engine
from tests.trt.networks import CONFIG, CPU, DECODE, request, unet


def test_shapes_follow_levels_and_window() -> None:
    shapes = stage_shapes(CONFIG, DECODE, (510, 256))
    assert shapes == {
        "features": ShapeRange(minimum=(1, 3, 4, 4), optimum=(1, 3, 512, 256), maximum=(1, 3, 512, 256)),
        "encoded": ShapeRange(minimum=(1, 8, 1, 1), optimum=(1, 8, 128, 64), maximum=(1, 8, 128, 64)),
        "up": ShapeRange(minimum=(1, 8, 1, 1), optimum=(1, 8, 128, 64), maximum=(1, 8, 128, 64)),
    }


@pytest.mark.parametrize("window, rounded", [((1028, 1032), (1280, 1280)), ((256, 1), (256, 256))])
def test_windows_of_like_size_share_an_engine(window: tuple[int, int], rounded: tuple[int, int]) -> None:
    assert rounded_window(DECODE, window) == rounded
    assert rounded_window(replace(DECODE, top=9), window)[0] % 512 == 0


def test_deviation_is_relative_to_the_range() -> None:
    expected = torch.tensor([-1.0, 3.0])
    assert relative_deviation(expected + 0.04, expected) == pytest.approx(0.01)
    assert relative_deviation(torch.tensor([-1.0, float("nan")]), expected) == float("inf")
    assert relative_deviation(torch.tensor([-1.0]), expected) == float("inf")
    constant = torch.ones(3)
    assert relative_deviation(constant, constant) == 0
    assert relative_deviation(constant + 1, constant) == float("inf")


@pytest.mark.parametrize("precision", TOLERANCES)
def test_engines_beyond_the_tolerance_are_refused(precision: EnginePrecision) -> None:
    network, spec = unet(), whole_stage(CONFIG)
    stage = Stage(network, spec)
    samples = [{"features": torch.rand(1, 3, 32, 32) * 2 - 1} for _ in range(2)]

    def off_by(share: float) -> Any:
        def run(sample: Any) -> torch.Tensor:
            output: torch.Tensor = stage(sample["features"])
            output[0, 0, 0, 0] += share * (output.max() - output.min())
            return output

        return run

    with torch.inference_mode():
        require_parity(network, spec, off_by(0.9 * TOLERANCES[precision]), samples, precision)
        with pytest.raises(UnequalEngineError, match="deviates from PyTorch"):
            require_parity(network, spec, off_by(1.1 * TOLERANCES[precision]), samples, precision)


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

    monkeypatch.setattr(compilation, "EngineRunner", FakeRunner)
    monkeypatch.setattr(compilation, "compile_stage", compile_stage)
    monkeypatch.setattr(keys, "version", lambda flavour: "11.0")
    monkeypatch.setattr(keys, "gpu_facts", lambda device: {"gpu": "some"})
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


def test_compiling_ahead_needs_architectures(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="sm86"):
        compile_to_file(unet(), whole_stage(CONFIG), request(architectures=()), tmp_path / "a.engine", plan={})


def test_compiled_ahead_of_time(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("tensorrt_rtx", reason="the package tensorrt-rtx is not installed")
    spec = replace(DECODE, encoded=True)
    order = request("fp16", shapes=stage_shapes(CONFIG, spec, (64, 64)), architectures=("sm86", "sm120"))
    file = compile_to_file(unet(), spec, order, tmp_path / "a.engine", plan={"tile": 64})
    assert file.key["plan"] == {"tile": 64}
    assert b"accelerators={sm86 sm120 }" in file.payload
    for name in (b"features", b"encoded", b"up", b"decoder_2_norm", b"output"):
        assert name in file.payload
    assert file.key["stage"]["top"] == 2
    assert file.key["architectures"] == ["sm86", "sm120"]
