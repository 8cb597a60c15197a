"""The commands, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import errno
import logging
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
from napari_pix2pix.cli.console import json_remarks, say, standard_output, warn
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
    interrupts.begin()
    with remarks(warn) as said:
        return _run(arguments, said)


def _run(arguments: list[str], said: list[str]) -> int:
    try:
        with json_remarks(said):
            code = app(arguments or ["--help"], prog_name="napari-pix2pix", standalone_mode=False)
        with standard_output() as stdout:
            stdout.flush()
    except _CLICK_EXCEPTION as error:
        return _report(error.format_message(), EXIT_WRONG_USE)
    except (Interrupted, KeyboardInterrupt):
        return _report(interrupts.last_words(), interrupts.EXIT_INTERRUPTED)
    except InputError as error:
        return _report(str(error), EXIT_WRONG_USE)
    except Pix2PixError as error:
        return _report(str(error), EXIT_FAILED)
    except MemoryError:
        return _report("out of memory; use a smaller --max-memory, patch or batch", EXIT_FAILED)
    except OSError as error:
        code = EXIT_WRONG_USE if error.errno in _NO_NAME else EXIT_FAILED
        return _report(": ".join(str(part) for part in (error.filename, error.strerror or error) if part), code)
    if not arguments:
        return EXIT_WRONG_USE
    return code if isinstance(code, int) else EXIT_DONE


def _report(message: str, code: int) -> int:
    interrupts.finish()
    say("error: " + " ".join(message.split()))
    return code


def _quiet_libraries() -> None:
    """Our own warnings are shown, see `remarks`; other libraries' are not for users."""
    for name in ("napari_pix2pix", "pix2pix_training", "pix2pix_trt"):
        logging.getLogger(name).propagate = False
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
