"""``benchmarks/gpu.py`` on a machine without GPU: what it would measure, and the whole program on the CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import tifffile
import torch

from benchmarks import gpu
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.model_file import save_model
from pix2pix_training.network_config import GeneratorConfig
from tests.product.translation.conftest import random_model


@pytest.fixture
def image_and_model(tmp_path: Path) -> list[str]:
    image, model = tmp_path / "image.tif", tmp_path / "model.safetensors"
    tifffile.imwrite(image, np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), photometric="rgb")
    save_model(random_model(GeneratorConfig(base_width=4, depth=3), InferenceConfig()), model)
    return ["--image", str(image), "--model", str(model)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_dry_run_lists_everything_and_what_is_in_the_way(
    image_and_model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    gpu.main(["--dry-run", *image_and_model])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(gpu.ways()) + len(gpu.FILE_TO_FILE)
    for name in ("torch eager fp32", "tensorrt fp16 window, CUDA graph", "tensorrt-rtx bf16 window"):
        assert any(f"window of 1024 px: {name}: " in line for line in lines)
    for name in ("torch bf16", "tensorrt fp16", "tensorrt-rtx fp32"):
        assert any(line.startswith("file to file: ") and f"image.tif: {name}: " in line for line in lines)
    assert all("GPU" in line or "not installed" in line for line in lines)
    gpu.main(["--dry-run", "--only", "tensorrt-rtx fp16"])
    assert capsys.readouterr().out == "file to file: tensorrt-rtx fp16: needs --image and --model\n"


def test_the_whole_program_on_the_cpu(
    image_and_model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["torch eager fp32", "torch channels_last bf16", "torch CUDA graph bf16", "torch fp32", "torch bf16"]
    names += ["tensorrt fp16 window, CUDA graph", "tensorrt-rtx fp32", "tensorrt-rtx fp32 window"]
    small = ["--window", "256", "--base-width", "2", "--repeats", "1", "--device", "cpu"]
    gpu.main([*small, "--only", *names, *image_and_model, "--json", str(tmp_path / "gpu.json")])
    result = json.loads((tmp_path / "gpu.json").read_text())
    windows = {way["name"]: way for way in result["ways"]}
    files = {way["name"]: way for way in result["file_to_file"]}
    assert {*windows, *files} == set(names)
    assert windows["torch eager fp32"]["deviation"] < 1e-6
    assert 0 < windows["torch channels_last bf16"]["deviation"] < 0.1
    assert windows["torch eager fp32"]["ms_per_megapixel"] > 0
    assert files["torch fp32"]["megapixels_per_second"] > 0
    assert (files["torch bf16"]["backend"], files["torch bf16"]["precision"]) == ("torch", "bf16")
    assert "CUDA" in windows["torch CUDA graph bf16"]["error"]
    for failed in (files["tensorrt-rtx fp32"], windows["tensorrt-rtx fp32 window"]):
        assert "TensorRT-RTX" in failed["error"]


def test_all_is_rehearsed_on_the_cpu(tmp_path: Path) -> None:
    gpu.main(["--rehearse", "--out", str(tmp_path / "found")])
    result = json.loads((tmp_path / "found" / "gpu.json").read_text())
    ways = {way["name"].removesuffix(", stand-in"): way for way in result["ways"]}
    assert set(ways) == set(gpu.ways())
    assert all(way["error"] is None and way["deviation"] < 0.1 for way in ways.values())
    rows = {row["name"].removesuffix(", stand-in"): row for row in result["translations"]}
    assert set(rows) == set(gpu.FILE_TO_FILE)
    assert all(row["array_to_array"] > 0 and row["file_to_file"] > 0 for row in rows.values())
    assert rows["torch fp32"]["largest_difference"] == 0 < rows["torch bf16"]["largest_difference"] < 64
    assert result["left_out"] == []
    table = (tmp_path / "found" / "gpu.md").read_text()
    assert "| tensorrt-rtx fp16 window, CUDA graph, stand-in | " in table
    assert "| tensorrt fp16, stand-in | " in table


def test_what_fails_and_what_comes_too_late_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> NoReturn:
        raise TypeError("an | odd\nreason")

    monkeypatch.setattr(gpu, "ways", lambda: {"torch eager fp32": gpu.Preparation(make=broken)})
    monkeypatch.setattr(gpu, "FILE_TO_FILE", {"torch fp32": {"backend": "torch", "precision": "none"}})
    gpu.main(["--rehearse", "--out", str(tmp_path)])
    table = (tmp_path / "gpu.md").read_text()
    assert "| torch eager fp32 | TypeError: an / odd reason | | | |" in table
    assert "| torch fp32 | precision is 'none'; choose " in table
    gpu.main(["--rehearse", "--out", str(tmp_path), "--minutes", "0"])
    assert (
        "Not begun when the time was up: torch eager fp32, translation, torch fp32."
        in (tmp_path / "gpu.md").read_text()
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_gpu_the_session_does_not_begin(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--all"])
    assert "GPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--window", "300"], "multiple of 256"),
        (["--image", "a.tif"], "belong together"),
        (["--only", "nothing"], "invalid choice"),
    ],
)
def test_wrong_use_is_explained(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(arguments)
    assert words in capsys.readouterr().err
