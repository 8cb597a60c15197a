"""Engines built by the real TensorRT-RTX package, which needs no GPU for that; nothing is executed here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pix2pix_training.cancel import Cancel, Interrupted
from pix2pix_training.errors import BackendError, EngineError, SettingsError
from pix2pix_training.export_form import ExportPrecision, fold_norms
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator, initialize_weights, set_inference_mode
from pix2pix_training.onnx_export import export_stage, onnx_of_model
from pix2pix_training.stages import StageSpec, stage_inputs, stage_output, whole_stage
from pix2pix_trt.engine import BuildRequest, EngineBuilder, ShapeRange, TensorFacts, known_architectures
from pix2pix_trt.stage_engines import stage_shapes
from tests.training.test_onnx_int8 import ready

pytest.importorskip("onnxscript")
pytest.importorskip("tensorrt_rtx", reason="the package tensorrt-rtx is not installed")

ARCHITECTURES = ("sm86", "sm89", "sm120")
WEIGHTS = 54e6
"""Of the paper's generator."""


def exported(precision: ExportPrecision, **changes: Any) -> bytes:
    config = GeneratorConfig(**{"base_width": 4, "depth": 3, **changes})
    network = build_generator(config)
    initialize_weights(network)
    set_inference_mode(network, InferenceConfig(statistics="image" if config.norm == "instance" else "running"))
    fold_norms(network)
    return export_stage(network, whole_stage(config), precision=precision)


