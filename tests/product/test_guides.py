"""The commands of tutorials and how-to guides run as they stand there, on small images and with short trainings.

Blocks marked `bash` are run line by line, in their order, in one folder for each page; a training that would take
minutes takes two steps, with a tiny network. Of `pip install` the extra is looked for. The README is held to the same,
its Python included; test_api.py runs the tutorial of Python.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
import torch
from PIL import Image
from rasterio.transform import from_origin

from napari_pix2pix import compression
from napari_pix2pix.cli.application import run
from napari_pix2pix.sample_data import simulate_cells
from pix2pix_training.device import has_int8
from pix2pix_training.model_file import save_model
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.networks import Discriminator, build_generator
from tests.product.conftest import model_for

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
GUIDES = [README, *sorted(page for kind in ("tutorials", "how-to") for page in (ROOT / "docs" / kind).glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SLOW = ("README.md", "command-line.md", "share-a-model.md", "virtual-staining.md")
Make = Callable[[], Any]
LENGTHS = {"--minutes", "--steps", "--epochs", "--compare-presets", "--resume"}
ALL_PROCESSES = re.compile(r"^torchrun --nproc-per-node \d+ -m napari_pix2pix")
"""What is run in one process here; test_torchrun.py has several."""
OF_READERS = re.compile(
    r"(python3 -m venv|source|pip install|rio warp) .+|napari|napari-pix2pix doctor|scripts/(demo|test)"
)
"""What blocks that are not run may hold: what changes the machine, or opens a window."""


def lines_of(page: Path, kind: str) -> list[str]:
    blocks = (text for name, text in BLOCK.findall(page.read_text(encoding="utf-8")) if name == kind)
    return [line for text in blocks for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def shortened(words: list[str]) -> list[str]:
    """The words of a command, a training in two steps of a tiny network."""
    if words[0] == "demo":
        return [*words, "--steps", "2"]
    if words[0] == "compress":
        at = words.index("--minutes")
        return [*words[:at], "--steps", "2", *words[at + 2 :]]
    if words[0] != "train":
        return words
    result: list[str] = []
    for word in words:
        before = result[-1] if result else ""
        result.append("2" if before == "--steps" else "1s" if before == "--compare-presets" else word)
        if word == "--minutes":
            result[-1] = "--steps"
    result += [] if LENGTHS & set(result) - {"--resume"} else ["--steps", "2"]
    result += [] if "paper" in words else ["--patch-size", "32"]
    return result if "--init" in words else [*result, "--base-width", "4"]


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if page.name in SLOW else []) for page in GUIDES],
    ids=lambda page: page.name,
)
def test_commands_of_a_guide_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = lines_of(page, "bash")
    if any("onnx" in line or "bioimageio" in line for line in commands):
        pytest.importorskip("onnxscript")
    if any(".svs" in line for line in commands):
        pytest.importorskip("openslide")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compression, "times_as_fast", lambda *_: 4.0)  # networks as small as here are as fast
    make_images(page.name)
    for line in commands:
        line = ALL_PROCESSES.sub("napari-pix2pix", line)
        program, *words = shlex.split(line.removesuffix("&"), comments=True)
        assert program == "napari-pix2pix", line
        assert run(shortened(words)) == 0, f"{line}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_no_command_of_a_guide_is_left_out(page: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for line in lines_of(page, ""):
        command = line.partition("#")[0].strip()
        is_remote = "://" in command  # tests/product/remote has servers of its own for these
        assert is_remote or OF_READERS.fullmatch(command), f"mark the block as bash: {line}"
    for extra in re.findall(r"pip install \S*\[([\w-]+)\]", page.read_text(encoding="utf-8")):
        assert extra in extras


def test_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = (text for name, text in BLOCK.findall(README.read_text(encoding="utf-8")) if name == "python")
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    for field, size in (("train", 64), ("large", 100)):
        cells = simulate_cells(size, size)
        tifffile.imwrite(f"demo/{field}_source.tif", cells.source)
        tifffile.imwrite(f"demo/{field}_target.tif", cells.target)
    short = block.replace("minutes=5", "steps=2, patch_size=32, generator={'base_width': 4}")
    assert short != block
    names: dict[str, Any] = {}
    exec(compile(short, str(README), "exec"), names)
    assert names["stained"].shape == (2, 100, 100)


def test_pages_are_short() -> None:
    """Reference and measurements are for looking up; all other pages are read from start to end."""
    docs = ROOT / "docs"
    words = {page.relative_to(docs): len(page.read_text(encoding="utf-8").split()) for page in docs.rglob("*.md")}
    words = {page: count for page, count in words.items() if page.parts[0] not in ("reference", "measurements")}
    assert len(words) > 20
    assert {name: count for name, count in words.items() if count > 1500} == {}
    assert len(README.read_text(encoding="utf-8").split()) < 900


def make_images(guide: str) -> None:
    """What the guides speak of, in the current folder."""
    rng = np.random.default_rng(0)

    def smooth(*shape: int, dtype: Any = np.uint8) -> Any:
        coarse = rng.random((*(-(-size // 4) for size in shape[:2]), *shape[2:]))
        fine = np.kron(coarse, np.ones((4, 4, *(1 for _ in shape[2:]))))[: shape[0], : shape[1]]
        return (fine * np.iinfo(dtype).max).astype(dtype)

    def folder(name: str, make: Make, ending: str = "tif") -> None:
        Path(name).mkdir()
        for number in range(4):
            path = Path(name, f"{number}.{ending}")
            if ending == "png":
                Image.fromarray(make()).save(path)
            else:
                tifffile.imwrite(path, make())

    colours: Make = partial(smooth, 72, 80, 3)
    grey: Make = partial(smooth, 72, 80)
    camera: Make = partial(smooth, 72, 80, dtype=np.uint16)
    match guide:
        case "virtual-staining.md" | "whole-slides.md" | "registration.md":
            folder("unstained", colours)
            folder("stained", colours)
            description = "Aperio Image Library\r\n410x300 |AppMag = 20|MPP = 0.5"
            tifffile.imwrite(
                "slide.svs",
                smooth(300, 410, 3),
                tile=(256, 256),
                photometric="rgb",
                description=description,
                metadata=None,
            )
        case "label-free.md":
            for name in ("phase", "nuclei", "neurites"):
                folder(name, camera)
            Path("stacks").mkdir()
            for name in ("phase", "stained"):
                stack = np.stack([camera() for _ in range(5)])
                tifffile.imwrite(f"stacks/{name}.tif", stack, imagej=True, metadata={"axes": "ZYX"})
        case "em-membranes.md":
            folder("em", grey, "png")
            folder("membranes", lambda: np.where(grey() > 128, 255, 0).astype(np.uint8), "png")
        case "masks.md":
            folder("images", grey)
            folder("classes", lambda: (grey() // 86).astype(np.uint8))
            folder("objects", lambda: np.kron(rng.permutation(90).reshape(9, 10), np.ones((8, 8))).astype(np.uint16))
        case "denoising.md":
            folder("noisy", camera)
            folder("clean", camera)
        case "maps.md":
            side = {"aerial": 330, "map": 330, "tiles": 80, "kept/aerial": 80, "kept/map": 80}
            for name, size in side.items():
                Path(name).mkdir(parents=True)
                for number in range(4):
                    write_geotiff(Path(name, f"{number}.tif"), smooth(size, size, 3), size * number)
            write_geotiff(Path("area.tif"), smooth(90, 100, 3), 1000)
        case "huge-images.md":
            tifffile.imwrite("huge.tif", smooth(300, 400))
            save_model(model_for(1, 1), Path("model.safetensors"))
        case "int8.md":
            if not has_int8():
                pytest.skip("this processor has no VNNI")
            pytest.importorskip("openvino")
            tifffile.imwrite("huge.tif", smooth(300, 400))
            folder("images", grey)
            folder("targets", grey)
        case "resuming.md" | "scaling.md":
            tifffile.imwrite("slide.tif", smooth(300, 400, 3))
            save_model(model_for(3, 3), Path("he.safetensors"))
        case "few-pairs.md":
            folder("few", grey)
            folder("few_stained", grey)
            for name in ("one.tif", "one_stained.tif"):
                tifffile.imwrite(name, smooth(160, 160))
        case "share-a-model.md":
            folder("images", grey)
            folder("targets", grey)
        case "from-the-reference.md":
            network = GeneratorConfig(
                architecture="resnet", blocks=1, base_width=2, source_channels=3, target_channels=3
            )
            torch.save(build_generator(network).state_dict(), "latest_net_G.pth")
            torch.save(Discriminator(6, DiscriminatorConfig(layers=1, base_width=3)).state_dict(), "latest_net_D.pth")
            Image.fromarray(colours()).save("photo.png")
            folder("combined", lambda: smooth(288, 576, 3), "png")
        case "faster.md":
            folder("phase", grey)
            folder("stained", grey)
            save_model(model_for(1, 1), Path("model.safetensors"))
        case "training.md" | "judge-a-model.md":
            folder("phase", grey)
            folder("stained", grey)


def write_geotiff(path: Path, pixels: Any, east: int) -> None:
    height, width, bands = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=bands, dtype="uint8", crs="EPSG:32633",
        transform=from_origin(east, 5_000_000, 1, 1),
    ) as file:  # fmt: skip
        file.write(np.moveaxis(pixels, -1, 0))
