"""Real files of many makers, judged by independent readers; see benchmarks/formats.py."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_PROJECT = Path(__file__).parents[2]
_DOCUMENT = _PROJECT / "docs" / "measurements" / "formats.md"
_COLLECTION = _PROJECT.parent / "shared" / "data" / "formats"


@pytest.mark.slow
@pytest.mark.skipif(not _COLLECTION.is_dir(), reason="needs the collection of files beside the project")
def test_every_file_is_translated_right_or_refused(tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    document = Path(shutil.copy(_DOCUMENT, tmp_path))
    script = _PROJECT / "benchmarks" / "formats.py"
    command = [sys.executable, str(script), str(_COLLECTION), str(document)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout
    assert document.read_text(encoding="utf-8") == (_DOCUMENT).read_text(encoding="utf-8")
