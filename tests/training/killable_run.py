"""A small training run in a process of its own, for the tests that kill it: ``killable_run.py OUT STEPS [LINE]``.

It resumes what is in OUT, with dropout noise, every augmentation, validations and checkpoints every few steps. The
number of each step that is done goes to stdout. With LINE, the process kills itself before it executes that many lines
of the modules that keep a run's state, so that any moment of resuming, validating and saving can be met again.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from pix2pix_training import atomic, checkpoint, metrics_table, run_folder, run_state, training
from pix2pix_training.array_source import MemorySource
from pix2pix_training.config import TrainingConfig
from pix2pix_training.events import StepDone
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.pairs import Pair, Split
from pix2pix_training.patch_config import AugmentationConfig

KEEPERS_OF_STATE = (atomic, checkpoint, metrics_table, run_folder, run_state, training)
VALIDATE_EVERY = 4


def config(steps: int) -> TrainingConfig:
    """Four steps an epoch; its ends coincide with checkpoints and validations, and do not."""
    return TrainingConfig(
        generator=GeneratorConfig(base_width=4, depth=3, dropout="paper"),
        discriminator=DiscriminatorConfig(base_width=4, layers=2),
        augmentation=AugmentationConfig(
            flips="both", scale_jitter=1.2, rotation=20, elastic=2, channel_jitter=0.1, blur=1, noise=0.1
        ),
        patch_size=32,
        batch_size=2,
        schedule="linear",
        learning_rate=1e-3,
        steps=steps,
        checkpoint_every=5,
        validate_every=VALIDATE_EVERY,
        ema_decay=0.9,
        patience=steps,
    )


def pairs() -> Split:
    """Random stripes and their negatives."""

    def striped(name: str, seed: int) -> Pair:
        stripes = np.random.default_rng(seed).integers(0, 256, (1, 12, 48)).repeat(4, axis=1).astype(np.uint8)
        return Pair(MemorySource(stripes, name=name), MemorySource(255 - stripes, name=f"{name} target"), name)

    return Split((striped("a", 0), striped("b", 1)), (striped("c", 2),))


def kill_at_line(number: int) -> None:
    """Kill this process before it executes line `number`, counted over the keepers of state."""
    watched = {module.__file__ for module in KEEPERS_OF_STATE}
    left = number

    def on_line(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return on_line

    def on_call(frame: FrameType, _event: str, _argument: Any) -> Any:
        return on_line if frame.f_code.co_filename in watched else None

    sys.settrace(on_call)


def main(out: str, steps: str, line: str = "0") -> None:
    torch.set_num_threads(1)
    if int(line):
        kill_at_line(int(line))
    data = training.TrainingData(split=pairs())
    for event in training.train(config(int(steps)), data, Path(out), device="cpu", resume=True):
        if isinstance(event, StepDone):
            sys.stdout.write(f"{event.step}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
