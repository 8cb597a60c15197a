"""Unfinished outputs: killed, damaged, contended and shared ones, against the undisturbed run."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Timer
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import tifffile
import zarr

from napari_pix2pix.cli.translate_command import _kept
from napari_pix2pix.formats import ome_tiff, ome_zarr_layout, output_state, partial_output, tiff_writing, tiled_tiff
from napari_pix2pix.formats.output_state import OutputState, Part
from napari_pix2pix.translation import region_grid as region_geometry
from napari_pix2pix.translation import sinks
from napari_pix2pix.translation.output_description import file_identity
from napari_pix2pix.translation.pipeline import translate_file
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.errors import InputError, OutputError, Pix2PixError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.locks import locked
from pix2pix_training.model_file import Model, save_model
from pix2pix_training.network_config import GeneratorConfig
from tests.product.translation.conftest import random_image, random_model

EXACT = TranslationSettings(scheme="exact", tile=64, region=128)
SIZE = (300, 333)
TILES = 56
"""Of all regions; each has 9, or fewer at the bottom and on the right."""
STOP = 36
"""Tiles of the first four regions, and some of the fifth."""


@pytest.fixture(autouse=True)
def small_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regions of 128 pixels with chunks of 32: 9 regions, levels of their own and above them."""
    monkeypatch.setattr(region_geometry, "MULTIPLE_PX", 128)
    monkeypatch.setattr(ome_zarr_layout, "CHUNK_PX", 32)
    monkeypatch.setattr(ome_zarr_layout, "_UNITS_PX", (128,))
    monkeypatch.setattr(ome_zarr_layout, "_SMALLEST_LEVEL_PX", 32)
    for module in (tiled_tiff, tiff_writing):
        monkeypatch.setattr(module, "TILE_PX", 32)
    monkeypatch.setattr(ome_tiff, "PYRAMID_FROM_PX", 64)


@pytest.fixture
def model() -> Model:
    return random_model(GeneratorConfig(base_width=3, depth=3, source_channels=1, target_channels=2), InferenceConfig())


@pytest.fixture
def grey(model: Model) -> Model:
    """One whose output every format can hold."""
    return random_model(replace(model.generator_config, target_channels=1), InferenceConfig())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, random_image(1, *SIZE)[0])
    return path


@pytest.fixture
def whole(tmp_path: Path, image: Path, model: Model) -> Path:
    """The undisturbed output."""
    out = tmp_path / "undisturbed" / "out.ome.zarr"
    translate_file(image, model, out, EXACT)
    return out


def content(path: Path) -> dict[str, bytes]:
    """All files of an OME-Zarr."""
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def leftovers(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir() if path.name.startswith(out.name) and path != out)


class _StopError(Exception):
    pass


def stop_after(tiles: int) -> Callable[[int, int], None]:
    calls = iter(range(tiles))

    def progress(_done: int, _all: int) -> None:
        if next(calls, None) is None:
            raise _StopError

    return progress


def interrupted(image: Path, model: Model, out: Path, tiles: int, **options: Any) -> None:
    with pytest.raises(_StopError):
        translate_file(image, model, out, EXACT, progress=stop_after(tiles), **options)
    assert not out.exists()


@pytest.mark.parametrize("name", ["out.ome.zarr", "out.ome.tif", "out.tif", "imagej.tif", "out.png"])
def test_resumed_output_is_identical(tmp_path: Path, image: Path, grey: Model, name: str) -> None:
    out, expected = tmp_path / name, tmp_path / "undisturbed" / name
    file_format = "imagej" if name == "imagej.tif" else "same"
    report = translate_file(image, grey, expected, EXACT, file_format=file_format)
    assert report.tiles_reused == 0
    interrupted(image, grey, out, STOP, file_format=file_format)
    interrupted(image, grey, out, 12, resume=True, file_format=file_format)
    report = translate_file(image, grey, out, EXACT, resume=True, file_format=file_format)
    assert report.tiles == TILES
    assert STOP - 9 <= report.tiles_reused < TILES
    if out.is_dir():
        assert content(out) == content(expected)
    else:
        assert _without_identifiers(out) == _without_identifiers(expected)
    assert leftovers(out) == []


