"""``alignment.csv`` of a run: where each target lies on its source, written once and read when the run goes on."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from pix2pix_training.aligned_source import Transform
from pix2pix_training.alignment import Estimate
from pix2pix_training.errors import CheckpointError

_SURENESS = ("distance_px", "likeness", "chance", "gain", "least_gain", "disagreement_px")
_COLUMNS = (
    "target",
    "moved",
    "shift_down_px",
    "shift_right_px",
    "rotation_degrees",
    "stretch_yy",
    "stretch_yx",
    "stretch_xy",
    "stretch_xx",
    *_SURENESS,
)


def table_of(estimates: Sequence[Estimate]) -> str:
    """A line for each target image, in the order of the images; numbers are exact."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for each in estimates:
        stays = "no, may belong elsewhere" if each.is_strange else "no, doubtful" if each.is_doubtful else "no"
        numbers = (
            *each.transform.shift,
            round(each.transform.rotation_degrees, 4),
            *each.transform.stretch,
            *(getattr(each, name) for name in _SURENESS),
        )
        writer.writerow([each.name, "yes" if each.has_moved else stays, *(repr(float(number)) for number in numbers)])
    return text.getvalue()


def read_table(path: Path) -> list[Estimate]:
    """What `table_of` wrote; `CheckpointError` where it is gone or is no such table."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        return [_estimate(row) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} cannot be read, and the run was trained on targets moved as it says; restore it, or start "
            "a new run"
        ) from error


def _estimate(row: dict[str, str]) -> Estimate:
    yy, yx, xy, xx = (float(row[f"stretch_{place}"]) for place in ("yy", "yx", "xy", "xx"))
    return Estimate(
        name=row["target"],
        transform=Transform(
            shift=(float(row["shift_down_px"]), float(row["shift_right_px"])), stretch=(yy, yx, xy, xx)
        ),
        **{name: float(row[name]) for name in _SURENESS},
    )
