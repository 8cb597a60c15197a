"""How fast a device trains, tried out with a few steps before a run is begun. No napari, no Qt."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from napari_pix2pix._widgets.form_words import in_form_words
from pix2pix_training.config import TrainingConfig
from pix2pix_training.errors import Pix2PixError

_WARM_UP_STEPS = 1
_SECONDS = 1.5
_DEVICES = {"cpu": "Processor", "mps": "Apple GPU"}
_SECONDS_PER_MINUTE = 60

_trial = threading.Lock()
"""Held while steps are tried out: they draw from PyTorch's random numbers, which a run makes repeatable."""
_runs: list[object] = []


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What a device is, and how long it takes for a step; None where it is not known, as yet or at all.

    `kind` is "cpu", "cuda" or "mps".
    """

    kind: str
    device: str
    seconds: float | None = None
    problem: str | None = None

    def words(self, unit: str, length: float) -> str:
        """ "Processor: about 900 steps in 10 minutes." """
        if self.seconds is None:
            return (
                f"{self.device}; how fast it is stands here once images are chosen."
                if self.problem is None
                else f"{self.device}: {self.problem}."
            )
        match unit:
            case "minutes":
                steps = length * _SECONDS_PER_MINUTE / self.seconds
                return f"{self.device}: about {_rounded(steps)} steps in {length:g} {_plural('minute', length)}."
            case "steps":
                return f"{self.device}: about {_duration(length * self.seconds)} for {length:,.0f} steps."
            case _:
                return f"{self.device}: about {_rounded(_SECONDS_PER_MINUTE / self.seconds)} steps a minute."


@contextmanager
def no_trials() -> Iterator[None]:
    """Waits for the end of a trial, and lets none begin."""
    run = object()
    with _trial:
        _runs.append(run)
    try:
        yield
    finally:
        _runs.remove(run)


def computing_device() -> Generator[Pace, None, None]:
    """What the device "auto" is on this machine."""
    from pix2pix_training.device import resolve_device

    place = resolve_device("auto")
    yield Pace(kind=place.type, device=_name(place))


def pace_events(config: TrainingConfig, device: str) -> Generator[Pace | None, None, None]:
    """How fast the device is, at the end of a few steps on noise, between which None comes; none while a run is on."""
    from pix2pix_training.device import is_out_of_memory, resolve_device, resolve_precision
    from pix2pix_training.training_step import TrainingStep

    try:
        place = resolve_device(device)
    except Pix2PixError as error:
        yield Pace(kind=device, device=device, problem=in_form_words(str(error)))
        return
    pace = Pace(kind=place.type, device=_name(place))
    with _trial:
        if _runs:
            return
        try:
            dtype = resolve_precision(config.precision, place, training=True)
            step = TrainingStep(replace(config, compile=False), place, dtype)
            taken = list[float]()
            while len(taken) < _WARM_UP_STEPS + 1 or sum(taken[_WARM_UP_STEPS:]) < _SECONDS:
                started = time.perf_counter()
                losses = step.run_on_noise(config.batch_size, config.patch_size)
                float(losses["G_L1"])  # waits for the device
                taken.append(time.perf_counter() - started)
                yield None
        except Pix2PixError as error:
            yield replace(pace, problem=in_form_words(str(error)))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            yield replace(pace, problem="no memory for a step; choose a smaller patch, batch or width")
        else:
            tried = taken[_WARM_UP_STEPS:]
            yield replace(pace, seconds=sum(tried) / len(tried))


def _name(place: object) -> str:
    import torch

    assert isinstance(place, torch.device)
    return torch.cuda.get_device_name(place) if place.type == "cuda" else _DEVICES.get(place.type, place.type)


def _rounded(number: float) -> str:
    """With two digits that count."""
    if number < 1:
        return f"{number:.1g}"
    digits = max(0, len(str(int(number))) - 2)
    return f"{round(number, -digits):,.0f}"


def _duration(seconds: float) -> str:
    if seconds < 2 * _SECONDS_PER_MINUTE:
        return f"{_rounded(seconds)} {_plural('second', round(seconds))}"
    minutes = seconds / _SECONDS_PER_MINUTE
    return f"{_rounded(minutes)} minutes" if minutes < 2 * _SECONDS_PER_MINUTE else f"{_rounded(minutes / 60)} hours"


def _plural(noun: str, count: float) -> str:
    return noun if count == 1 else f"{noun}s"
