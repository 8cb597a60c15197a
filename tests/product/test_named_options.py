"""Every option that a message, a help text or a page of the documentation names exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import typer.main

from napari_pix2pix.cli.application import COMMANDS, application

ROOT = Path(__file__).parents[2]
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9]*(?:-[a-z0-9]+)*(?![\w-])")
OF_OTHER_PROGRAMS = {"--logdir", "--index-url", "--extra-index-url", "--force-reinstall"}


def _options() -> set[str]:
    command = typer.main.get_command(application(COMMANDS))
    parameters = [p for each in command.commands.values() for p in each.params]  # type: ignore[attr-defined]
    return {name for p in parameters for name in (*p.opts, *p.secondary_opts)} | {"--help"}


def _texts(path: Path) -> Iterator[str]:
    """String constants of a module but its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_advice_names_options_that_exist() -> None:
    known = _options() | OF_OTHER_PROGRAMS
    named: dict[str, str] = {}
    for folder in ("napari_pix2pix", "src_training", "trt"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for text in _texts(path):
                named |= dict.fromkeys(OPTION.findall(text), f"{path.name}: {text}")
    assert len(named) > 40
    assert {option: where for option, where in named.items() if option not in known} == {}


def test_the_documentation_of_training_names_options_that_exist() -> None:
    known = _options() | OF_OTHER_PROGRAMS
    for name in ("training.md", "training-data.md", "command-line.md", "models.md"):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert {option for option in OPTION.findall(text) if option not in known} == set(), name
