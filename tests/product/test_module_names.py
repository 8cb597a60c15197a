"""A name means one thing: no two modules of one name, and none of the name of a library."""

from __future__ import annotations

import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = [
    path.relative_to(ROOT)
    for package in ("napari_pix2pix", "src_training/pix2pix_training", "trt/pix2pix_trt")
    for path in sorted((ROOT / package).rglob("*.py"))
    if not path.stem.startswith("__")
]


def test_no_two_modules_have_one_name() -> None:
    places = defaultdict(list)
    for path in MODULES:
        places[path.stem.removesuffix("s")].append(str(path))  # "stage" and "stages" are one name
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_module_has_the_name_of_a_library() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    libraries = {name.split(">")[0].split("[")[0].replace("-", "_").lower() for name in required}
    assert [str(path) for path in MODULES if path.stem in libraries | sys.stdlib_module_names] == []
