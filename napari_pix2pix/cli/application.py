"""The commands, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Annotated, Any, cast

import typer

from napari_pix2pix.cli import interrupts, torchrun
from napari_pix2pix.cli.console import json_remarks, print_json, print_line, say, standard_output, warn
from pix2pix_training.cancel import Interrupted
from pix2pix_training.errors import InputError, Pix2PixError
from pix2pix_training.remarks import remarks

EXIT_DONE, EXIT_FAILED, EXIT_WRONG_USE = 0, 1, 2
_NO_NAME = (errno.ENAMETOOLONG, errno.ELOOP)
"""What no file can be called, so that nothing was begun."""

# Wrong use as typer reports it; newer versions carry their own copy of click, so it is taken from typer.
_CLICK_EXCEPTION: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

COMMANDS = {
    "train": ("train", "Train a model on paired images."),
    "translate": ("translate", "Translate images of any size."),
    "evaluate": ("evaluate", "Score translated images against real ones: MAE, PSNR, SSIM, Pearson."),
    "calibrate": ("calibrate", "Add to a model how far results may lie from the target, and what tells other images."),
    "compress": ("compress", "Teach a smaller network to do what a model does, several times as fast."),
    "info": ("info", "Describe a model file or an image."),
    "import-weights": (
        "import_weights",
        "Open networks of the PyTorch reference implementation and save them as a model file.",
    ),
    "export": (
        "export",
        "Write a model for ONNX runtimes, the BioImage Model Zoo, or the PyTorch reference implementation.",
    ),
    "compile": ("compile_model", "Compile a model for TensorRT or TensorRT-RTX."),
    "doctor": ("doctor", "Check the installation."),
    "demo": ("demo", "Run the main job on simulated cells: a few minutes on two CPU cores."),
}
"""Of each command its function, in the module of its name, and what it does."""


def application(names: Collection[str]) -> typer.Typer:
    """All commands; those that are not among `names` are only listed, as loading them takes time."""
    app = typer.Typer(
        name="napari-pix2pix",
        help="Train pix2pix on paired images and translate images of any size.",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for name, (function, does) in COMMANDS.items():
        module = f"napari_pix2pix.cli.{name.replace('-', '_')}_command"
        app.command(name, help=does)(getattr(import_module(module), function) if name in names else _listed)
    return app


def _say_version(asked: bool) -> None:
    if not asked:
        return
    from importlib.metadata import PackageNotFoundError, version  # takes time

    try:
        print_line(version("napari-pix2pix"))
    except PackageNotFoundError:
        raise Pix2PixError("the package is not installed, so its version is not known; run pip install .") from None
    raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_say_version)
    ] = False,
) -> None:
    """What stands before a command."""


def _listed() -> None:
    """Stands for a command that is not called."""


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; an error is one line on stderr."""
    _quiet_libraries()
    as_json = "--json" in arguments
    interrupts.begin(as_json)
    torchrun.begin()
    worded = partial(_in_words_of, next((word for word in arguments if word in COMMANDS), None))
    with remarks(warn, worded=worded) as said, json_remarks(said):
        code, message = _outcome(arguments)
        if message is None:
            return code
        interrupts.finish()
        if not torchrun.has_last_word(code):
            return code
        message = worded(" ".join(message.split()))
        if as_json:
            with suppress(Pix2PixError):  # stdout is closed
                print_json({"error": message, "code": code})
        say(f"error: {message}")
        return code


def _in_words_of(command: str | None, line: str) -> str:
    """A line without advice to use options that the command does not have."""
    if command is None or "; " not in line or "--" not in line:
        return line
    from napari_pix2pix.translation.option_words import in_words_of_command

    options = cast(Any, typer.main.get_command(application([command]))).commands[command].params
    known = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    return in_words_of_command(line, known, COMMANDS.keys() - {command})


def _outcome(arguments: list[str]) -> tuple[int, str | None]:
    """Exit code and error of a command."""
    try:
        _refuse_empty(arguments)
        torchrun.require_use(arguments)
        program = application(arguments)
        code = program(arguments or ["--help"], prog_name="napari-pix2pix", standalone_mode=False)
        with standard_output() as stdout:
            stdout.flush()
    except _CLICK_EXCEPTION as error:
        return EXIT_WRONG_USE, error.format_message()
    except (Interrupted, KeyboardInterrupt):
        return interrupts.EXIT_INTERRUPTED, interrupts.last_words()
    except InputError as error:
        return EXIT_WRONG_USE, str(error)
    except Pix2PixError as error:
        return EXIT_FAILED, str(error)
    except MemoryError:
        return EXIT_FAILED, "out of memory; use a smaller --max-memory, patch or batch"
    except OSError as error:
        code = EXIT_WRONG_USE if error.errno in _NO_NAME else EXIT_FAILED
        return code, ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
    if not arguments:
        return EXIT_WRONG_USE, None
    return code if isinstance(code, int) else EXIT_DONE, None


def _refuse_empty(arguments: list[str]) -> None:
    """An empty path would be the current folder; it comes from a variable of the shell that is not set."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if not argument:
            raise InputError(f"{before if before.startswith('-') else 'an argument'} is empty; give a value")
        if argument.startswith("--") and argument.endswith("="):
            raise InputError(f"{argument[:-1]} is empty; give a value")


def _quiet_libraries() -> None:
    """Our own warnings are shown, see `remarks`; other libraries' are not for users."""
    for name in ("napari_pix2pix", "pix2pix_training", "pix2pix_trt"):
        logging.getLogger(name).propagate = False
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
