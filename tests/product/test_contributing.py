"""CONTRIBUTING.md names modules that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = sorted(set(re.findall(r"`([\w./]+/|[\w./]+\.py)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))))
FOLDERS = ("napari_pix2pix", "src_training", "trt", "tests", "benchmarks")
MODULES = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
PLACES = {path.relative_to(ROOT).as_posix() for path in MODULES} | {
    folder.relative_to(ROOT).as_posix() + "/"
    for path in [*MODULES, *(ROOT / "docs").rglob("*")]
    for folder in path.parents
    if folder not in (ROOT, *ROOT.parents)
}


@pytest.mark.parametrize("name", NAMED)
def test_named_module_exists(name: str) -> None:
    assert any(f"/{place}".endswith(f"/{name}") for place in PLACES)


def test_names_are_found() -> None:
    assert len(NAMED) > 40
