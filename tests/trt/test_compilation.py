"""Keys, parity and files of compiled stages; engines are built by the real TensorRT-RTX where it is installed."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pix2pix_training.config import GeneratorConfig, InferenceConfig
from pix2pix_training.errors import EngineError, EngineFileError, SettingsError
from pix2pix_training.networks import UNet, initialize_weights, set_inference_mode
from pix2pix_training.stages import Stage, StageSpec, whole_stage
from pix2pix_trt import compilation
from pix2pix_trt.cache import EngineCache
from pix2pix_trt.compilation import (
    TOLERANCES,
    UnequalEngineError,
    compile_to_file,
    engine_key,
    load_engine,
    proven_engine,
    relative_deviation,
    require_parity,
    rounded_window,
    stage_shapes,
    weights_digest,
)
from pix2pix_trt.engine import BuildRequest, EnginePrecision, ShapeRange
from pix2pix_trt.engine_file import read_engine_file, write_engine_file
from pix2pix_trt.runner import Engine

CONFIG = GeneratorConfig(base_width=4, depth=3, norm="instance")
CPU = torch.device("cpu")
DECODE = StageSpec(gives="up", level=0, top=2, start=0, encoded=True, up=True, given_norms=True)


def unet(seed: int = 0, config: GeneratorConfig = CONFIG) -> UNet:
    torch.manual_seed(seed)
    network = UNet(config)
    initialize_weights(network)
    set_inference_mode(network, InferenceConfig(statistics="image"))
    return network


def request(precision: EnginePrecision = "fp32", **changes: Any) -> BuildRequest:
    shapes = stage_shapes(CONFIG, whole_stage(CONFIG), (64, 64))
    return BuildRequest(
        **{"flavour": "tensorrt-rtx", "precision": precision, "shapes": shapes, "architectures": ("sm86",), **changes}
    )


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


def test_digest_is_of_every_weight() -> None:
    network = unet()
    digest = weights_digest(network)
    assert digest == weights_digest(unet())
    with torch.no_grad():
        network.up_block(2).conv.weight[0, 0, 0, 0] += 1e-6
    assert weights_digest(network) != digest


def test_key_differs_wherever_the_engine_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "version", lambda flavour: "1.7")
    monkeypatch.setattr(compilation, "gpu_facts", lambda device: {"gpu": str(device)})
    spec = whole_stage(CONFIG)
    network = unet()
    keys = [
        engine_key(network, spec, request()),
        engine_key(unet(1), spec, request()),
        engine_key(network, DECODE, request()),
        engine_key(network, spec, request("fp16")),
        engine_key(network, spec, request(architectures=("sm89",))),
        engine_key(network, spec, request(shapes={})),
        engine_key(network, spec, request(architectures=()), torch.device("cuda:0")),
        engine_key(network, spec, request(architectures=()), torch.device("cuda:1")),
    ]
    monkeypatch.setattr(compilation, "version", lambda flavour: "1.8")
    keys.append(engine_key(network, spec, request()))
    set_inference_mode(network, InferenceConfig(statistics="tile"))
    keys.append(engine_key(network, spec, request()))
    assert len({str(key) for key in keys}) == len(keys)


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
    monkeypatch.setattr(compilation, "version", lambda flavour: "11.0")
    monkeypatch.setattr(compilation, "gpu_facts", lambda device: {"gpu": "some"})
    return built


def prove(cache: EngineCache, *precisions: EnginePrecision) -> Any:
    return proven_engine(
        unet(),
        whole_stage(CONFIG),
        "tensorrt",
        precisions=precisions,
        window=(64, 64),
        samples=[{"features": torch.rand(1, 3, 32, 32) * 2 - 1}],
        device=CPU,
        cache=cache,
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


def test_no_precision_at_all_is_one_line(tmp_path: Path, machine: list[str]) -> None:
    with pytest.raises(EngineError, match="use backend torch") as caught:
        prove(EngineCache(tmp_path / "engines"), "fp16")
    assert "\n" not in str(caught.value)


def key(**changes: Any) -> dict[str, Any]:
    return {"flavour": "tensorrt-rtx", "package": "1.7", "architectures": ["sm86"], "gpu": None, **changes}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"package": "1.6"}, "installed is 1.7"),
        ({"architectures": ["sm89", "sm120"]}, "this GPU is sm86"),
        ({"architectures": [], "gpu": {"gpu": "other"}}, "another GPU"),
    ],
)
def test_engine_of_another_version_or_gpu_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(compilation, "version", lambda flavour: "1.7")
    monkeypatch.setattr(compilation, "architecture", lambda device: "sm86")
    monkeypatch.setattr(compilation, "gpu_facts", lambda device: {"gpu": "this"})
    path = tmp_path / "a.engine"
    file = write_engine_file(path, key(), b"plan")
    assert load_engine(path, CPU, sha256=file.sha256) == Engine(flavour="tensorrt-rtx", plan=b"plan")
    with pytest.raises(EngineFileError, match="SHA-256"):
        load_engine(path, CPU, sha256="0" * 64)
    write_engine_file(path, key(**changes), b"plan")
    with pytest.raises(EngineFileError, match=words):
        load_engine(path, CPU)


def test_compiling_ahead_needs_architectures(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="sm86"):
        compile_to_file(unet(), whole_stage(CONFIG), request(architectures=()), tmp_path / "a.engine")


def test_compiled_ahead_of_time(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("tensorrt_rtx", reason="the package tensorrt-rtx is not installed")
    spec = replace(DECODE, encoded=True)
    order = request("fp16", shapes=stage_shapes(CONFIG, spec, (64, 64)), architectures=("sm86", "sm120"))
    file = compile_to_file(unet(), spec, order, tmp_path / "a.engine")
    assert b"accelerators={sm86 sm120 }" in file.payload
    for name in (b"features", b"encoded", b"up", b"decoder_2_norm", b"output"):
        assert name in file.payload
    assert file.key["stage"]["top"] == 2
    assert file.key["architectures"] == ["sm86", "sm120"]
