"""``metrics.csv`` as spreadsheets save it is read, or refused in words."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from pix2pix_training.errors import OutputError
from pix2pix_training.events import StepDone
from pix2pix_training.metrics_table import COLUMNS, append_row, drop_rows_after, last_step, read_metrics, read_table
from pix2pix_training.training import train
from tests.training.runs import TINY, trained, usual_data


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.csv"
    for step in (2, 4, 6):
        append_row(path, step, step // 3, 0.5 * step, {"G_L1": 12.25 / step, "mae": 1e-5, "psnr": None})
    return path


def _rewritten(text: str, delimiter: str, change: Callable[[str], str] = str) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerows([[change(cell) for cell in row] for row in csv.reader(io.StringIO(text))])
    return out.getvalue()


def _comma(cell: str) -> str:
    return cell.replace(".", ",")


AS_SAVED: dict[str, Callable[[str], bytes]] = {
    "semicolons": lambda text: _rewritten(text, ";").encode(),
    "semicolons and decimal commas": lambda text: _rewritten(text, ";", _comma).encode(),
    "decimal commas, quoted": lambda text: _rewritten(text, ",", _comma).encode(),
    "tabs": lambda text: _rewritten(text, "\t").encode(),
    "byte order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: _rewritten(text, "\t").encode("utf-16"),
    "Unix lines": lambda text: text.replace("\r\n", "\n").encode(),
    "old Mac lines": lambda text: text.replace("\r\n", "\r").encode(),
    "blank lines and columns": lambda text: (text.replace("\r\n", ",,\r\n") + ",,,\r\n\r\n").encode(),
    "steps as floats": lambda text: text.replace("\n2,", "\n2.0,").encode(),
    "capital exponent": lambda text: text.replace("1e-05", "1.00E-05").encode(),
}


@pytest.mark.parametrize("save", AS_SAVED.values(), ids=AS_SAVED.keys())
def test_a_table_as_a_spreadsheet_saved_it_is_read(save: Callable[[str], bytes], table: Path) -> None:
    before = read_metrics(table)
    assert [row["step"] for row in before] == [2, 4, 6]
    table.write_bytes(save(table.read_bytes().decode()))
    assert read_metrics(table) == before
    assert last_step(table) == 6
    drop_rows_after(table, 4)
    assert read_metrics(table) == before[:2]
    assert table.read_text().splitlines()[0] == ",".join(COLUMNS)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf"])
def test_a_table_that_a_killed_process_left_empty_is_begun_anew(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    drop_rows_after(path, 2)
    append_row(path, 4, 1, 2.0, {"mae": 0.5})
    assert read_metrics(path) == [{"step": 4, "epoch": 1, "seconds": 2, "mae": 0.5}]


def test_columns_that_a_user_added_are_kept(table: Path) -> None:
    lines = table.read_text().splitlines()
    table.write_text("\n".join(f"note {n},{line}" if n else f"remark,{line}" for n, line in enumerate(lines)) + "\n")
    drop_rows_after(table, 4)
    append_row(table, 6, 2, 3.0, {"mae": 0.5})
    rows = read_table(table).rows
    assert [row.get("remark", "") for row in rows] == ["note 1", "note 2", ""]
    assert [row["step"] for row in rows] == ["2", "4", "6"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b",,\n", "names no column 'step', but none"),
        (b"epoch,seconds\n1,2\n", "names no column 'step', but epoch, seconds"),
        (b"step,mae\nfive,0.5\n", "line 2: step is 'five', which is no number"),
        (b"step,mae\n5,\n6,05. Jan\n", "line 3: mae is '05. Jan', which is no number"),
        (b"step,mae\n,0.5\n", "line 2 has no step"),
        (b"step,mae\n1e400,0.5\n", "line 2: step"),
        (b"\x89PNG\r\n\x1a\n", "no table of metrics any more"),
        (b"PK\x03\x04" + bytes(range(256)), "no table of metrics any more"),
    ],
)
def test_what_is_no_table_is_refused_in_words(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(OutputError, match=message) as said:
        read_table(path)
    assert "restore it, or move it out of the folder" in str(said.value)
    assert "\n" not in str(said.value)


def test_a_run_goes_on_with_a_table_that_a_spreadsheet_saved(tmp_path: Path) -> None:
    trained(tmp_path / "whole")
    run = train(TINY, usual_data(), tmp_path / "run")
    for event in run:
        if isinstance(event, StepDone) and event.step == 3:
            run.close()
    path = tmp_path / "run" / "metrics.csv"
    path.write_bytes(_rewritten(path.read_text(), ";", _comma).encode("utf-8-sig"))
    trained(tmp_path / "run", resume=True)
    whole, found = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(tmp_path / name / "metrics.csv")]
        for name in ("whole", "run")
    )
    assert found == whole
    path.write_text("spoilt")
    with pytest.raises(OutputError, match="no table of metrics"):
        trained(tmp_path / "run", resume=True, steps=6)
    assert path.read_text() == "spoilt"
