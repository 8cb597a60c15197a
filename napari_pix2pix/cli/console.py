"""What all commands share: progress on stderr, the JSON line, interrupts, and parsing of option values."""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from pix2pix_training.errors import SettingsError

if TYPE_CHECKING:
    from napari_pix2pix.formats.partial_output import Shard

_SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def say(message: str) -> None:
    """A line for people, on stderr."""
    sys.stderr.write(message + "\n")


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
    sys.stdout.write(json.dumps(_plain({**result, "warnings": list(_said.get() or ())})) + "\n")


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
        return Text(f"{done / task.elapsed:.2f} {self._unit}/s" if task.elapsed else "", style="cyan")


@contextmanager
def progress_bar(description: str, unit: str) -> Iterator[ProgressBar]:
    """A bar with rate and time left on stderr; nothing where stderr is not a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        _RateColumn(unit),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
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
        self._progress.update(self._task, completed=fraction, done=done, note=note)


@contextmanager
def interrupt_flag() -> Iterator[threading.Event]:
    """Set, instead of raising, at the first Ctrl-C or SIGTERM, so that work stops between steps; a second raises."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def on_signal(number: int, _frame: object) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()
        say("stopping after this step; press Ctrl-C again to stop at once")

    signals = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, on_signal) for number in signals]
    try:
        yield flag
    finally:
        for number, handler in zip(signals, previous, strict=True):
            signal.signal(number, handler)


def parse_channels(text: str | None) -> tuple[int, ...] | None:
    """ "0,2" -> (0, 2)."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError(f"channels {text!r} are not a list of numbers such as 0,2") from error


def parse_size(text: str | None) -> int | None:
    """ "2GB", "512MiB" or a number of bytes."""
    if text is None:
        return None
    number = text.strip().lower().removesuffix("b")
    digits = number.rstrip("kmgti")
    try:
        size = float(digits) * _SUFFIXES[number[len(digits) :]]
        if not 0 < size < 2**60:
            raise ValueError
    except (ValueError, KeyError) as error:
        raise SettingsError(f"size {text!r} is not understood; write for example 2GB or 512MiB") from error
    return int(size)


def parse_shard(text: str | None) -> Shard:
    """ "2/8" -> the second of eight parts; None for all of the work."""
    from napari_pix2pix.formats.partial_output import WHOLE, Shard

    if text is None:
        return WHOLE
    try:
        index, count = (int(part) for part in text.split("/"))
    except ValueError as error:
        raise SettingsError(f"shard {text!r} is not of the form I/N, such as 1/4") from error
    return Shard(index, count)


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
