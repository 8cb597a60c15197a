"""The documentation is built strictly, and every page of it is opened in Chromium at two widths, light and dark."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = """<!doctype html><html lang="en"><body style="margin: 0; background: white">
<p style="color: #888">pale</p>
<div style="overflow: hidden"><pre style="display: inline-block; width: 3000px">cut</pre></div>
<div style="overflow: auto"><pre style="width: 3000px">scrolled</pre></div>
{}
</body></html>"""
needs_chromium = pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")


def faults(site: Path) -> tuple[int, str]:
    command = [sys.executable, str(ROOT / "scripts" / "pages.py"), "--site", str(site)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@needs_chromium
def test_faults_of_a_page_are_found(tmp_path: Path) -> None:
    (tmp_path / "narrow.html").write_text(PAGE.format(""), encoding="utf-8")
    wide = '<img src="missing.png"><div style="width: 500px; background: black">wide</div>'
    (tmp_path / "wide.html").write_text(PAGE.format(wide), encoding="utf-8")
    code, said = faults(tmp_path)
    assert code == 1
    for width in (1280, 390):
        assert f'narrow, {width} px, light: has a contrast of 3.5 in "pale"' in said
        assert f'narrow, {width} px, light: cuts off "cut"' in said
        assert f'wide, {width} px, light: has a contrast of 1.0 in "wide"' in said
        assert f"wide, {width} px, light: lacks the picture" in said
    assert "wide, 390 px, light: scrolls sideways by 110 px" in said
    assert '"scrolled"' not in said
    assert "narrow, 390 px, light: scrolls" not in said
    assert "1280 px, light: scrolls" not in said


@pytest.mark.slow
@needs_chromium
def test_every_page_of_the_site_can_be_read() -> None:
    subprocess.run([str(ROOT / "scripts" / "docs")], check=True, capture_output=True)
    code, said = faults(ROOT / "site")
    assert code == 0, said
