"""The benchmark of reading ahead runs, and gives a line for each number of workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.feeding import main


def test_there_is_a_line_for_a_thread_and_for_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ["--rate", "200", "--seconds", "0.1", "--images", "2", "--size", "320"]
    main(["--folder", str(tmp_path), "--workers", "0", "1", *how])
    title, _, _, thread, worker = capsys.readouterr().out.splitlines()
    assert title.startswith("2 pairs of 320 px")
    for line, name in ((thread, "a thread"), (worker, "1")):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[0] == name
        assert float(cells[2]) >= 1
    assert len(list((tmp_path / "source").iterdir())) == 2
