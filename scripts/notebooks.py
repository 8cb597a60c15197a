"""Notebooks from their scripts: without results beside them, and executed in the folder notebooks/."""

from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]


def make(script: Path, executed: Path) -> None:
    notebook = jupytext.read(script)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # or each time another
    nbformat.write(notebook, script.with_suffix(".ipynb"))
    print(script.stem, flush=True)
    with TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": folder}}).execute()
    nbformat.write(notebook, executed / f"{script.stem}.ipynb")


if __name__ == "__main__":
    executed = ROOT / "notebooks"
    executed.mkdir(exist_ok=True)
    for script in sorted((ROOT / "docs" / "notebooks").glob("*.py")):
        make(script, executed)
