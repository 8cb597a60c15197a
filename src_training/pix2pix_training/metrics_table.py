"""The table ``metrics.csv`` of a run: losses and scores by step, also as a spreadsheet has saved it."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pix2pix_training.atomic import atomic_write, sync_to_disk, write_error
from pix2pix_training.config import RECONSTRUCTION_TERMS
from pix2pix_training.errors import OutputError
from pix2pix_training.spreadsheet import Row, read_rows

LOSS_COLUMNS = ("D_fake", "D_real", "G_GAN", "G_L1", "G_FM", *RECONSTRUCTION_TERMS, "D_varied")
SCORE_COLUMNS = ("mae", "psnr", "ssim", "pearson", "iou")
_KEY_COLUMNS = ("step", "epoch", "seconds")
COLUMNS = (*_KEY_COLUMNS, *LOSS_COLUMNS, *SCORE_COLUMNS)


@dataclass(frozen=True)
class Table:
    """Rows by column name, as text; `others` are columns that somebody has added."""

    rows: tuple[Mapping[str, str], ...]
    others: tuple[str, ...] = ()


def read_table(path: Path) -> Table:
    """Read a table of metrics, whatever a spreadsheet has made of its separators; decimal commas become points.

    A row that a killed process has left half written is dropped; a file that it has left empty has no rows.

    Raises
    ------
    OutputError
        It cannot be read as such a table; says the line.
    """
    try:
        lines = read_rows(path.read_bytes())
    except OSError as error:
        raise OutputError(f"{path} cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise _unreadable(path, str(error).splitlines()[0]) from error
    if not any(line.cells for line in lines):
        return Table(())
    header = [name.strip() for name in lines[0].cells]
    if "step" not in header:
        raise _unreadable(
            path, f"its first line names no column 'step', but {', '.join(filter(None, header)) or 'none'}"
        )
    rows = tuple(_rows(path, header, lines[1:]))
    return Table(rows, tuple(name for name in header if name and name not in COLUMNS))


def _rows(path: Path, header: Sequence[str], lines: Sequence[Row]) -> Iterator[Mapping[str, str]]:
    own = [place for place, name in enumerate(header) if name in COLUMNS]
    for line in lines:
        if len(line.cells) <= max(own):
            continue
        row = {name: cell.strip() for name, cell in zip(header, line.cells, strict=False) if name}
        for name in COLUMNS:
            if row.get(name):
                row[name] = _number_text(path, line.line, name, row[name])
        if not row["step"]:
            raise _unreadable(path, f"line {line.line} has no step")
        yield row


def _number_text(path: Path, line: int, name: str, text: str) -> str:
    """A number as Python writes it; what cannot be one is an error."""
    plain = text.replace(",", ".")
    try:
        number = float(plain)
        if name == "step":
            return str(int(number))
    except (ValueError, OverflowError) as error:
        raise _unreadable(path, f"line {line}: {name} is {text[:40]!r}, which is no number") from error
    return plain


def _unreadable(path: Path, reason: str) -> OutputError:
    return OutputError(f"{path} is no table of metrics any more ({reason}); restore it, or move it out of the folder")


def last_step(path: Path) -> int:
    """The last step in a table; 0 where there is none."""
    return max((int(row["step"]) for row in read_table(path).rows), default=0) if path.exists() else 0


def drop_rows_after(path: Path, step: int) -> None:
    """Forget rows that a killed run wrote after the checkpoint it is resumed from; add columns that are new.

    Columns that somebody has added stay, behind those of the program.
    """
    if not path.exists():
        return
    table = read_table(path)
    header = [*COLUMNS, *table.others]
    kept = [[row.get(name, "") for name in header] for row in table.rows if int(row["step"]) <= step]
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *kept])


def append_row(path: Path, step: int, epoch: int, seconds: float, values: Mapping[str, float | None]) -> None:
    """Add a row, on the disk before a checkpoint counts on it; cells without a value are empty."""
    row = [step, epoch, f"{seconds:.1f}", *(_number(values.get(name)) for name in COLUMNS[len(_KEY_COLUMNS) :])]
    is_new = not path.exists()
    try:
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(COLUMNS)
            writer.writerow(row)
        sync_to_disk(path)
    except OSError as error:
        raise write_error(path, error) from error


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a run's table as numbers, without the empty cells.

    Raises
    ------
    OutputError
        See `read_table`.
    """
    rows = read_table(path).rows
    return [{name: float(row[name]) for name in COLUMNS if row.get(name)} for row in rows]


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"
