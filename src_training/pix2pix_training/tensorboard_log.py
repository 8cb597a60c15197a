"""The losses, scores and previews of a run for TensorBoard, which is an extra."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from pix2pix_training.errors import SettingsError
from pix2pix_training.events import Event, PreviewReady, Started, StepDone, Validated
from pix2pix_training.run_folder import RunFolder, side_by_side


def with_tensorboard(events: Generator[Event, None, None], out: Path) -> Iterator[Event]:
    """The events of the run in `out`, unchanged, while they are written into its folder ``tensorboard``.

    A resumed run goes on where its checkpoint is: what a killed process wrote after that is hidden. Closing this
    generator closes `events`.

    Raises
    ------
    SettingsError
        Before the first event: TensorBoard is not installed.
    """
    writer_class = _summary_writer()
    with closing(events):
        for event in events:
            yield event
            if isinstance(event, Started):
                break
        else:
            return
        with writer_class(str(RunFolder(out).tensorboard), purge_step=event.resumed_from_step + 1) as writer:
            for event in events:
                _write(event, writer)
                yield event


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SettingsError(
            'TensorBoard is not installed; install it with pip install "napari-pix2pix[tensorboard]", or train without '
            "--tensorboard"
        ) from error
    return SummaryWriter


def _write(event: Event, writer: Any) -> None:
    match event:
        case StepDone(losses=losses) if losses is not None:
            _write_scalars("loss", losses, event.step, writer)
        case Validated():
            _write_scalars("validation", event.scores, event.step, writer)
        case PreviewReady():
            strip = side_by_side(event.source, event.output, event.target)
            writer.add_image("source, output, target", strip, event.step)


def _write_scalars(group: str, values: Mapping[str, float | None], step: int, writer: Any) -> None:
    for name, value in values.items():
        if value is not None:
            writer.add_scalar(f"{group}/{name}", value, step)
