"""The full state of a training run, written atomically, so that a resumed run continues as if never interrupted."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pix2pix_training.atomic import atomic_write
from pix2pix_training.config import TrainingConfig
from pix2pix_training.errors import CheckpointError

CHECKPOINT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """`networks` is the state of a `TrainingStep`; `best` is the best validation so far.

    `random_state` holds torch's CPU state and, where there is one, the GPU's. Patches need none: they are functions of
    the seed and their number. `data` describes the pairs, to notice other ones. `threads` is recorded because float32
    sums depend on it: only with the same number is a resumed run bit-identical.
    """

    config: TrainingConfig
    data: Mapping[str, Any]
    step: int
    seconds: float
    networks: Mapping[str, Any]
    random_state: Mapping[str, torch.Tensor]
    best: Mapping[str, Any] | None
    threads: int


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    content = io.BytesIO()
    fields = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    torch.save({"version": CHECKPOINT_VERSION, **fields, "config": asdict(checkpoint.config)}, content)
    with atomic_write(path) as partial:
        partial.write_bytes(content.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The saved fields of a `Checkpoint`, `config` as plain data. No code from the file is executed."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: does not exist; there is nothing to resume") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: the checkpoint is damaged ({reason}); start again without --resume") from error
    if not isinstance(saved, dict) or not isinstance(saved.get("version"), int):
        raise CheckpointError(f"{path}: not a checkpoint of a training run")
    if saved["version"] > CHECKPOINT_VERSION:
        raise CheckpointError(f"{path}: written by a newer version of napari-pix2pix; update it to resume")
    missing = [name for name in Checkpoint.__dataclass_fields__ if name not in saved]
    if missing:
        raise CheckpointError(f"{path}: the checkpoint lacks {', '.join(missing)}; start again without --resume")
    return saved
