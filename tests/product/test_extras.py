"""What needs a package that is not there says in one line which extra brings it."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_pix2pix.cli.application import run
from napari_pix2pix.translation.backends import openvino_runner
from pix2pix_training.model_file import save_model
from tests.product.conftest import model_for

TRANSLATE = ["translate", "image.tif", "--model", "model.safetensors", "--out", "out.ome.zarr"]
TRAIN = ["train", "--source", "image.tif", "--target", "image.tif", "--out", "run", "--steps", "1"]
CREDITS = ["--name", "model", "--sample", "image.tif", "--author", "A. Person", "--license", "MIT"]
EXPORT = ["export", "model.safetensors", "--out"]
NEEDED = (
    ("openvino", "openvino", [*TRANSLATE, "--backend", "openvino"]),
    ("dask", "distributed", [*TRANSLATE, "--dask", "local:2"]),
    ("remote", "aiohttp", ["info", "https://127.0.0.1:9/image.tif"]),
    ("remote", "s3fs", ["info", "s3://bucket/image.tif"]),
    ("onnx", "onnxscript", [*EXPORT, "model.onnx", "--format", "onnx"]),
    ("onnx", "yaml", [*EXPORT, "m.zip", "--format", "bioimageio", *CREDITS]),
    ("slides", "openslide", ["info", "slide.svs"]),
    ("bioio", "bioio", ["info", "image.czi"]),
    ("tensorboard", "torch.utils.tensorboard", [*TRAIN, "--tensorboard", "--patch-size", "32", "--base-width", "4"]),
    ("tensorrt", "tensorrt", [*TRANSLATE, "--backend", "tensorrt"]),
    ("tensorrt-rtx", "tensorrt_rtx", [*TRANSLATE, "--backend", "tensorrt-rtx"]),
)


@pytest.mark.parametrize(("extra", "package", "command"), NEEDED, ids=lambda value: value if value else "")
def test_error_names_the_extra(
    extra: str,
    package: str,
    command: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extra in extras["optional-dependencies"]
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("image.tif", np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    Path("slide.svs").write_bytes(bytes(1000))
    Path("image.czi").write_bytes(b"ZISRAWFILE".ljust(1000))
    save_model(model_for(1, 1), Path("model.safetensors"))
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(openvino_runner, "find_spec", lambda name: None)
    assert run(list(command)) != 0
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(error) == 1
    assert f'pip install "napari-pix2pix[{extra}]"' in error[0]
