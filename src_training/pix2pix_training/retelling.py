"""Events of one kind told as events of another."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeVar

Event = TypeVar("Event")
Result = TypeVar("Result")
Told = TypeVar("Told")


def retold(events: Generator[Event, None, Result], tell: Callable[[Event], Told]) -> Generator[Told, None, Result]:
    """What `tell` makes of each event, and in the end what the events lead to."""
    with closing(events):
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                result: Result = end.value
                return result
            yield tell(event)
