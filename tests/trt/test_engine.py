"""Engines built by the real TensorRT-RTX package, which needs no GPU for that; nothing is executed here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pix2pix_training.config import GeneratorConfig, InferenceConfig
from pix2pix_training.errors import BackendError, BuildCancelledError, EngineError, SettingsError
from pix2pix_training.export_form import ExportPrecision
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.model_file import ImageDescription, Model
from pix2pix_training.networks import build_generator, initialize_weights
from pix2pix_training.onnx_export import whole_generator
from pix2pix_trt.engine import BuildRequest, EngineBuilder, ShapeRange, TensorFacts, known_architectures

pytest.importorskip("onnxscript")
pytest.importorskip("tensorrt_rtx", reason="the package tensorrt-rtx is not installed")

ARCHITECTURES = ("sm86", "sm89", "sm120")


def exported(precision: ExportPrecision, **changes: Any) -> bytes:
    config = GeneratorConfig(**{"base_width": 4, "depth": 3, **changes})
    network = build_generator(config)
    initialize_weights(network)
    description = ImageDescription(mapping=dtype_mapping(np.dtype("uint8"), 3))
    model = Model(
        generator_config=config,
        weights=network.state_dict(),
        source=description,
        target=description,
        inference=InferenceConfig(statistics="image" if config.norm == "instance" else "running"),
    )
    return whole_generator(model, precision=precision)


def request(precision: ExportPrecision = "fp32", **changes: Any) -> BuildRequest:
    shapes = {"image": ShapeRange(minimum=(1, 3, 256, 256), optimum=(1, 3, 512, 512), maximum=(4, 3, 1024, 1024))}
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


@pytest.mark.parametrize(
    "precision, norm", [("fp32", "batch"), ("fp16", "instance"), ("bf16", "instance"), ("bf16", "batch")]
)
def test_the_papers_network_builds(precision: ExportPrecision, norm: str) -> None:
    builder = EngineBuilder(exported(precision, depth=8, base_width=16, norm=norm), request(precision))
    assert builder.inputs == (TensorFacts(name="image", dtype="FLOAT", shape=(-1, 3, -1, -1)),)
    assert builder.outputs == (TensorFacts(name="result", dtype="FLOAT", shape=(-1, 3, -1, -1)),)
    fractions: list[float] = []
    plan = builder.build(progress=fractions.append)
    for text in (b"accelerators={sm86 sm89 sm120 }", b"image", b"result"):
        assert text in plan
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_papers_network_builds_at_full_width(precision: ExportPrecision, norm: str) -> None:
    plan = EngineBuilder(exported(precision, depth=8, base_width=64, norm=norm), request(precision)).build()
    weights = 54e6 * (4 if precision == "fp32" else 2)
    assert len(plan) > 0.9 * weights
    assert b"accelerators={sm86 sm89 sm120 }" in plan


def test_float32_means_float32(small: bytes) -> None:
    builder = EngineBuilder(small, request())
    flag = builder._trt.BuilderFlag.TF32
    assert not builder._config.get_flag(flag)


def test_shapes_in_use_are_the_profile(small: bytes) -> None:
    plan = EngineBuilder(small, request()).build()
    other = request(shapes={"image": ShapeRange(minimum=(1, 3, 8, 8), optimum=(1, 3, 8, 8), maximum=(1, 3, 8, 8))})
    assert EngineBuilder(small, other).build() != plan


def test_cancelled_midway(small: bytes) -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 20

    with pytest.raises(BuildCancelledError, match="cancelled"):
        EngineBuilder(small, request()).build(cancelled=cancelled)
    assert asked > 20


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
    with pytest.raises(EngineError, match="image"):
        EngineBuilder(small, request(shapes=shapes))


def test_shapes_with_other_channels_are_refused(small: bytes) -> None:
    shapes = {"image": ShapeRange(minimum=(1, 5, 8, 8), optimum=(1, 5, 8, 8), maximum=(1, 5, 8, 8))}
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
    shapes = {"image": ShapeRange(minimum=(1, 3, 8, 8), optimum=(1, 3, 8, 8), maximum=(1, 3, 8, 8))}
    variants = [
        request(),
        request("fp16"),
        request(flavour="tensorrt"),
        request(architectures=("sm86",)),
        request(shapes=shapes),
    ]
    keys = [str(variant.as_key()) for variant in variants]
    assert len(set(keys)) == len(keys)