def request(precision: ExportPrecision = "fp32", **changes: Any) -> BuildRequest:
    shapes = {"features": ShapeRange(minimum=(1, 3, 256, 256), optimum=(1, 3, 512, 512), maximum=(4, 3, 1024, 1024))}
    return BuildRequest(
        **{
            "flavour": "tensorrt-rtx",
            "precision": precision,
            "shapes": shapes,
            "architectures": ARCHITECTURES,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def small() -> bytes:
    return exported("fp32")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_papers_network_builds(precision: ExportPrecision, norm: str) -> None:
    builder = EngineBuilder(exported(precision, depth=8, base_width=64, norm=norm), request(precision))
    assert builder.inputs == (TensorFacts(name="features", dtype="FLOAT", shape=(-1, 3, -1, -1)),)
    assert builder.outputs == (TensorFacts(name="output", dtype="FLOAT", shape=(-1, 3, -1, -1)),)
    fractions: list[float] = []
    plan = builder.build(progress=fractions.append)
    for text in (b"accelerators={sm86 sm89 sm120 }", b"features", b"result"):
        assert text in plan
    assert len(plan) > 0.9 * WEIGHTS * (4 if precision == "fp32" else 2)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_a_network_in_8_bits_builds() -> None:
    content = onnx_of_model(ready(depth=5, base_width=32, decoder="resize"), precision="int8")
    shapes = {"features": ShapeRange(minimum=(1, 2, 32, 32), optimum=(1, 2, 512, 512), maximum=(4, 2, 1024, 1024))}
    plan = EngineBuilder(content, request(shapes=shapes, architectures=("sm89",))).build()
    assert b"accelerators={sm89 }" in plan
    assert len(plan) < 8e6  # 4.3 million weights


@pytest.mark.parametrize("decoder", ["resize", "pixel-shuffle"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_decoder_builds(decoder: str, precision: ExportPrecision) -> None:
    builder = EngineBuilder(exported(precision, decoder=decoder), request(precision))
    assert builder.outputs == (TensorFacts(name="output", dtype="FLOAT", shape=(-1, 3, -1, -1)),)
    assert b"accelerators={sm86 sm89 sm120 }" in builder.build()


@pytest.mark.parametrize(
    "number, precision, given", [(0, "fp32", False), (1, "fp16", False), (2, "bf16", False), (2, "fp16", True)]
)
def test_the_three_stages_build(number: int, precision: ExportPrecision, given: bool) -> None:
    config = GeneratorConfig(base_width=64, depth=8, norm="instance" if given else "batch")
    network = build_generator(config)
    set_inference_mode(network, InferenceConfig(statistics="image" if given else "running"))
    fold_norms(network)
    spec = (
        StageSpec(gives="encoded", level=2, top=2, start=0),
        StageSpec(gives="up", level=2, top=8, start=2),
        StageSpec(gives="up", level=0, top=2, start=0, encoded=True, up=True, given_norms=given),
    )[number]
    shapes = stage_shapes(config, spec, (1024, 1024))
    builder = EngineBuilder(export_stage(network, spec, precision=precision), request(precision, shapes=shapes))
    expected = [
        (t.name, "FLOAT", (2, t.channels) if t.level is None else (-1, t.channels, -1, -1))
        for t in (*stage_inputs(config, spec), stage_output(config, spec))
    ]
    assert [(t.name, t.dtype, t.shape) for t in (*builder.inputs, *builder.outputs)] == expected
    assert b"accelerators={sm86 sm89 sm120 }" in builder.build()


def test_float32_means_float32(small: bytes) -> None:
    builder = EngineBuilder(small, request())
    flag = builder._trt.BuilderFlag.TF32
    assert not builder._config.get_flag(flag)


def test_shapes_in_use_are_the_profile(small: bytes) -> None:
    plan = EngineBuilder(small, request()).build()
    other = request(shapes={"features": ShapeRange(minimum=(1, 3, 8, 8), optimum=(1, 3, 8, 8), maximum=(1, 3, 8, 8))})
    assert EngineBuilder(small, other).build() != plan


def test_cancelled_midway(small: bytes) -> None:
    class AtTheTwentiethLook(Cancel):
        looks = 0

        def is_set(self) -> bool:
            self.looks += 1
            return self.looks > 20

    cancel = AtTheTwentiethLook()
    with pytest.raises(Interrupted):
        EngineBuilder(small, request()).build(cancel=cancel)
    assert cancel.looks > 20


@pytest.mark.parametrize("content", [b"", b"no model", bytes(1000)])
def test_what_is_no_model_is_one_line(content: bytes) -> None:
    with pytest.raises(EngineError, match="the model") as caught:
        EngineBuilder(content, request())
    assert "\n" not in str(caught.value)


def test_truncated_model_is_refused(small: bytes) -> None:
    with pytest.raises(EngineError):
        EngineBuilder(small[: len(small) // 2], request()).build()


@pytest.mark.parametrize(
    "shapes",
    [{}, {"picture": ShapeRange(minimum=(1, 3, 8, 8), optimum=(1, 3, 8, 8), maximum=(1, 3, 8, 8))}],
)
def test_shapes_of_other_inputs_are_refused(small: bytes, shapes: dict[str, ShapeRange]) -> None:
    with pytest.raises(EngineError, match="features"):
        EngineBuilder(small, request(shapes=shapes))


def test_shapes_with_other_channels_are_refused(small: bytes) -> None:
    shapes = {"features": ShapeRange(minimum=(1, 5, 8, 8), optimum=(1, 5, 8, 8), maximum=(1, 5, 8, 8))}
    with pytest.raises(EngineError):
        EngineBuilder(small, request(shapes=shapes)).build()


@pytest.mark.parametrize("sizes", [((2,), (1,), (2,)), ((1,), (3,), (2,)), ((0,), (1,), (1,)), ((1, 1), (1,), (1,))])
def test_impossible_ranges_are_refused(sizes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(SettingsError, match="no range"):
        ShapeRange(minimum=sizes[0], optimum=sizes[1], maximum=sizes[2])


def test_known_architectures() -> None:
    known = known_architectures("tensorrt-rtx")
    assert set(ARCHITECTURES) < set(known)
    assert known_architectures("tensorrt") == ()


@pytest.mark.parametrize(
    "architectures, words", [(("sm1",), "choose from sm75"), (("sm90",), "sm90"), (("sm86", "sm86"), "named twice")]
)
def test_unknown_architectures_are_refused(small: bytes, architectures: tuple[str, ...], words: str) -> None:
    with pytest.raises(BackendError, match=words):
        EngineBuilder(small, request(architectures=architectures))


def test_every_setting_is_part_of_the_key(tmp_path: Path) -> None:
    shapes = {"features": ShapeRange(minimum=(1, 3, 8, 8), optimum=(1, 3, 8, 8), maximum=(1, 3, 8, 8))}
    variants = [
        request(),
        request("fp16"),
        request(flavour="tensorrt"),
        request(architectures=("sm86",)),
        request(shapes=shapes),
    ]
    keys = [str(variant.as_key()) for variant in variants]
    assert len(set(keys)) == len(keys)
