"""A run that torchrun starts for the tests: ``run_in_processes.py OUT BATCH_SIZE STOP_AFTER``; or in one process.

The losses of each step go to OUT.jsonl.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from pix2pix_training.cancel import Interrupted
from pix2pix_training.distributed import ALONE, Group, joined
from pix2pix_training.events import StepDone
from pix2pix_training.pairs import Split
from pix2pix_training.training import TrainingData, train
from tests.training import killable_run

STEPS = 20


def go_on(out: Path, batch_size: int, stop_after: int, group: Group = ALONE) -> None:
    """Train on, and stop after a step as Ctrl-C does."""
    config = replace(killable_run.config(STEPS), batch_size=batch_size, checkpoint_every=1)
    pairs = killable_run.pairs()
    data = TrainingData(split=Split(pairs.training, (*pairs.validation, *pairs.training)))  # three for two processes
    events = train(config, data, out, device="cpu", resume=True, group=group)
    for event in events:
        if isinstance(event, StepDone) and group.is_first:
            with out.with_suffix(".jsonl").open("a") as file:
                file.write(json.dumps(event.losses) + "\n")
            if event.step == stop_after:
                events.close()


def main(out: str, batch_size: str, stop_after: str) -> None:
    torch.set_num_threads(1)
    with joined("cpu") as (group, _), suppress(Interrupted):
        go_on(Path(out), int(batch_size), int(stop_after), group)


if __name__ == "__main__":
    main(*sys.argv[1:])
