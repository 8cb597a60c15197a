"""The folder of a training run: settings, metrics, previews, checkpoint and model, under their agreed names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pix2pix_training.alignment import Estimate
from pix2pix_training.alignment_table import table_of
from pix2pix_training.atomic import atomic_write, check_nameable, check_writable_target
from pix2pix_training.checkpoint import Checkpoint, is_checkpoint, save_checkpoint
from pix2pix_training.config import TrainingConfig
from pix2pix_training.errors import OutputError, SettingsError
from pix2pix_training.locks import RUN_LOCK, locked
from pix2pix_training.metrics_table import append_row, drop_rows_after, last_step
from pix2pix_training.model_file import Model, save_model
from pix2pix_training.settings_tables import settings_from_toml, to_toml
from pix2pix_training.validated import from_dict

_PREVIEW_SIZE = 512
_NOT_THE_USERS = re.compile(r"\.DS_Store|Thumbs\.db|desktop\.ini|\.pix2pix-run\.lock|\..*\.pix2pix")
_PREVIEW = re.compile(r"step_\d{7,}\.png")
_EVENTS = "events.out.tfevents.*"


class RunFolder:
    """Paths and writers of one run folder.

    A folder is a run's where its checkpoint lies, or its settings beside the folder of previews. Any other folder that
    holds something is left as it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.metrics = path / "metrics.csv"
        self.previews = path / "previews"
        self.tensorboard = path / "tensorboard"
        self.alignment = path / "alignment.csv"
        self.checkpoint = path / "last.pt"
        self.model = path / "model.safetensors"

    @contextmanager
    def claimed(self, *, resume: bool, overwrite: bool) -> Iterator[None]:
        """Hold off other runs while this one is prepared and goes on; a new folder goes where nothing was written.

        Raises
        ------
        OutputError
            The folder is no run's and holds something, holds a run that is neither to be resumed nor overwritten, is in
            use by another run, or cannot be written. Said at once; nothing was touched.
        """
        self.check(resume=resume, overwrite=overwrite)
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            with locked(self.path / RUN_LOCK, self.path):
                self.check(resume=resume, overwrite=overwrite)  # another one may have been here meanwhile
                try:
                    yield
                finally:
                    if not self.config.exists():
                        with suppress(OSError):  # nothing was begun
                            self.previews.rmdir()
        except OSError as error:
            if error.filename is None or Path(error.filename).name != RUN_LOCK:
                raise
            raise OutputError(f"{self.path} cannot be written ({error.strerror}); choose another folder") from error
        finally:
            for folder in made:
                with suppress(OSError):  # not empty
                    folder.rmdir()

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse a folder that the run cannot have (`OutputError`)."""
        check_nameable(self.path)
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path} is a file; give a folder for the run")
        content = self._content()
        if content and not self._is_run():
            raise OutputError(
                f"{self.path} holds something ({content[0]}) and is not the folder of a training run, so it is left "
                "as it is; give a new or empty folder"
            )
        if resume:
            self._check_resumable()
        elif not overwrite and (occupied := self._occupied()):
            raise OutputError(
                f"{self.path} holds a training run already ({occupied[0].name}); choose another folder, continue it "
                "with --resume, or replace it with --overwrite"
            )
        check_writable_target(self.config, overwrite=True)

    def keep_apart(self, model: Path) -> None:
        """Refuse (`OutputError`) a run in the place of the one that it starts from, which would be gone at once."""
        if self.model.exists() and model.exists() and self.model.samefile(model):
            raise OutputError(
                f"{model} would be replaced by what is made from it; give another folder than {self.path}"
            )

    def _content(self) -> list[str]:
        if not self.path.is_dir():
            return []
        try:
            names = sorted(entry.name for entry in self.path.iterdir())
        except OSError as error:
            raise OutputError(f"{self.path} cannot be read ({error.strerror}); choose another folder") from error
        return [name for name in names if not _NOT_THE_USERS.fullmatch(name) and not self._is_barely_begun(name)]

    def _is_barely_begun(self, name: str) -> bool:
        """An empty folder of previews is all that a run leaves which ended as it began."""
        return name == self.previews.name and self.previews.is_dir() and not any(self.previews.iterdir())

    def _is_run(self) -> bool:
        return is_checkpoint(self.checkpoint) or (self.previews.is_dir() and self.settings() is not None)

    def settings(self) -> TrainingConfig | None:
        """The settings of the run here, which are complete; None where there are none."""
        try:
            tables = settings_from_toml(self.config)
            return from_dict(TrainingConfig, tables) if {"generator", "discriminator"} <= tables.keys() else None
        except SettingsError:
            return None

    def _occupied(self) -> list[Path]:
        return [path for path in (self.checkpoint, self.model, self.metrics) if path.exists()]

    def _check_resumable(self) -> None:
        """A run that was killed before its first checkpoint starts again, but nothing of a longer one is lost."""
        if self.checkpoint.exists() or not self._occupied():
            return
        settings = self.settings()
        if self.model.exists() or settings is None or last_step(self.metrics) >= settings.checkpoint_every:
            raise OutputError(
                f"{self.path} holds a run ({self._occupied()[0].name}) without its checkpoint last.pt, so it cannot be "
                "resumed; restore last.pt, or train into another folder (with --init model.safetensors it starts from "
                "the model so far), or start again with --overwrite"
            )

    def prepare(self, *, resume: bool) -> None:
        """Make what a run needs; unless it is resumed, remove what the run before has written here, and only that."""
        try:
            self.previews.mkdir(parents=True, exist_ok=True)
            if not resume:
                self._remove_run()
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written ({error.strerror}); choose another folder") from error

    def _remove_run(self) -> None:
        old = [entry for entry in self.previews.iterdir() if _PREVIEW.fullmatch(entry.name)]
        for path in (*self._occupied(), self.alignment, *old, *self.tensorboard.glob(_EVENTS)):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # not there, or something else lies in it
            self.tensorboard.rmdir()

    def write_config(self, config: TrainingConfig) -> None:
        with atomic_write(self.config) as partial:
            partial.write_text(to_toml(config), encoding="utf-8")

    def write_alignment(self, estimates: Sequence[Estimate]) -> None:
        """Where each target lies on its source, see `alignment_table`."""
        with atomic_write(self.alignment) as partial:
            partial.write_text(table_of(estimates), encoding="utf-8")

    def drop_metrics_after(self, step: int) -> None:
        """Forget rows that a killed run wrote after the checkpoint it is resumed from."""
        drop_rows_after(self.metrics, step)

    def append_metrics(
        self,
        step: int,
        epoch: int,
        seconds: float,
        losses: Mapping[str, float],
        scores: Mapping[str, float | None],
    ) -> None:
        """Add a row; scores are empty where there was no validation."""
        append_row(self.metrics, step, epoch, seconds, {**losses, **scores})

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        save_checkpoint(checkpoint, self.checkpoint)

    def write_model(self, model: Model) -> None:
        save_model(model, self.model)

    def write_preview(self, step: int, images: tuple[Tensor, ...]) -> Path:
        """Source, output and target (C, H, W) in [-1, 1] side by side as PNG."""
        path = self.previews / f"step_{step:07d}.png"
        with atomic_write(path) as partial:
            Image.fromarray(side_by_side(*images).permute(1, 2, 0).numpy()).save(partial, format="PNG")
        return path


class UnwrittenRunFolder(RunFolder):
    """The folder as another process writes it: whatever is to be written there is left to that one."""

    @contextmanager
    def claimed(self, *, resume: bool, overwrite: bool) -> Iterator[None]:
        yield

    def prepare(self, *, resume: bool) -> None:
        pass

    def write_config(self, config: TrainingConfig) -> None:
        pass

    def write_alignment(self, estimates: Sequence[Estimate]) -> None:
        pass

    def drop_metrics_after(self, step: int) -> None:
        pass

    def append_metrics(self, *_row: Any, **_named: Any) -> None:
        pass

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        pass

    def write_model(self, model: Model) -> None:
        pass

    def write_preview(self, step: int, images: tuple[Tensor, ...]) -> Path:
        return self.previews


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
