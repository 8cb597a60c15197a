"""The commands that the fault tests run, on tiny images, and what their outputs hold."""

from __future__ import annotations

import contextlib
import csv
import io
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from napari_pix2pix.cli.application import run
from pix2pix_training.config import GeneratorConfig, InferenceConfig
from pix2pix_training.model_file import load_model, save_model
from pix2pix_trt.engine_file import read_engine_file
from tests.product.translation.conftest import random_model

TINY = ["--patch-size", "32", "--base-width", "2", "--depth", "3", "--steps", "3"]
TRAIN = ["train", "--source", "{in}/source", "--target", "{in}/target", "--out", "{out}/run", *TINY]
EVERY_STEP = ["--validate-every", "2", "--checkpoint-every", "1"]
TRANSLATE = ["translate", "{in}/image.tif", "--model", "{in}/model.safetensors", "--backend", "torch"]
EXPORT = ["export", "{in}/model.safetensors"]


@dataclass(frozen=True)
class Scenario:
    """A command, with the folders of inputs and outputs as ``{in}`` and ``{out}``.

    `output` is what appears in the output folder, None where the command writes nothing there. `replaces` says that an
    older output is there. `again` are options that a second try has where the first was not completed.
    """

    name: str
    arguments: tuple[str, ...]
    output: str | None = None
    replaces: bool = False
    again: tuple[str, ...] = ()

    def command(self, inputs: Path, out: Path, *more: str) -> list[str]:
        return [text.replace("{in}", str(inputs)).replace("{out}", str(out)) for text in (*self.arguments, *more)]


def _translations() -> list[Scenario]:
    found = []
    for ending in ("png", "jpg", "bmp", "gif", "tif", "ome.tif", "ome.zarr"):
        arguments = (*TRANSLATE, "--out", f"{{out}}/o.{ending}")
        found.append(Scenario(f"translate to {ending}", arguments, f"o.{ending}", again=("--resume",)))
    for ending in ("tif", "ome.zarr"):
        arguments = (*TRANSLATE, "--out", f"{{out}}/o.{ending}", "--overwrite")
        found.append(Scenario(f"translate over {ending}", arguments, f"o.{ending}", replaces=True))
        arguments = (*TRANSLATE, "--out", f"{{out}}/o.{ending}", "--resume")
        found.append(Scenario(f"translate regions to {ending}", arguments, f"o.{ending}"))
    arguments = ("translate", "{in}/source", *TRANSLATE[2:], "--out", "{out}/o")
    found.append(Scenario("translate a folder", arguments, "o", again=("--resume",)))
    return found


SCENARIOS = [
    Scenario("train", (*TRAIN, *EVERY_STEP), "run"),
    Scenario("train over a run", (*TRAIN, *EVERY_STEP, "--overwrite"), "run", replaces=True),
    *_translations(),
    Scenario("evaluate", ("evaluate", "--model", "{in}/model.safetensors", "--source", "{in}/image.tif",
                          "--target", "{in}/image.tif")),
    Scenario("export to state-dict", (*EXPORT, "--format", "state-dict", "--out", "{out}/g.pth"), "g.pth"),
    Scenario("import-weights", ("import-weights", "{in}/g.pth", "--out", "{out}/m.safetensors"), "m.safetensors"),
    Scenario("import-weights over a model",
             ("import-weights", "{in}/g.pth", "--out", "{out}/m.safetensors", "--overwrite"), "m.safetensors",
             replaces=True),
]  # fmt: skip
SLOW_SCENARIOS = [
    Scenario("export to onnx", (*EXPORT, "--format", "onnx", "--out", "{out}/m.onnx"), "m.onnx"),
    Scenario("export to bioimageio", (*EXPORT, "--format", "bioimageio", "--out", "{out}/m.zip", "--name", "my model",
                                      "--sample", "{in}/image.tif", "--author", "A", "--license", "MIT"), "m.zip"),
    Scenario("compile", ("compile", "{in}/model.safetensors", "--architectures", "sm86", "--out", "{out}/engines",
                         "--size", "256"), "engines"),
]  # fmt: skip


def write_inputs(folder: Path) -> None:
    """Images, a model, and a checkpoint of the reference implementation."""
    rng = np.random.default_rng(0)
    for kind in ("source", "target"):
        (folder / kind).mkdir(parents=True)
        for number in range(3):
            tifffile.imwrite(folder / kind / f"{number}.tif", rng.integers(0, 256, (40, 48), np.uint8))
    tifffile.imwrite(folder / "image.tif", rng.integers(0, 256, (64, 80), np.uint8))
    config = GeneratorConfig(base_width=2, depth=5, source_channels=1, target_channels=1)
    save_model(random_model(config, InferenceConfig()), folder / "model.safetensors")
    assert run([*(text.replace("{in}", str(folder)) for text in EXPORT), "--format", "state-dict",
                "--out", str(folder / "g.pth")]) == 0  # fmt: skip


def command(arguments: list[str], temporary: Path) -> tuple[int, list[str]]:
    """Exit code and the lines of stderr; temporary files are in `temporary`."""
    errors = io.StringIO()
    with (
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(io.StringIO()),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(tempfile, "tempdir", str(temporary))
        torch.manual_seed(0)
        code = run(arguments)
    return code, errors.getvalue().splitlines()


def tree(folder: Path) -> dict[str, bytes | None]:
    """All files with their bytes, and all folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


Content = dict[str, Any] | None


def content(path: Path) -> Content:
    """What an output holds, without times and random identifiers, each part equal to itself; None where there is none.

    A part that is half-written raises, or differs from that of every complete output.
    """
    if not path.exists():
        return None
    if not path.is_dir():
        return {"": _readers().get(path.suffix, Path.read_bytes)(path)}
    return {
        str(file.relative_to(path)): _readers().get(file.suffix, Path.read_bytes)(file)
        for file in sorted(path.rglob("*"))
        if file.is_file() and ".pix2pix" not in str(file.relative_to(path))
    }


def _readers() -> dict[str, Callable[[Path], Any]]:
    return {
        ".engine": _engine,
        ".pt": _checkpoint,
        ".csv": _metrics,
        ".safetensors": _model,
        ".tif": _tiff,
        ".zip": _members,
    }


def _checkpoint(path: Path) -> Any:
    saved = torch.load(path, weights_only=True)
    return _plain({name: value for name, value in saved.items() if name != "seconds"})


def _metrics(path: Path) -> Any:
    with path.open(newline="") as file:
        return [[value for name, value in row.items() if name != "seconds"] for row in csv.DictReader(file)]


def _model(path: Path) -> Any:
    model = load_model(path)
    facts = {name: value for name, value in model.training.items() if name != "seconds"}
    return _plain({"weights": dict(model.weights), "training": facts, "metrics": dict(model.metrics)})


def _tiff(path: Path) -> Any:
    with tifffile.TiffFile(path) as tif:
        return [(level.shape, level.asarray().tobytes()) for series in tif.series for level in series.levels]


def _engine(path: Path) -> Any:
    """All but the compiled bytes, which differ from build to build and are sealed."""
    return read_engine_file(path).key


def _members(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith((".yaml", ".pt"))}


def _plain(value: Any) -> Any:
    """Tensors as bytes, so that contents can be compared."""
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.numpy().tobytes())
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
