"""Shapes and files of compiled stages; engines are built by the real TensorRT-RTX where it is installed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pix2pix_training.errors import SettingsError
from pix2pix_training.stages import whole_stage
from pix2pix_trt.engine import ShapeRange
from pix2pix_trt.stage_engines import compile_to_file, rounded_window, stage_shapes
from tests.trt.networks import CONFIG, DECODE, request, unet


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


def test_compiling_ahead_needs_architectures(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="sm86"):
        compile_to_file(
            unet(), whole_stage(CONFIG), request(architectures=()), tmp_path / "a.engine", model_key={}, plan={}
        )


def test_compiled_ahead_of_time(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("tensorrt_rtx", reason="the package tensorrt-rtx is not installed")
    spec = replace(DECODE, encoded=True)
    order = request("fp16", shapes=stage_shapes(CONFIG, spec, (64, 64)), architectures=("sm86", "sm120"))
    file = compile_to_file(unet(), spec, order, tmp_path / "a.engine", model_key={"weights": "0123"}, plan={"tile": 64})
    assert file.key["plan"] == {"tile": 64}
    assert b"accelerators={sm86 sm120 }" in file.payload
    for name in (b"features", b"encoded", b"up", b"decoder_2_norm", b"output"):
        assert name in file.payload
    assert file.key["stage"]["top"] == 2
    assert file.key["architectures"] == ["sm86", "sm120"]