def _without_identifiers(path: Path) -> bytes:
    """A file's bytes with the random identifier of its OME-XML blanked."""
    data = path.read_bytes()
    start = data.find(b"urn:uuid:")
    while start >= 0:
        data = data[:start] + b" " * 45 + data[start + 45 :]
        start = data.find(b"urn:uuid:")
    return data


def test_resume_of_nothing_starts_and_of_a_complete_output_does_nothing(
    tmp_path: Path, image: Path, model: Model, whole: Path
) -> None:
    out = tmp_path / "out.ome.zarr"
    assert translate_file(image, model, out, EXACT, resume=True).tiles_reused == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    report = translate_file(image, model, out, EXACT, resume=True)
    assert (report.tiles_reused, report.tiles) == (TILES, TILES)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert content(out) == content(whole)


def test_the_same_command_again_throws_no_work_away_without_a_word(
    tmp_path: Path, image: Path, model: Model, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out.ome.zarr"
    interrupted(image, model, out, STOP)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out*/**/*") if path.is_file()}
    with pytest.raises(
        OutputError, match=r"4 of 9 regions of .* are done already; add resume=True .* or overwrite=True"
    ):
        translate_file(image, model, out, EXACT)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("out*/**/*") if path.is_file()} == before
    report = translate_file(image, model, out, EXACT, overwrite=True)
    assert "thrown away: --overwrite was given without --resume" in caplog.text
    assert report.tiles_reused == 0
    assert content(out) == content(whole)


def test_what_was_begun_without_any_result_leaves_nothing(tmp_path: Path, image: Path, model: Model) -> None:
    out = tmp_path / "out.ome.zarr"
    interrupted(image, model, out, 2)
    assert leftovers(out) == []
    assert translate_file(image, model, out, EXACT).complete


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 4
    file.write_bytes(data)


