"""Every option that a message, a help text or a page of the documentation names exists."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from napari_pix2pix import Pix2Pix, load_model, translate_file
from napari_pix2pix.cli.application import COMMANDS, application
from napari_pix2pix.translation import option_words
from napari_pix2pix.translation.option_words import in_python_words, in_words_of_command
from pix2pix_training.errors import OutputError

ROOT = Path(__file__).parents[2]
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9]*(?:-[a-z0-9]+)*(?![\w-])")
OF_COMMANDS_ALONE = {"--architectures", "--dask", "--discriminator", "--nproc-per-node", "--pairs", "--tensorboard"}
"""What scripts cannot run into: `compile`, clusters, weights of the reference, torchrun, pairs, TensorBoard."""
_DOORS = (Pix2Pix.train, Pix2Pix.translate, Pix2Pix.evaluate, Pix2Pix.export, translate_file)
OF_OTHER_PROGRAMS = {
    "--like",  # rio warp
    *("--logdir", "--index-url", "--extra-index-url", "--force-reinstall"),
    *("--dataroot", "--eval", "--ngf"),  # the reference implementation
    *("--nproc-per-node", "--nnodes", "--rdzv-endpoint"),  # torchrun
    *("--memory-limit", "--nthreads", "--nworkers"),  # Dask
}


def _options() -> set[str]:
    command = typer.main.get_command(application(COMMANDS))
    parameters = [p for each in command.commands.values() for p in each.params]  # type: ignore[attr-defined]
    return {name for p in parameters for name in (*p.opts, *p.secondary_opts)} | {"--help", "--version"}


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


def test_errors_in_scripts_name_arguments_of_python() -> None:
    taken = {name for each in _DOORS for name in inspect.signature(each).parameters}
    words = {word for option, word in option_words._ARGUMENTS.items() if option in _options()}
    assert {word.removesuffix("=True") for word in words} <= taken and len(words) == len(option_words._ARGUMENTS)
    lines = [
        text
        for folder in ("napari_pix2pix", "src_training")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not {"cli", "_widgets"} & set(path.parts)
        for text in _texts(path)
        if re.search(r"\s", text) and OPTION.search(text) and not set(OPTION.findall(text)) & OF_COMMANDS_ALONE
    ]
    assert len(lines) > 40
    assert [line for line in map(in_python_words, lines) if OPTION.search(line)] == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("o exists; give another name, or --overwrite", "o exists; give another name, or overwrite=True"),
        ("use --patch-size 64 with --depth 5", "use patch_size=64 with generator={'depth': 5}"),
        (
            "x; --convert-values image fits it, or --channels 0,2",
            "x; convert_values='image' fits it, or channels=(0, 2)",
        ),
        (
            "try a smaller --base-width, or --keep-constant",
            "try a smaller base_width of generator, or sampling={'skip_constant': False}",
        ),
        ("give the images: --source and --target; or a table by --pairs", "give the images: source and target"),
    ],
)
def test_options_in_the_words_of_python(line: str, expected: str) -> None:
    assert in_python_words(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x is novel; --novelty-map shows where", "x is novel"),
        ("x; give another, or --convert-values image, or --overwrite", "x; give another, or --overwrite"),
        (
            "x; do that with translate MODEL --tile 64, or choose fp32",
            "x; do that with translate MODEL --tile 64, or choose fp32",
        ),
        ("--channels is what it lacks; choose", "--channels is what it lacks; choose"),
    ],
)
def test_a_command_advises_what_it_has_or_another_command(line: str, expected: str) -> None:
    assert in_words_of_command(line, {"--overwrite"}, {"translate"}) == expected


def test_an_error_of_a_script_is_in_the_words_of_python(image_path: Path, model_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.tif"
    out.write_bytes(b"")
    with pytest.raises(OutputError, match=r"allow overwriting \(overwrite=True\)"):
        Pix2Pix(model_path).translate(image_path, out)
    with pytest.raises(OutputError, match=r"allow overwriting \(overwrite=True\)"):
        translate_file(image_path, load_model(model_path), out)


def test_the_documentation_of_training_names_options_that_exist() -> None:
    known = _options() | OF_OTHER_PROGRAMS
    pages = [page for kind in ("tutorials", "how-to", "reference") for page in (ROOT / "docs" / kind).glob("*.md")]
    assert len(pages) > 5
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert {option for option in OPTION.findall(text) if option not in known} == set(), page.name
