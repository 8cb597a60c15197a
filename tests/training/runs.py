"""Small runs for tests: striped images, and networks that train in a moment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pix2pix_training.array_source import AnyArray, MemorySource
from pix2pix_training.config import TrainingConfig
from pix2pix_training.events import Event
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.pairs import Pair, Split
from pix2pix_training.training import TrainingData, train

TINY = TrainingConfig(
    generator=GeneratorConfig(base_width=2, depth=3),
    discriminator=DiscriminatorConfig(base_width=2, layers=1),
    patch_size=32,
    steps=4,
    checkpoint_every=2,
    validate_every=2,
)


def stripes(seed: int, shape: tuple[int, ...] = (1, 48, 48)) -> AnyArray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*shape[:-2], shape[-2] // 4, shape[-1])).repeat(4, axis=-2).astype(np.uint8)


def pair_of(source: AnyArray, target: AnyArray, name: str = "pair", **changes: Any) -> Pair:
    return Pair(
        MemorySource(source, name=name, **changes), MemorySource(target, name=f"{name} target", **changes), name
    )


def striped(name: str, seed: int) -> Pair:
    """A source of random stripes and a target that is its negative."""
    image = stripes(seed)
    return pair_of(image, 255 - image, name)


def data_of(training: list[Pair], validation: list[Pair] | None = None) -> TrainingData:
    return TrainingData(split=Split(tuple(training), tuple(validation or ())))


def usual_data() -> TrainingData:
    return data_of([striped("a", 0), striped("b", 1)], [striped("c", 2)])


def trained(out: Path, data: TrainingData | None = None, config: TrainingConfig = TINY, **options: Any) -> list[Event]:
    """All events of a run."""
    changes = {name: options.pop(name) for name in list(options) if name in TrainingConfig.__dataclass_fields__}
    return list(train(replace(config, **changes), data or usual_data(), out, **options))
