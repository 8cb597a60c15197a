"""How far a build is, from the nested phases that a TensorRT builder reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """Turns reports of nested phases into a fraction that never falls. Phases may be reported by several threads.

    Parameters
    ----------
    report : called with the fraction, 0 to 1, each time it has grown.
    """

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report
        self._phases: dict[str, _Phase] = {}
        self._fraction = 0.0
        self._lock = Lock()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._phases[name] = _Phase(parent, max(1, steps))

    def step(self, name: str, number: int) -> None:
        with self._lock:
            phase = self._phases.get(name)
            if phase is None:
                return
            phase.done = max(phase.done, number + 1)
            fraction = max((self._done(n) for n, p in self._phases.items() if p.parent is None), default=0.0)
            grown = fraction > self._fraction
            self._fraction = max(self._fraction, fraction)
        if grown:
            self._report(min(1.0, fraction))

    def finish(self, name: str) -> None:
        with self._lock:
            self._phases.pop(name, None)

    def _done(self, name: str) -> float:
        """Share of a phase that is done, that of its most advanced running part included."""
        phase = self._phases[name]
        inner = max((self._done(n) for n, p in self._phases.items() if p.parent == name), default=0.0)
        return min(1.0, (phase.done + inner) / phase.steps)
