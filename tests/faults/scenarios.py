"""The commands that the fault tests run, on tiny images, and what their outputs hold."""

from __future__ import annotations

import contextlib
import csv
import io
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
import torch
from rasterio.transform import from_origin

from napari_pix2pix import demonstration
from napari_pix2pix.cli.application import run
from pix2pix_training.array_source import AnyArray
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.model_file import load_model, save_model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.regions import Region
from pix2pix_trt.engine_file import read_engine_file
from tests.product.translation.conftest import random_model

TINY = ["--patch-size", "32", "--base-width", "2", "--depth", "3", "--steps", "3"]
TRAIN = ("train", "--source", "{in}/source", "--target", "{in}/target", "--out", "{out}/run", *TINY,
         "--validate-every", "2", "--checkpoint-every", "1")  # fmt: skip
MODEL = ("--model", "{in}/model.safetensors", "--backend", "torch")
EXPORT = ("export", "{in}/model.safetensors")
_SMALL_DEMO = {"_TRAINING_SIZE": 512, "_LARGE_SIZE": 256, "_DETAIL": Region(0, 256, 0, 256)}


@dataclass(frozen=True)
class Scenario:
    """A command, with the folders of inputs and outputs as ``{in}`` and ``{out}``.

    `output` is what appears in the output folder, None where the command writes nothing there. `earlier` is a command
    that was given before, and `is_halfway` says that it was killed in the midst of its work. `again` are options that a
    second try has where the first was not completed. `skips` says that a failure may be one of several outputs.
    `most` is how many failures of each sort are tried.
    """

    name: str
    arguments: tuple[str, ...]
    output: str | None = None
    earlier: tuple[str, ...] = ()
    is_halfway: bool = False
    again: tuple[str, ...] = ()
    skips: bool = False
    most: int = 12

    def command(self, inputs: Path, out: Path, *more: str) -> list[str]:
        return placed((*self.arguments, *more), inputs, out)


def placed(arguments: Sequence[str], inputs: Path, out: Path) -> list[str]:
    return [text.replace("{in}", str(inputs)).replace("{out}", str(out)) for text in arguments]


def _translation(image: str, ending: str, *more: str) -> tuple[str, ...]:
    return ("translate", f"{{in}}/{image}", *MODEL, "--out", f"{{out}}/o.{ending}", *more)


def _whole_images() -> list[Scenario]:
    """Translations that take an image as one piece."""
    found = [
        Scenario(f"translate to {ending}", _translation("image.tif", ending), f"o.{ending}", again=("--resume",))
        for ending in ("png", "jpg", "bmp", "gif", "tif", "ome.tif", "ome.zarr")
    ]
    for ending in ("tif", "ome.zarr"):
        arguments, earlier = _translation("image.tif", ending, "--overwrite"), _translation("source/0.tif", ending)
        found.append(Scenario(f"translate over {ending}", arguments, f"o.{ending}", earlier=earlier))
    folder = ("translate", "{in}/source", *MODEL, "--out", "{out}/o")
    skipping = (*folder, "--on-error", "skip")
    return [
        *found,
        Scenario("translate a folder", folder, "o", again=("--resume",)),
        Scenario("translate a folder, skipping", skipping, "o", again=("--resume",), skips=True),
    ]


def _regions() -> list[Scenario]:
    """Translations of an image of four regions, which are gone on with."""
    found = []
    for name, image, ending in (
        ("tif", "large.tif", "tif"),
        ("GeoTIFF", "map.tif", "tif"),
        ("png", "large.tif", "png"),
        ("ome.tif", "large.tif", "ome.tif"),
        ("ome.zarr", "large.tif", "ome.zarr"),
    ):
        arguments, output = _translation(image, ending, "--region", "256", "--resume"), f"o.{ending}"
        shards = [_translation(image, ending, "--region", "256", "--shard", f"{number}/2") for number in (1, 2)]
        found += [
            Scenario(f"translate regions to {name}", arguments, output),
            Scenario(f"resume {name}", arguments, output, earlier=arguments, is_halfway=True),
            Scenario(f"translate the last shard to {name}", shards[1], output, earlier=shards[0]),
        ]
    planes = _translation("stack.tif", "ome.tif")
    return [*found, Scenario("translate planes to ome.tif", planes, "o.ome.tif", again=("--resume",))]


