"""Notebooks are what their scripts say, hold no results, and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

jupytext = pytest.importorskip("jupytext")
nbformat = pytest.importorskip("nbformat")

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
every_notebook = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)


def cells(notebook: Any) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def test_every_notebook_has_a_script() -> None:
    assert len(SCRIPTS) == 3
    assert [path.stem for path in SCRIPTS] == [path.stem for path in sorted(FOLDER.glob("*.ipynb"))]


@every_notebook
def test_notebook_is_what_its_script_says(script: Path) -> None:
    """If not: scripts/notebooks."""
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    assert cells(notebook) == cells(jupytext.read(script))
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


@every_notebook
@pytest.mark.parametrize("is_short", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["short", "as it is"])
def test_notebook_runs(script: Path, is_short: bool, tmp_path: Path) -> None:
    """Short is a training of two steps in place of a minute; all else is as it stands there."""
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    (training,) = (cell for cell in notebook.cells if "Pix2Pix.train(" in cell.source)
    assert "minutes=1" in training.source
    if is_short:
        training.source = training.source.replace("minutes=1", "steps=2, patch_size=64, generator={'base_width': 4}")
    nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not any(output.output_type == "error" for output in shown)
    assert any("image/png" in output.get("data", {}) for output in shown)
