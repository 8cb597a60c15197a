"""The benchmark of `train --align`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.registration import distance_px, main, moved, random_move
from pix2pix_training.aligned_source import Transform


def test_a_move_that_is_found_leaves_no_distance() -> None:
    move = Transform(shift=(3.0, -2.0))
    assert distance_px(move, Transform(shift=(-3.0, 2.0)), (100, 80)) == pytest.approx(0)
    assert distance_px(move, Transform(shift=(0.0, 0.0)), (100, 80)) == pytest.approx(np.hypot(3, 2))
    target = np.arange(60 * 60, dtype=np.float32).reshape(1, 60, 60)
    np.testing.assert_array_equal(moved(target, move, of_classes=True), target[:, 15:51, 10:46])


def test_moves_are_within_their_limits() -> None:
    rng = np.random.default_rng(0)
    moves = [random_move(rng) for _ in range(200)]
    assert 5.5 < max(abs(part) for move in moves for part in move.shift) <= 6
    assert 0.9 < max(abs(move.rotation_degrees) for move in moves) <= 1


@pytest.mark.slow
def test_a_line_for_each_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for name in ("image", "membrane"):
        (tmp_path / "em_membranes" / name).mkdir(parents=True)
    for number in range(4):
        cells = gaussian_filter(rng.normal(size=(160, 160)), 4)
        cells = 128 + 60 * cells / cells.std()
        for name, pixels in (("image", cells), ("membrane", np.where(cells > 128, 255, 0))):
            path = tmp_path / "em_membranes" / name / f"{number}.png"
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    main(["found", "--data", str(tmp_path), "--data-sets", "em_membranes", "--seeds", "1", "--align", "shift"])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [line[1] for line in lines] == [
        "registered",
        "moved",
        "moved, a quarter swapped",
        "all swapped with the next",
        "all swapped with any",
    ]
    assert lines[0][6].startswith("0 of 4")
    assert lines[3][7].startswith("0 of 4")
