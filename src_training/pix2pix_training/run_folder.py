"""The folder of a training run: settings, metrics, previews, checkpoint and model, under their agreed names."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pix2pix_training.atomic import atomic_write, check_writable_target, remove, sync_to_disk
from pix2pix_training.config import TrainingConfig
from pix2pix_training.errors import OutputError
from pix2pix_training.settings_tables import to_toml

LOSS_COLUMNS = ("D_fake", "D_real", "G_GAN", "G_L1", "G_FM")
SCORE_COLUMNS = ("mae", "psnr", "ssim", "pearson")
_COLUMNS = ("step", "epoch", "seconds", *LOSS_COLUMNS, *SCORE_COLUMNS)
_PREVIEW_SIZE = 512


class RunFolder:
    """Paths and writers of one run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.metrics = path / "metrics.csv"
        self.previews = path / "previews"
        self.tensorboard = path / "tensorboard"
        self.checkpoint = path / "last.pt"
        self.model = path / "model.safetensors"

    def prepare(self, *, resume: bool, overwrite: bool) -> None:
        """Create the folder, or refuse: a run that is there already is only resumed or overwritten on request."""
        occupied = [p for p in (self.checkpoint, self.model, self.metrics) if p.exists()]
        if occupied and not resume and not overwrite:
            raise OutputError(
                f"{self.path} holds a training run already ({occupied[0].name}); choose another folder, continue it "
                "with --resume, or replace it with --overwrite"
            )
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path} is a file; give a folder for the run")
        check_writable_target(self.config, overwrite=True)
        try:
            self.previews.mkdir(parents=True, exist_ok=True)
            if not resume:
                for path in (*occupied, *self.previews.glob("step_*.png")):
                    path.unlink(missing_ok=True)
                remove(self.tensorboard)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written ({error.strerror}); choose another folder") from error

    def write_config(self, config: TrainingConfig) -> None:
        with atomic_write(self.config) as partial:
            partial.write_text(to_toml(config), encoding="utf-8")

    def drop_metrics_after(self, step: int) -> None:
        """Forget rows that a killed run wrote after the checkpoint it is resumed from; add columns that are new."""
        if not self.metrics.exists():
            return
        with self.metrics.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if None not in row.values()]
        kept = [[row.get(name, "") for name in _COLUMNS] for row in rows if int(row["step"]) <= step]
        with atomic_write(self.metrics) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_COLUMNS, *kept])

    def append_metrics(
        self,
        step: int,
        epoch: int,
        seconds: float,
        losses: Mapping[str, float],
        scores: Mapping[str, float | None],
    ) -> None:
        """Add a row, on the disk before a checkpoint counts on it; scores are empty where there was no validation."""
        values = {**losses, **scores}
        row = [step, epoch, f"{seconds:.1f}", *(_number(values.get(name)) for name in _COLUMNS[3:])]
        is_new = not self.metrics.exists()
        with self.metrics.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(_COLUMNS)
            writer.writerow(row)
        sync_to_disk(self.metrics)

    def write_preview(self, step: int, images: tuple[Tensor, ...]) -> Path:
        """Source, output and target (C, H, W) in [-1, 1] side by side as PNG."""
        path = self.previews / f"step_{step:07d}.png"
        with atomic_write(path) as partial:
            Image.fromarray(side_by_side(*images).permute(1, 2, 0).numpy()).save(partial, format="PNG")
        return path


def side_by_side(*images: Tensor) -> Tensor:
    """Images (C, H, W) in [-1, 1] as one RGB image (3, H, W), uint8, at most 512 pixels high."""
    return torch.cat([_visible(image) for image in images], 2)


def _visible(image: Tensor) -> Tensor:
    """(C, H, W) in [-1, 1] -> RGB uint8: three channels as colours, else the middle channel as grey."""
    height, width = image.shape[-2:]
    factor = math.ceil(max(height, width) / _PREVIEW_SIZE)
    shown = F.avg_pool2d(image[None], factor)[0] if factor > 1 else image
    shown = shown if shown.shape[0] == 3 else shown[shown.shape[0] // 2].expand(3, -1, -1)
    return ((shown.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
