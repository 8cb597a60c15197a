"""The commands, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import errno
import logging
from contextlib import suppress
from typing import Any

import typer

from napari_pix2pix.cli import (
    compile_command,
    demo_command,
    doctor_command,
    evaluate_command,
    export_command,
    import_weights_command,
    info_command,
    interrupts,
    train_command,
    translate_command,
)
from napari_pix2pix.cli.console import json_remarks, print_json, say, standard_output, warn
from pix2pix_training.cancel import Interrupted
from pix2pix_training.errors import InputError, Pix2PixError
from pix2pix_training.remarks import remarks

EXIT_DONE, EXIT_FAILED, EXIT_WRONG_USE = 0, 1, 2
_NO_NAME = (errno.ENAMETOOLONG, errno.ELOOP)
"""What no file can be called, so that nothing was begun."""

# Wrong use as typer reports it; newer versions carry their own copy of click, so it is taken from typer.
_CLICK_EXCEPTION: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    name="napari-pix2pix",
    help="Train pix2pix on paired images and translate images of any size.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train_command.train)
app.command("translate")(translate_command.translate)
app.command("evaluate")(evaluate_command.evaluate)
app.command("info")(info_command.info)
app.command("import-weights")(import_weights_command.import_weights)
app.command("export")(export_command.export)
app.command("compile")(compile_command.compile_model)
app.command("doctor")(doctor_command.doctor)
app.command("demo")(demo_command.demo)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; an error is one line on stderr."""
    _quiet_libraries()
    as_json = "--json" in arguments
    interrupts.begin(as_json)
    with remarks(warn) as said, json_remarks(said):
        code, message = _outcome(arguments)
        if message is None:
            return code
        interrupts.finish()
        message = " ".join(message.split())
        if as_json:
            with suppress(Pix2PixError):  # stdout is closed
                print_json({"error": message, "code": code})
        say(f"error: {message}")
        return code


def _outcome(arguments: list[str]) -> tuple[int, str | None]:
    """Exit code and error of a command."""
    try:
        _refuse_empty(arguments)
        code = app(arguments or ["--help"], prog_name="napari-pix2pix", standalone_mode=False)
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
