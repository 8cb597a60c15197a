"""What a translation tells while it goes, and what it did in the end. Importing it costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pix2pix_training.retelling import retold

if TYPE_CHECKING:
    from napari_pix2pix.formats.writing import OutputSpec
    from napari_pix2pix.translation.plan import Plan
    from napari_pix2pix.translation.settings import Scheme
    from pix2pix_training.choices import Statistics


@dataclass(frozen=True, kw_only=True)
class Planned:
    """Everything is decided, and nothing computed yet.

    `plan` says how, by which backend and why that; `spec` what is going to be made; `tiles` are those of all planes.
    """

    plan: Plan
    spec: OutputSpec
    tiles: int


@dataclass(frozen=True, kw_only=True)
class TilesDone:
    """Tiles finished, of how many."""

    done: int
    total: int

    @property
    def fraction(self) -> float:
        return self.done / max(1, self.total)


@dataclass(frozen=True, kw_only=True)
class RegionDone:
    """The region of this number is written and recorded; so many are `done` of those that are this process's."""

    number: int
    done: int
    total: int


Event = Planned | TilesDone | RegionDone


@dataclass(frozen=True, kw_only=True)
class TranslationReport:
    """What ran, which may differ from what was asked for where that was "auto", in the fields of ``translate --json``.

    `seconds` is without set-up (opening, loading the network, planning); `pixels` counts all planes;
    `tiles_reused` were there from an earlier run; `complete` is False while other shards are still to come.
    `peak_memory_bytes` is the peak of the whole process since its start. `clipped_share` is from 0 to 1: for each
    channel of the image the share of the values that were read which lie beyond the range that the model knows; for
    categories that of pixels of no known category. Empty where nothing was read. `novel_share` is the
    share of the image that is unlike what the model was trained on, from 0 to 1: with a novelty map of all of it, else
    of some places. None where the model cannot tell, or nothing was looked at.
    """

    pixels: int
    seconds: float
    seconds_setup: float
    backend: str
    backend_reason: str
    device: str
    precision: str
    scheme: Scheme
    statistics: Statistics
    tile: int
    split_level: int | None
    mac_overhead: float
    peak_memory_bytes: int
    tiles: int
    tiles_reused: int = 0
    complete: bool = True
    clipped_share: tuple[float, ...] = ()
    novel_share: float | None = None


Progress = Callable[[int, int], None]
"""Called with the number of finished tiles and of all tiles."""
AnyEvent = TypeVar("AnyEvent")
Result = TypeVar("Result")


def ended(events: Generator[AnyEvent, None, Result], each: Callable[[AnyEvent], None] | None = None) -> Result:
    """Go through events to their end, and give what they lead to. `each` is told of every one.

    What `each` raises ends the work.
    """
    steps = retold(events, each or (lambda _: None))
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


def told(progress: Progress | None) -> Callable[[object], None]:
    """Tells `progress` of the tiles among events."""

    def each(event: object) -> None:
        if progress is not None and isinstance(event, TilesDone):
            progress(event.done, event.total)

    return each