SCENARIOS = [
    Scenario("train", TRAIN, "run"),
    Scenario("train over a run", (*TRAIN, "--overwrite"), "run", earlier=(*TRAIN, "--steps", "1")),
    Scenario("train --resume", (*TRAIN, "--resume"), "run", earlier=TRAIN, is_halfway=True),
    *_whole_images(),
    *_regions(),
    Scenario("evaluate", ("evaluate", *MODEL[:2], "--source", "{in}/image.tif", "--target", "{in}/image.tif")),
    Scenario("info of a model", ("info", "{in}/model.safetensors")),
    Scenario("info of an image", ("info", "{in}/image.tif")),
    Scenario("export to state-dict", (*EXPORT, "--format", "state-dict", "--out", "{out}/g.pth"), "g.pth"),
    Scenario("import-weights", ("import-weights", "{in}/g.pth", "--out", "{out}/m.safetensors"), "m.safetensors"),
    Scenario("import-weights over a model",
             ("import-weights", "{in}/g.pth", "--out", "{out}/m.safetensors", "--overwrite"), "m.safetensors",
             earlier=("import-weights", "{in}/g.pth", "--out", "{out}/m.safetensors", "--statistics",
                      "running")),
]  # fmt: skip
SLOW_SCENARIOS = [
    Scenario("export to onnx", (*EXPORT, "--format", "onnx", "--out", "{out}/m.onnx"), "m.onnx", most=6),
    Scenario("export to bioimageio", (*EXPORT, "--format", "bioimageio", "--out", "{out}/m.zip", "--name", "my model",
                                      "--sample", "{in}/image.tif", "--author", "A", "--license", "MIT"), "m.zip",
             most=6),
    Scenario("compile", ("compile", "{in}/model.safetensors", "--architectures", "sm86", "--out", "{out}/engines",
                         "--size", "256"), "engines", most=6),
    Scenario("demo", ("demo", "--out", "{out}/demo", "--steps", "2"), "demo", again=("--overwrite",), most=6),
]  # fmt: skip


def write_inputs(folder: Path) -> None:
    """Images, a model, and a checkpoint of the reference implementation."""
    rng = np.random.default_rng(0)

    def pixels(*shape: int) -> AnyArray:
        return rng.integers(0, 256, shape, np.uint8)

    for kind in ("source", "target"):
        (folder / kind).mkdir(parents=True)
        for number in range(3):
            tifffile.imwrite(folder / kind / f"{number}.tif", pixels(40, 48))
    tifffile.imwrite(folder / "image.tif", pixels(64, 80))
    tifffile.imwrite(folder / "large.tif", pixels(272, 264))
    tifffile.imwrite(folder / "stack.tif", pixels(2, 64, 80), imagej=True, metadata={"axes": "TYX"})
    with rasterio.open(folder / "map.tif", "w", driver="GTiff", height=272, width=264, count=1, dtype="uint8",
                       crs="EPSG:32632", transform=from_origin(5e5, 5e6, 1, 1)) as file:  # fmt: skip
        file.write(pixels(1, 272, 264))
    config = GeneratorConfig(base_width=2, depth=5, source_channels=1, target_channels=1)
    save_model(random_model(config, InferenceConfig()), folder / "model.safetensors")
    state_dict = (*EXPORT, "--format", "state-dict", "--out", "{in}/g.pth")
    assert command(placed(state_dict, folder, folder), folder)[0] == 0


def command(arguments: list[str], temporary: Path) -> tuple[int, list[str]]:
    """Exit code and the lines of stderr; temporary files are in `temporary`."""
    errors = io.StringIO()
    with (
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(io.StringIO()),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(tempfile, "tempdir", str(temporary))
        for name, value in _SMALL_DEMO.items():
            patch.setattr(demonstration, name, value)
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
