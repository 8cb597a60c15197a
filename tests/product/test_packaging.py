"""Wheel and sdist: what they hold, and that they work apart from the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]

SMOKE = """
import sys
sys.modules["npe2"] = sys.modules["napari"] = None
import numpy as np, tifffile
from pathlib import Path
import napari_pix2pix
from napari_pix2pix.cli.application import run
assert "site" in Path(napari_pix2pix.__file__).parts, napari_pix2pix.__file__
rng = np.random.default_rng(0)
for name in ("source", "target"):
    tifffile.imwrite(f"{name}.tif", rng.integers(0, 4096, (64, 96)).astype(np.uint16))
small = ["--patch-size", "32", "--base-width", "4", "--depth", "3"]
assert run(["train", "--source", "source.tif", "--target", "target.tif", "--out", "run", "--steps", "5", *small]) == 0
assert run(["translate", "source.tif", "--model", "run/model.safetensors", "--out", "out.tif"]) == 0
assert tifffile.imread("out.tif").shape == (64, 96)
assert run(["doctor"]) in (0, 1)
"""


def build(source: Path, out: Path, kind: str) -> Path:
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (result,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return result


PROJECT = "https://example.org/someone/napari-pix2pix"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("not run from a checkout")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROJECT_URL", PROJECT)
        patch.setenv("PROJECT_REF", "v9.9")
        return build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, so both are tested."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return build(source, tmp_path_factory.mktemp("wheel"), "wheel")


def test_wheel_holds_the_three_packages_and_the_manifest(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = next(archive.read(n).decode() for n in names if n.endswith("entry_points.txt"))
    top = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert top == {"napari_pix2pix", "pix2pix_training", "pix2pix_trt"}
    assert names >= {"napari_pix2pix/napari.yaml", *(f"{package}/py.typed" for package in top)}
    assert names >= {f"napari_pix2pix/docs/{page}" for page in ("reference/napari.md", "images/napari/train-form.png")}
    assert "napari-pix2pix = napari_pix2pix:napari.yaml" in entry_points
    assert "napari-pix2pix = napari_pix2pix.__main__:main" in entry_points


def test_version_is_that_of_the_sdist(sdist: Path, wheel: Path) -> None:
    version = sdist.name.removeprefix("napari_pix2pix-").removesuffix(".tar.gz")
    assert wheel.name.split("-")[1] == version
    assert Version(version) > Version("0.0.0.dev0")


def test_sdist_and_wheel_hold_what_they_should(sdist: Path, wheel: Path) -> None:
    """Licence and readme in both; tests in the sdist alone, pages inside the package; nothing that git ignores."""
    with tarfile.open(sdist) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    assert sources >= {
        "LICENSE",
        "README.md",
        "CITATION.cff",
        "docs/index.md",
        "tests/conftest.py",
        "napari_pix2pix/napari.yaml",
    }
    with zipfile.ZipFile(wheel) as file:
        installed = set(file.namelist())
        metadata = next(file.read(name).decode() for name in installed if name.endswith("METADATA"))
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in installed)
    assert "License-Expression: BSD-3-Clause" in metadata
    assert "Description-Content-Type: text/markdown" in metadata
    assert not {
        name for name in sources | installed if "__pycache__" in name or name.startswith((".venv", ".ci", "site/"))
    }
    assert not {name for name in installed if name.startswith(("tests", "benchmarks", "docs"))}


def test_links_of_the_readme_are_absolute_in_the_package(wheel: Path) -> None:
    """PyPI and the napari hub show the readme without the files beside it."""
    with zipfile.ZipFile(wheel) as file:
        metadata = next(file.read(name).decode() for name in file.namelist() if name.endswith("METADATA"))
    links = re.findall(r"\]\(([^)]+)\)", metadata)
    assert len(links) > 10
    assert [link for link in links if "://" not in link] == []
    assert f"]({PROJECT}/raw/v9.9/docs/images/seams_em.jpg)" in metadata
    for page in ("CHANGELOG.md", "docs/index.md#where-do-you-want-to-begin"):
        assert f"]({PROJECT}/blob/v9.9/{page})" in metadata


def test_issues_are_those_of_the_project_the_package_was_built_for(wheel: Path) -> None:
    """The forms link to them."""
    with zipfile.ZipFile(wheel) as file:
        metadata = next(file.read(name).decode() for name in file.namelist() if name.endswith("METADATA"))
    assert f"Project-URL: Issues, {PROJECT}/issues\n" in metadata
    assert "Project-URL: Citation (the pix2pix paper), https://" in metadata


def test_installed_wheel_trains_and_translates_without_napari(wheel: Path, tmp_path: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", SMOKE], cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_tifffile_is_one_that_escapes_the_names_of_channels() -> None:
    """Those before 2026.2.24 wrote OME-XML that is no XML."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (bound,) = [each.specifier for each in map(Requirement, project["dependencies"]) if each.name == "tifffile"]
    assert bound.contains("2026.2.24")
    assert not bound.contains("2026.2.23")


FORMS = sorted([*(ROOT / ".github").rglob("*.yml"), ROOT / "CITATION.cff"])


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_files_of_the_repository_are_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def test_the_workflow_that_publishes_needs_a_token_alone() -> None:
    text = (ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8")
    assert re.findall(r"secrets\.(\w+)", text) == ["PYPI_TOKEN"]


def test_the_container_installs_extras_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (named,) = re.findall(r"wheel}\[([\w,-]+)\]", (ROOT / "scripts" / "Dockerfile").read_text(encoding="utf-8"))
    assert set(named.split(",")) <= set(project["optional-dependencies"])
