"""What all commands share: progress on stderr, the JSON line, and parsing of option values."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import chain, count
from typing import TYPE_CHECKING, Any, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from pix2pix_training.errors import Pix2PixError, SettingsError

if TYPE_CHECKING:
    from napari_pix2pix.formats.output_state import Part

_FIRST_LINES_S = (1, 2, 5, 10, 30)


class _Stderr:
    """Stderr, on which lines are lost where nobody can read them, as after a terminal was closed."""

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


def say(message: str) -> None:
    """A line for people, on stderr."""
    _Stderr().write(message + "\n")


def warn(message: str) -> None:
    """A line on stderr about what was decided; above the bar where one is shown."""
    if _bars:
        _bars[-1].say(f"warning: {message}")
    else:
        say(f"warning: {message}")


_bars: list[ProgressBar] = []
_said: ContextVar[list[str] | None] = ContextVar("said", default=None)


@contextmanager
def json_remarks(said: list[str]) -> Iterator[None]:
    """Within it, `print_json` adds what was `said` as "warnings"."""
    token = _said.set(said)
    try:
        yield
    finally:
        _said.reset(token)


def print_json(result: Mapping[str, Any]) -> None:
    """One object as the last line of stdout, with the warnings of the run; numbers that JSON lacks become null."""
    print_line(json.dumps(_plain({**result, "warnings": list(_said.get() or ())})))


def print_line(line: object) -> None:
    """A line of the result, on stdout."""
    with standard_output() as stdout:
        stdout.write(f"{line}\n")
        stdout.flush()


@contextmanager
def standard_output() -> Iterator[TextIO]:
    """Stdout, to be written to; raises `Pix2PixError` where it was closed or is full."""
    try:
        yield sys.stdout
    except (OSError, ValueError, AttributeError) as error:  # the last two where it is closed
        with suppress(OSError, ValueError, AttributeError):  # else Python tries again at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        reason = getattr(error, "strerror", None) or "it is closed"
        raise Pix2PixError(f"the result could not be written to standard output: {reason}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def score_line(scores: Mapping[str, float | None]) -> str:
    return "  ".join(f"{name} {'undefined' if v is None else format(v, '.4f')}" for name, v in scores.items())


class _RateColumn(ProgressColumn):
    """Units done per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        done = task.fields.get("done", task.completed)
        return Text(f"{done / task.elapsed:.2f} {self._unit}/s" if done and task.elapsed else "", style="cyan")


@contextmanager
def progress_bar(description: str, unit: str) -> Iterator[ProgressBar | ProgressLines]:
    """Progress with rate and time left on stderr: a bar on a terminal, else a line now and then."""
    console = Console(file=cast(TextIO, _Stderr()))
    if not console.is_terminal:
        yield ProgressLines(description, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        _RateColumn(unit),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        _bars.append(ProgressBar(progress, progress.add_task(description, total=1.0, note="", done=0)))
        try:
            yield _bars[-1]
        finally:
            _bars.pop()


class ProgressBar:
    """Handle of a running bar."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress = progress
        self._task = task

    def say(self, message: str) -> None:
        """A line above the bar."""
        self._progress.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def update(self, fraction: float, done: int, note: str = "") -> None:
        """`fraction` of the work is done, which is `done` units."""
        self._progress.update(self._task, completed=fraction, done=done, note=note)


class ProgressLines:
    """Progress for a log file: lines after 1, 2, 5, 10 and 30 seconds, then every minute."""

    def __init__(self, description: str, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._description = description
        self._unit = unit
        self._clock = clock
        self._started = clock()
        self._due = chain(_FIRST_LINES_S, count(60, 60))
        self._next = next(self._due)
        self._first: tuple[float, float] | None = None

    def say(self, message: str) -> None:
        """A line between those of the progress."""
        say(message)

    def update(self, fraction: float, done: int, note: str = "") -> None:
        """`fraction` of the work is done, which is `done` units."""
        elapsed = self._clock() - self._started
        first_elapsed, first_fraction = self._first = self._first or (elapsed, fraction)
        if elapsed < self._next:
            return
        self._next = next(due for due in self._due if due > elapsed)
        parts = [f"{self._description}: {fraction:.0%}"]
        if done:
            parts.append(f"{done / elapsed:.2f} {self._unit}/s")
        if fraction > first_fraction:
            parts.append(f"{_duration((elapsed - first_elapsed) * (1 - fraction) / (fraction - first_fraction))} left")
        say(", ".join(filter(None, (*parts, note))))


def _duration(seconds: float) -> str:
    """ "1:02:03", or "2:03" below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def parse_shard(text: str | None) -> Part:
    """ "2/8" -> the second of eight parts; None for all of the work."""
    from napari_pix2pix.formats.output_state import WHOLE, Part

    if text is None:
        return WHOLE
    try:
        index, count = (int(part) for part in text.split("/"))
    except ValueError as error:
        raise SettingsError(f"shard {text!r} is not of the form I/N, such as 1/4") from error
    return Part(index, count)


def parse_range(text: str | None) -> tuple[float, float] | None:
    """ "0,255" -> (0.0, 255.0)."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError(f"range {text!r} is not of the form LOW,HIGH") from error
    if not low < high:
        raise SettingsError(f"range {text!r}: LOW must be below HIGH")
    return low, high
