"""``compile``: engines for named architectures on a machine without GPU, and what goes wrong."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_pix2pix.cli.application import run
from napari_pix2pix.translation.backends import compilation
from pix2pix_training.cancel import Cancel
from pix2pix_trt import stage_engines
from pix2pix_trt.engine_file import read_engine_file


@pytest.fixture
def arguments(model_path: Path, tmp_path: Path) -> list[str]:
    pytest.importorskip("onnxscript")
    pytest.importorskip("tensorrt_rtx", reason="the package tensorrt-rtx is not installed")
    named = ["--architectures", "sm86,sm120", "--out", str(tmp_path / "engines")]
    return ["compile", str(model_path), *named, "--size", "512", "--tile", "128"]


def test_engines_for_named_architectures(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*arguments, "--precision", "bf16", "--json"]) == 0
    files = json.loads(capsys.readouterr().out.splitlines()[-1])["files"]
    assert [Path(file["path"]).name for file in files] == [
        "model-1-encoded2-bf16.engine",
        "model-2-up2-bf16.engine",
        "model-3-up1-bf16.engine",
        "model-4-up0-bf16.engine",
    ]
    assert sorted(p.name for p in (tmp_path / "engines").iterdir()) == [Path(f["path"]).name for f in files]
    for file in files:
        content = Path(file["path"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        assert (file["architectures"], file["precision"]) == (["sm86", "sm120"], "bf16")
        engine = read_engine_file(Path(file["path"]), sha256=file["sha256"])
        assert engine.key["architectures"] == ["sm86", "sm120"]
        assert b"accelerators={sm86 sm120 }" in engine.payload


def test_cancelled_midway_leaves_whole_engines_only(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C after the first engine; what is there can be used, and nothing is half-written."""
    stop = Cancel()
    monkeypatch.setattr("napari_pix2pix.cli.interrupts.stoppable", lambda _: nullcontext(stop))
    built = stage_engines.compile_to_file

    def then_stop(*given: Any, **named: Any) -> Any:
        try:
            return built(*given, **named)
        finally:
            stop.set()

    monkeypatch.setattr(compilation, "compile_to_file", then_stop)
    assert run([*arguments, "--precision", "fp32"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "error: interrupted; finished engines that are kept: 1"
    assert [path.name for path in (tmp_path / "engines").iterdir()] == ["model-1-encoded2-fp32.engine"]
    assert read_engine_file(tmp_path / "engines" / "model-1-encoded2-fp32.engine").key["plan"]["tile"] == 128


def test_existing_engines_are_not_replaced(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "model-2-up2-fp16.engine").write_text("mine")
    assert run(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "engines").iterdir()] == ["model-2-up2-fp16.engine"]


@pytest.mark.parametrize(
    "options, words",
    [
        (["--architectures", "sm86,sm1", "--out", "OUT"], "choose from sm75"),
        (["--backend", "tensorrt", "--architectures", "sm86", "--out", "OUT"], "TensorRT"),
        (["--architectures", "sm86"], "belong together"),
        (["--backend", "openvino", "--precision", "fp16"], "choose both or neither"),
        (["--backend", "tensorrt", "--precision", "int8"], "choose both or neither"),
        (["--backend", "openvino"], "precision int8"),
        (["--precision", "int8"], "precision int8"),
        (["--size", "3"], "size is 3"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    given = [str(tmp_path / "out") if option == "OUT" else option for option in options]
    assert run([*arguments[:2], *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_this_machine_without_gpu_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments[:2]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs an NVIDIA GPU" in line
