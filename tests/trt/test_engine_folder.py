"""Engines from a folder: what fits is found, what does not is refused in one line, what was altered is never used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pix2pix_training.errors import EngineFileError
from pix2pix_training.stages import whole_stage
from pix2pix_trt import engine_folder, stage_engines
from pix2pix_trt.engine_file import write_engine_file
from pix2pix_trt.engine_folder import EngineFolder, PreparedEngines
from pix2pix_trt.flavours import EnginePrecision
from pix2pix_trt.stage_engines import engine_key, stage_shapes
from tests.trt.networks import CONFIG, CPU, DECODE, request

WHOLE = whole_stage(CONFIG)
MODEL = {"weights": "0123", "statistics": ["image"]}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with version 1.7 and a GPU of sm86."""
    for module in (engine_folder, stage_engines):
        monkeypatch.setattr(module, "version", lambda flavour: "1.7")
        monkeypatch.setattr(module, "gpu_facts", lambda device: {"gpu": "this"})
    monkeypatch.setattr(engine_folder, "architecture", lambda device: "sm86")


def write(folder: Path, name: str, precision: EnginePrecision = "fp16", **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    key = {**engine_key(MODEL, WHOLE, request(precision)), "plan": {"tile": 64}, **changes}
    write_engine_file(folder / name, key, name.encode())
    return folder / name


def opened(folder: Path) -> PreparedEngines:
    return EngineFolder(folder).for_model(MODEL, "tensorrt-rtx", CPU)


def test_engines_of_a_stage_are_found_by_precision_and_size(tmp_path: Path) -> None:
    write(tmp_path, "half.engine")
    write(tmp_path, "full.engine", "fp32")
    engines = opened(tmp_path)
    assert (engines.precisions, engines.plan) == (("fp16", "fp32"), {"tile": 64})
    for window in ((8, 8), (64, 8), (64, 64)):
        assert engines.find(WHOLE, stage_shapes(CONFIG, WHOLE, window), "fp16") == b"half.engine"
    assert engines.find(WHOLE, stage_shapes(CONFIG, WHOLE, (64, 64)), "fp32") == b"full.engine"
    assert engines.find(WHOLE, stage_shapes(CONFIG, WHOLE, (64, 72)), "fp16") is None
    assert engines.find(WHOLE, stage_shapes(CONFIG, WHOLE, (64, 64)), "bf16") is None
    assert engines.find(replace(WHOLE, level=1), stage_shapes(CONFIG, WHOLE, (64, 64)), "fp16") is None
    assert engines.find(WHOLE, stage_shapes(CONFIG, DECODE, (64, 64)), "fp16") is None


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"flavour": "tensorrt"}, "no engines for TensorRT-RTX"),
        ({"revision": 0}, "another version of this program"),
        ({"weights": "00"}, "another model"),
        ({"package": "1.6"}, "for TensorRT-RTX 1.6, installed is 1.7"),
        ({"architectures": ["sm89", "sm120"]}, "for sm89, sm120, this GPU is sm86"),
        ({"architectures": [], "gpu": {"gpu": "other"}}, "another GPU"),
    ],
)
def test_engines_for_something_else_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    write(tmp_path, "a.engine", **changes)
    with pytest.raises(EngineFileError, match=words) as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)
    write(tmp_path, "b.engine")
    assert [entry.path.name for entry in opened(tmp_path).entries] == ["b.engine"]


def test_other_statistics_are_another_function(tmp_path: Path) -> None:
    write(tmp_path, "a.engine")
    with pytest.raises(EngineFileError, match="other statistics"):
        EngineFolder(tmp_path).for_model({**MODEL, "statistics": ["tile"]}, "tensorrt-rtx", CPU)


def test_engine_of_this_gpu_itself_is_taken(tmp_path: Path) -> None:
    write(tmp_path, "a.engine", architectures=[], gpu={"gpu": "this"})
    assert opened(tmp_path).precisions == ("fp16",)


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-9], lambda c: c[:99] + bytes([c[99] ^ 1]) + c[100:], lambda c: b"", lambda c: c + b"x"]
)
def test_altered_engine_is_refused_by_name(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    write(tmp_path, "good.engine")
    path = write(tmp_path, "bad.engine")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(EngineFileError, match=r"bad\.engine") as caught:
        EngineFolder(tmp_path)
    assert "\n" not in str(caught.value)


def test_engine_exchanged_after_opening_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.engine")
    engines = opened(tmp_path)
    write_engine_file(path, {**engines.entries[0].key}, b"another")
    with pytest.raises(EngineFileError, match="SHA-256"):
        engines.find(WHOLE, request().shapes, "fp16")


def test_folder_without_engines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineFileError, match="holds no engines"):
        EngineFolder(tmp_path)
    with pytest.raises(EngineFileError, match="no folder of engines"):
        EngineFolder(tmp_path / "none")
    write_engine_file(tmp_path / "a.engine", {"backend": "openvino"}, b"")
    with pytest.raises(EngineFileError, match="holds no engines"):
        EngineFolder(tmp_path)
