"""What a translation did, in the fields that ``translate --json`` prints."""

from __future__ import annotations

from dataclasses import dataclass

from napari_pix2pix.translation.settings import Scheme
from pix2pix_training.config import Statistics


@dataclass(frozen=True, kw_only=True)
class TranslationReport:
    """What ran, which may differ from what was asked for where that was "auto".

    `seconds` is without set-up (opening, loading the network, planning); `pixels` counts all planes;
    `tiles_reused` were there from an earlier run; `complete` is False while other shards are still to come.
    `peak_memory_bytes` is the peak of the whole process since its start. `clipped_share` is from 0 to 1: for each
    channel of the image the share of the values that were read which lie beyond the range that the model knows; for
    categories that of pixels of no known category. Empty where nothing was read.
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