def _swap_halves(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] + data[len(data) // 4 : len(data) // 2] + data[3 * len(data) // 4 :])


def _spoil_the_beginning(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[40] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [_cut, _flip, _swap_halves, _spoil_the_beginning, Path.unlink])
@pytest.mark.parametrize("file_format", ["tiff", "ome-tiff", "imagej"])
def test_a_damaged_unfinished_tiff_is_made_whole(
    tmp_path: Path, image: Path, model: Model, damage: Callable[[Path], None], file_format: str
) -> None:
    out, expected = tmp_path / "out.tif", tmp_path / "undisturbed.tif"
    translate_file(image, model, expected, EXACT, file_format=file_format)
    interrupted(image, model, out, 20, file_format=file_format)
    damage(tmp_path / "out.tif.partial")
    translate_file(image, model, out, EXACT, file_format=file_format, resume=True)
    with tifffile.TiffFile(out) as found, tifffile.TiffFile(expected) as wanted:
        for level, same in zip(found.series[0].levels, wanted.series[0].levels, strict=True):
            np.testing.assert_array_equal(level.asarray(), same.asarray())
    assert leftovers(out) == []


@pytest.mark.parametrize("damage", [_cut, _flip, Path.unlink])
@pytest.mark.parametrize("level", [0, 2])
def test_damaged_units_alone_are_made_again(
    tmp_path: Path, image: Path, model: Model, whole: Path, damage: Callable[[Path], None], level: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "out.ome.zarr"
    interrupted(image, model, out, STOP)
    finished = sorted((tmp_path / "out.ome.zarr.partial" / str(level) / "c").rglob("0/*/*"))
    assert len(finished) >= 3
    damage(finished[1])
    written = _regions_begun(monkeypatch)
    translate_file(image, model, out, EXACT, resume=True)
    assert content(out) == content(whole)
    assert sorted(written) == [1, *range(len(finished), 9)]


def _regions_begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    begun: list[int] = []
    original = partial_output.PartialOutput.begin

    def begin(self: Any, number: int) -> None:
        begun.append(number)
        original(self, number)

    monkeypatch.setattr(partial_output.PartialOutput, "begin", begin)
    return begun


def test_torn_and_damaged_records_cost_only_their_regions(
    tmp_path: Path, image: Path, model: Model, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.ome.zarr"
    interrupted(image, model, out, STOP)
    records = tmp_path / "out.ome.zarr.partial.state" / "regions"
    (records / "0.json").write_bytes((records / "0.json").read_bytes()[:-9])
    (records / "1.json").write_bytes(b"")
    (records / "2.json").write_text("[1]")
    (records / "strange.json").write_text("{}")
    begun = _regions_begun(monkeypatch)
    assert translate_file(image, model, out, EXACT, resume=True).tiles_reused > 0
    assert sorted(begun) == [0, 1, 2, *range(4, 9)]
    assert content(out) == content(whole)


@pytest.mark.parametrize(
    ("what", "settings"),
    [
        ("settings", TranslationSettings(scheme="exact", tile=32, region=128)),
        ("settings", TranslationSettings(scheme="exact", tile=64, region=256)),
        ("model", EXACT),
        ("input", EXACT),
        ("version", EXACT),
    ],
)
def test_resume_refuses_what_differs(
    tmp_path: Path, image: Path, model: Model, what: str, settings: TranslationSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "out.ome.zarr"
    interrupted(image, model, out, STOP)
    if what == "model":
        model = random_model(model.generator_config, model.inference, seed=1)
    elif what == "input":
        tifffile.imwrite(image, random_image(1, *SIZE, seed=1)[0])
    elif what == "version":
        monkeypatch.setattr("napari_pix2pix.translation.resumable.version", lambda _name: "9.9")
    other = "other" if what == "settings" else "another"
    with pytest.raises(OutputError, match=f"was begun with {other} {what}") as caught:
        translate_file(image, model, out, settings, resume=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage", [lambda _: "null", lambda _: "[" * 10**5, lambda text: text.replace('"tile": ', '"tile": 1')]
)
def test_a_damaged_request_is_nothing_to_go_on_with(
    tmp_path: Path, image: Path, model: Model, damage: Callable[[str], str]
) -> None:
    out = tmp_path / "out.ome.zarr"
    interrupted(image, model, out, STOP)
    request = tmp_path / "out.ome.zarr.partial.state" / "request.json"
    text = request.read_text()
    request.write_text(damage(text))
    assert request.read_text() != text
    with pytest.raises(OutputError, match="no unfinished output that this program can go on with; rename or remove"):
        translate_file(image, model, out, EXACT, resume=True)


def test_locks_of_a_killed_process_beside_a_complete_output_go(tmp_path: Path, image: Path, model: Model) -> None:
    out = tmp_path / "out.ome.zarr"
    translate_file(image, model, out, EXACT)
    state = tmp_path / "out.ome.zarr.partial.state"
    state.mkdir()
    (state / "part-1-of-1.lock").touch()
    translate_file(image, model, out, EXACT, resume=True)
    assert leftovers(out) == []


@pytest.mark.parametrize("name", ["out.ome.zarr", "out.tif", "out.png"])
def test_killed_before_its_state_is_removed_an_output_is_complete(
    tmp_path: Path, image: Path, grey: Model, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, clear = tmp_path / name, OutputState.clear

    def killed(state: OutputState) -> None:
        if out.exists():
            raise KeyboardInterrupt
        clear(state)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(OutputState, "clear", killed)
        translate_file(image, grey, out, EXACT)
    assert out.exists()
    assert leftovers(out) != []
    report = translate_file(image, grey, out, EXACT, resume=True)
    assert report.tiles_reused == report.tiles
    assert leftovers(out) == []


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        *((name, gone) for name in ("out.ome.zarr", "out.ome.tif") for gone in ("state", "partial", "both")),
        *((name, "folder") for name in ("out.ome.zarr", "out.tif", "out.png")),
        ("out.png", "state"),
    ],
)
def test_what_is_removed_while_it_is_written_is_one_line_and_no_output(
    tmp_path: Path, image: Path, grey: Model, name: str, gone: str
) -> None:
    out, calls = tmp_path / "results" / name, iter(range(20))

    def progress(_done: int, _all: int) -> None:
        if next(calls, None) is None and out.parent.exists():
            for path in [out.parent] if gone == "folder" else list(out.parent.iterdir()):
                if gone in ("both", "folder") or path.name.endswith(".state") == (gone == "state"):
                    _remove(path)

    with pytest.raises(Pix2PixError, match="could not be completed") as caught:
        translate_file(image, grey, out, EXACT, progress=progress)
    assert next(calls, None) is None
    assert not isinstance(caught.value, InputError)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


@pytest.mark.parametrize("name", ["out.ome.zarr", "out.tif", "out.png"])
@pytest.mark.parametrize("own", [".partial", ".partial/mine", ".partial.state/mine"])
def test_what_a_user_has_in_place_of_an_unfinished_output_is_refused_and_stays(
    tmp_path: Path, image: Path, grey: Model, name: str, own: str
) -> None:
    path = tmp_path / f"{name}{own}"
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    for resume, overwrite in ((False, False), (True, False), (False, True)):
        with pytest.raises(OutputError, match="in the way"):
            translate_file(image, grey, tmp_path / name, EXACT, resume=resume, overwrite=overwrite)
    assert path.read_text() == "mine"
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(("name", "own"), [("out.ome.zarr", ".replaced/mine"), ("out.tif", ".replaced")])
def test_what_a_user_has_under_a_name_like_a_replaced_output_stays(
    tmp_path: Path, image: Path, grey: Model, name: str, own: str
) -> None:
    path = tmp_path / f"{name}{own}"
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    for overwrite in (False, True):
        translate_file(image, grey, tmp_path / name, EXACT, overwrite=overwrite)
    assert path.read_text() == "mine"


def test_what_an_interruption_leaves_is_said(tmp_path: Path, image: Path, model: Model) -> None:
    """Regions, which are what is gone on with, and not tiles; and the way to go on."""
    done, out, other = (tmp_path / name for name in ("done.ome.zarr", "out.ome.zarr", "other.ome.zarr"))
    assert _kept([out, other], 0) == "nothing was written"
    interrupted(image, model, out, 2)
    assert _kept([out, other], 0) == "nothing was written"
    interrupted(image, model, out, STOP)
    kept = f"4 of 9 regions of {out} are done; --resume goes on from there"
    assert _kept([out, other], 0) == kept
    assert _kept([done, out, other], 1) == f"1 of 3 images are complete; {kept}"


def test_a_second_writer_is_refused(tmp_path: Path, image: Path, model: Model) -> None:
    out = tmp_path / "out.ome.zarr"
    refused: list[str] = []

    def second(_done: int, _all: int) -> None:
        for options in ({"resume": True}, {}, {"part": Part(2, 2)}, {"part": Part(1, 2)}):
            with pytest.raises(OutputError, match="is being written by another process") as caught:
                translate_file(image, model, out, EXACT, **options)
            refused.append(str(caught.value))
        raise _StopError

    with pytest.raises(_StopError):
        translate_file(image, model, out, EXACT, progress=second)
    assert len(refused) == 4
    translate_file(image, model, out, EXACT)
    assert out.exists()


def test_a_lock_that_another_one_tidies_up_is_waited_for(tmp_path: Path) -> None:
    """On a machine with many processes that takes longer than a moment."""
    state = OutputState(tmp_path / "out.ome.zarr")
    with ExitStack() as tidying:
        tidying.enter_context(locked(state.folder / "part-1-of-2.lock", state.path))
        Timer(0.25, tidying.pop_all().close).start()
        with state.claimed(Part(1, 2)):
            assert state.is_claimed(Part(1, 2))


@pytest.mark.parametrize("name", ["out.ome.zarr", "out.ome.tif"])
@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_shards_together_make_the_output(
    tmp_path: Path, image: Path, model: Model, whole: Path, name: str, order: tuple[int, ...]
) -> None:
    out = tmp_path / name
    reports = []
    for index in order:
        assert not out.exists()
        reports.append(translate_file(image, model, out, EXACT, part=Part(index, 3)))
    assert [report.complete for report in reports] == [False, False, True]
    assert sum(report.pixels for report in reports) == SIZE[0] * SIZE[1]
    if name == "out.ome.zarr":
        assert content(out) == content(whole)
    else:
        np.testing.assert_array_equal(tifffile.imread(out), np.asarray(zarr.open_array(whole / "0", mode="r")))
    assert leftovers(out) == []


def _recorded_but_unnamed(image: Path, model: Model, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two shards have made all regions, and the second was killed before it could complete the output."""
    translate_file(image, model, out, EXACT, part=Part(1, 2))
    with monkeypatch.context() as patch, pytest.raises(_StopError):
        patch.setattr(partial_output.PartialOutput, "finish", Mock(side_effect=_StopError))
        translate_file(image, model, out, EXACT, part=Part(2, 2))
    assert not out.exists()


@pytest.mark.parametrize("name", ["out.ome.zarr", "out.ome.tif"])
@pytest.mark.parametrize("moment", ["check_output", "regions_made"])
def test_of_shards_that_are_started_again_together_one_completes_the_output(
    tmp_path: Path, image: Path, model: Model, whole: Path, name: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    out = tmp_path / name
    _recorded_but_unnamed(image, model, out, monkeypatch)
    slower = getattr(sinks, moment)
    found = []

    def overtaken(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(sinks, moment, slower)
        assert translate_file(image, model, out, EXACT, part=Part(1, 2)).complete
        found.append(output_state.output_identity(out))
        return slower(*arguments, **options)

    monkeypatch.setattr(sinks, moment, overtaken)
    translate_file(image, model, out, EXACT, part=Part(2, 2))
    assert found == [output_state.output_identity(out)]
    np.testing.assert_array_equal(_pixels(out), _pixels(whole))
    assert leftovers(out) == []


def test_an_interrupted_shard_is_gone_on_with(tmp_path: Path, image: Path, model: Model, whole: Path) -> None:
    out = tmp_path / "out.ome.zarr"
    interrupted(image, model, out, 24, part=Part(1, 2))
    assert translate_file(image, model, out, EXACT, part=Part(2, 2)).complete is False
    report = translate_file(image, model, out, EXACT, part=Part(1, 2))
    assert report.complete
    assert report.tiles_reused > 0
    assert content(out) == content(whole)


@pytest.mark.parametrize(
    ("name", "damage"), [("out.ome.zarr", _flip), ("out.ome.zarr", Path.unlink), ("out.ome.tif", _flip)]
)
def test_what_was_damaged_of_a_finished_shard_is_made_again(
    tmp_path: Path, image: Path, model: Model, whole: Path, name: str, damage: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """By the shard that completes the output, however the first one ended."""
    out = tmp_path / name
    translate_file(image, model, out, EXACT, part=Part(1, 2))
    finished = sorted(file for file in tmp_path.glob("out*partial*/**/0/c/**/*") if file.is_file())
    damage(finished[0])
    begun = _regions_begun(monkeypatch)
    assert translate_file(image, model, out, EXACT, part=Part(2, 2)).complete
    own = Part(2, 2).of(9)
    assert len(begun) == len(own) + 1
    assert set(begun) > set(own)
    np.testing.assert_array_equal(_pixels(out), _pixels(whole))
    assert leftovers(out) == []


def _pixels(path: Path) -> Any:
    return np.asarray(zarr.open_array(path / "0", mode="r")) if path.is_dir() else tifffile.imread(path)


def test_all_planes_of_a_stack(tmp_path: Path, model: Model) -> None:
    path = tmp_path / "stack.ome.tif"
    stack = np.stack([random_image(1, 150, 110, seed=z)[0] for z in range(3)])
    tifffile.imwrite(path, stack, metadata={"axes": "ZYX"})
    expected, out = tmp_path / "undisturbed.ome.zarr", tmp_path / "out.ome.zarr"
    translate_file(path, model, expected, EXACT)
    interrupted(path, model, out, 14)
    assert translate_file(path, model, out, EXACT, resume=True).tiles_reused > 0
    assert content(out).keys() == content(expected).keys()
    for level in ("0", "1"):
        pixels, expected_pixels = (np.asarray(zarr.open_array(path / level, mode="r")) for path in (out, expected))
        np.testing.assert_array_equal(pixels, expected_pixels)


@pytest.mark.parametrize("settings", [TranslationSettings(scheme=s, tile=64, region=128) for s in ("whole", "blend")])
def test_other_schemes_resume_too(tmp_path: Path, image: Path, model: Model, settings: TranslationSettings) -> None:
    expected, out = tmp_path / "undisturbed" / "out.ome.zarr", tmp_path / "out.ome.zarr"
    translator = Translator(model, settings)
    translate_file(image, translator, expected)
    with pytest.raises(_StopError):
        translate_file(image, translator, out, progress=stop_after(14))
    report = translate_file(image, translator, out, resume=True)
    assert report.tiles_reused > 0
    assert content(out) == content(expected)


def test_file_that_cannot_grow_is_one_line_and_resumes(tmp_path: Path, image: Path, model: Model, whole: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits of POSIX")
    out = tmp_path / "out.ome.zarr"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(Pix2PixError, match=r"could not be completed: File too large") as caught:
            translate_file(image, model, out, EXACT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    translate_file(image, model, out, EXACT, resume=True)
    assert content(out) == content(whole)


def test_disk_full_at_any_write(
    tmp_path: Path, image: Path, model: Model, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fills up after one more flush at each attempt, at last during completion; what was finished is kept."""
    out, failures = tmp_path / "out.ome.zarr", 0
    for calls in range(1, 200):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", _fails_at(calls))
            try:
                translate_file(image, model, out, EXACT, resume=True)
                break
            except Pix2PixError as error:
                failures += 1
                assert "the disk is full; free some space" in str(error)
                assert "\n" not in str(error)
        if out.exists():  # it was the last flush of all, of the folder
            assert calls > 5
            break
    assert failures > 10
    assert translate_file(image, model, out, EXACT, resume=True).complete
    assert content(out) == content(whole)
    assert leftovers(out) == []


def _fails_at(call: int) -> Callable[[int], None]:
    calls = iter(range(call))

    def fsync(_descriptor: int) -> None:
        if next(calls, None) is None:
            raise OSError(28, "No space left on device")

    return fsync


_PROGRAM = """
import sys
from napari_pix2pix.formats import ome_tiff, ome_zarr_layout, tiff_writing, tiled_tiff
from napari_pix2pix.translation import region_grid
region_grid.MULTIPLE_PX = 128
ome_zarr_layout.CHUNK_PX, ome_zarr_layout._UNITS_PX, ome_zarr_layout._SMALLEST_LEVEL_PX = 32, (128,), 32
tiled_tiff.TILE_PX = tiff_writing.TILE_PX = 32
ome_tiff.PYRAMID_FROM_PX = 64
from napari_pix2pix.__main__ import main
main()
"""


def command(image: Path, model_path: Path, out: Path, *options: str) -> list[str]:
    arguments = ["translate", str(image), "--model", str(model_path), "--out", str(out), "--scheme", "exact"]
    return [sys.executable, "-c", _PROGRAM, *arguments, "--tile", "64", "--region", "128", "--json", *options]


def run(arguments: list[str]) -> dict[str, Any]:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def kill_during(arguments: list[str], out: Path, more_regions: int) -> None:
    """SIGKILL once `more_regions` more are recorded, or at a random moment soon after."""
    before = _recorded(out)
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and _recorded(out) < before + more_regions:
        time.sleep(0.002)
    time.sleep(random.uniform(0, 0.02))
    process.send_signal(signal.SIGKILL)
    process.wait()


def _recorded(out: Path) -> int:
    return len(list(out.with_name(out.name + ".partial.state").glob("regions/*.json")))


no_sigkill = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


@no_sigkill
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_runs_resume_to_the_same_output(
    tmp_path: Path, image: Path, model: Model, whole: Path, kills: int
) -> None:
    model_path, out = tmp_path / "model.safetensors", tmp_path / "out.ome.zarr"
    save_model(model, model_path)
    tifffile.imwrite(image, random_image(1, *(SIZE if kills == 3 else (1000, 1100)))[0])
    if kills > 3:
        translate_file(image, model, whole, EXACT, overwrite=True)
    resuming = command(image, model_path, out, "--resume")
    for _ in range(kills):
        kill_during(resuming, out, 2)
        assert not out.exists()
    report = run(resuming)
    assert report["tiles_reused"] > 0
    assert report["outputs"] == [str(out)]
    assert content(out) == content(whole)
    assert leftovers(out) == []


def levels(path: Path) -> list[tuple[Any, dict[str, Any]]]:
    """Pixels of every level of a TIFF, and what its tags say but for places in the file and random identifiers."""
    with tifffile.TiffFile(path) as tif:
        return [(level.asarray(), _facts(level.keyframe)) for level in tif.series[0].levels]


def _facts(page: Any) -> dict[str, Any]:
    places = {"TileOffsets", "TileByteCounts", "SubIFDs"}
    facts = {tag.name: str(tag.value) for tag in page.tags if tag.name not in places}
    if "ImageDescription" in facts:
        facts["ImageDescription"] = re.sub("urn:uuid:[-0-9a-f]{36}", "", facts["ImageDescription"])
    return facts


@no_sigkill
@pytest.mark.parametrize("kills", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_killed_runs_resume_to_the_same_pyramid(tmp_path: Path, image: Path, model: Model, kills: int) -> None:
    """OME-TIFF: killed while units are made, and while the upper levels are."""
    size = (700, 900) if kills == 1 else (1400, 1500)
    pixel_size: Any = {"resolution": (20000, 10000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(image, random_image(1, *size)[0], **pixel_size)
    model_path, out, expected = (tmp_path / name for name in ("model.safetensors", "out.ome.tif", "whole.ome.tif"))
    save_model(model, model_path)
    translate_file(image, model, expected, EXACT)
    resuming = command(image, model_path, out, "--resume")
    for _ in range(kills):
        kill_during(resuming, out, 2)
        assert not out.exists()
    kill_during(resuming, out, math.prod(-(-length // 128) for length in size) - _recorded(out))
    was_complete = out.exists()
    report = run(resuming)
    assert report["tiles_reused"] == report["tiles"]
    found = levels(out)
    assert len(found) > 1
    for (pixels, facts), (expected_pixels, expected_facts) in zip(found, levels(expected), strict=True):
        np.testing.assert_array_equal(pixels, expected_pixels)
        assert facts == expected_facts
    assert was_complete or leftovers(out) == []


_FILLING = """
set -e
mount -t tmpfs -o size={small}k none {folder}
if {program} 2> {errors}; then exit 3; fi
test ! -e {out}
mount -o remount,size=64m {folder}
{program}
cp -r {out} {safe}
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="file systems can be mounted without rights on Linux")
@pytest.mark.parametrize("name", ["out.ome.zarr", "out.ome.tif"])
def test_file_system_that_fills_up_is_one_line_and_resumes(
    tmp_path: Path, image: Path, model: Model, whole: Path, name: str
) -> None:
    if shutil.which("unshare") is None or subprocess.run([*_MOUNTING, "none", str(tmp_path)]).returncode:
        pytest.skip("this system lets users mount no file systems")
    model_path, folder, errors, safe = (tmp_path / n for n in ("model.safetensors", "small", "errors", "safe"))
    save_model(model, model_path)
    folder.mkdir()
    out = folder / name
    paths = {"folder": folder, "errors": errors, "out": out, "safe": safe}
    quoted = {key: shlex.quote(str(path)) for key, path in paths.items()}
    program = shlex.join(command(image, model_path, out, "--resume"))
    script = _FILLING.format(small=240, program=program, **quoted)
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = errors.read_text().splitlines()
    assert "the disk is full; free some space" in line
    assert json.loads(done.stdout.splitlines()[-1])["tiles_reused"] > 0
    if name == "out.ome.zarr":
        assert content(safe) == content(whole)
        return
    translate_file(image, model, tmp_path / "whole.ome.tif", EXACT)
    for (pixels, _), (expected, _) in zip(levels(safe), levels(tmp_path / "whole.ome.tif"), strict=True):
        np.testing.assert_array_equal(pixels, expected)


_MOUNTING = ["unshare", "-rm", "mount", "-t", "tmpfs"]


def test_a_companion_file_that_changed_is_noticed(tmp_path: Path, model: Model) -> None:
    """The pixels of an image may lie in several files; each of them is its input."""
    parts = [tmp_path / f"part{z}.ome.tif" for z in range(2)]
    _write_set(parts, [0, 1])
    out = tmp_path / "out.ome.zarr"
    interrupted(parts[0], model, out, STOP)
    before = file_identity(parts[0])
    _write_set(parts, [1], seed=1)
    assert file_identity(parts[0]) == before
    with pytest.raises(OutputError, match="was begun with another input"):
        translate_file(parts[0], model, out, EXACT, resume=True)


def _write_set(paths: list[Path], planes: list[int], seed: int = 0) -> None:
    """Some planes of a Z stack that has a file for each, every one with the same OME-XML."""
    parts = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{path.name}">urn:uuid:{z}</UUID></TiffData>'
        for z, path in enumerate(paths)
    )
    for z in planes:
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{z}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" '
            f'SizeX="{SIZE[1]}" SizeY="{SIZE[0]}" SizeZ="{len(paths)}" SizeC="1" SizeT="1">'
            f'<Channel ID="Channel:0:0"/>{parts}</Pixels></Image></OME>'
        )
        tifffile.imwrite(paths[z], random_image(1, *SIZE, seed=seed)[0], description=xml, metadata=None)


def test_two_processes_share_an_output(tmp_path: Path, image: Path, model: Model, whole: Path) -> None:
    model_path, out = tmp_path / "model.safetensors", tmp_path / "out.ome.zarr"
    save_model(model, model_path)
    both = [
        subprocess.Popen(command(image, model_path, out, "--shard", f"{index}/2"), stdout=subprocess.PIPE, text=True)
        for index in (1, 2)
    ]
    results = [json.loads(process.communicate()[0].splitlines()[-1]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert [str(out)] in [result["outputs"] for result in results]
    assert content(out) == content(whole)
    assert leftovers(out) == []


def test_a_share_that_is_less_than_half_a_tile(tmp_path: Path, model: Model) -> None:
    """The last of two regions is a strip of eight rows."""
    tifffile.imwrite(tmp_path / "image.tif", random_image(1, 136, 128)[0])
    told: list[tuple[int, int]] = []
    for number in (1, 2):
        told.clear()
        translate_file(
            tmp_path / "image.tif",
            model,
            tmp_path / "out.ome.zarr",
            TranslationSettings(scheme="exact", region=128, tile=256),
            part=Part(number, 2),
            progress=lambda done, tiles: told.append((done, tiles)),
        )
    assert told[-1] == (1, 1)
