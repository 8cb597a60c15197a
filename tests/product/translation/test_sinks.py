"""One generator of events for arrays and files: what it tells, how it ends, and what it leaves."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_pix2pix.formats.source import open_image
from napari_pix2pix.translation.backends.selection import choose_backend
from napari_pix2pix.translation.pipeline import translate, translate_array
from napari_pix2pix.translation.plan import BackendChoice, Plan
from napari_pix2pix.translation.progress import Event, Planned, RegionDone, TilesDone, ended
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.sinks import ArraySink, FileSink, PlainFileSink, Sink
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import MemorySource
from pix2pix_training.cancel import Cancel, Interrupted
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from tests.product.translation.conftest import random_image, random_model

CONFIG = GeneratorConfig(base_width=3, depth=4, source_channels=1, target_channels=2)
MODEL = random_model(CONFIG, InferenceConfig(statistics="running"))
PIXELS = random_image(1, 300, 280)
SETTINGS = TranslationSettings(scheme="exact", tile=128, max_memory=1 << 30)
IN_REGIONS = TranslationSettings(scheme="exact", tile=128, max_memory=1 << 30, region=256)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, PIXELS[0])
    return path


def check_tiles(events: list[Event]) -> None:
    tiles = [event for event in events if isinstance(event, TilesDone)]
    done = [event.done for event in tiles]
    assert done == sorted(done)
    assert done[-1] == tiles[-1].total
    assert tiles[-1].fraction == 1


@pytest.mark.parametrize("kind", ["array", "file", "plain file"])
def test_the_plan_comes_first_with_the_backend_and_why(tmp_path: Path, kind: str) -> None:
    sinks: dict[str, Sink] = {
        "array": ArraySink(), "file": FileSink(tmp_path / "a.tif"), "plain file": PlainFileSink(tmp_path / "a.tif"),
    }  # fmt: skip
    events: list[Event] = []
    translator = Translator(MODEL, SETTINGS)
    report = ended(translate(MemorySource(PIXELS), translator, sinks[kind]), events.append)
    first = events[0]
    assert isinstance(first, Planned)
    assert (first.plan.backend.name, first.plan.backend.reason) == (report.backend, report.backend_reason)
    assert first.spec.shape == (2, 300, 280)
    assert first.tiles == report.tiles == len(events) - 1
    check_tiles(events)


def test_a_backend_is_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def choose(*choice: Any) -> BackendChoice:
        asked.append(choice)
        return choose_backend(*choice)

    monkeypatch.setattr("napari_pix2pix.translation.translator.choose_backend", choose)
    stack = np.stack([PIXELS[0], PIXELS[0]])
    ended(translate(MemorySource(stack, axes="ZYX"), Translator(MODEL, IN_REGIONS), ArraySink()))
    assert len(asked) == 1


def test_regions_are_told_when_they_are_recorded(tmp_path: Path, image: Path) -> None:
    out, events = tmp_path / "out.ome.zarr", list[Event]()
    records = tmp_path / "out.ome.zarr.partial.state" / "regions"

    def see(event: Event) -> None:
        events.append(event)
        if isinstance(event, RegionDone):
            assert (records / f"{event.number}.json").exists()

    with open_image(image) as source:
        ended(translate(source, Translator(MODEL, IN_REGIONS), FileSink(out)), see)
    regions = [event for event in events if isinstance(event, RegionDone)]
    assert [(event.number, event.done, event.total) for event in regions] == [(n, n + 1, 4) for n in range(4)]
    check_tiles(events)


def test_closing_leaves_nothing_of_one_region_and_what_can_be_gone_on_with_of_several(
    tmp_path: Path, image: Path
) -> None:
    for settings, kept in ((SETTINGS, False), (IN_REGIONS, True)):
        out = tmp_path / f"{kept}" / "out.tif"
        with open_image(image) as source:
            events = translate(source, Translator(MODEL, settings), FileSink(out))
            for event in events:
                if isinstance(event, RegionDone) or (not kept and isinstance(event, TilesDone)):
                    break
            events.close()
            assert not out.exists()
            assert out.parent.exists() == kept
            if kept:
                report = ended(translate(source, Translator(MODEL, settings), FileSink(out, resume=True)))
                assert report.tiles_reused > 0
                expected = translate_array(PIXELS, MODEL, IN_REGIONS)
                np.testing.assert_array_equal(tifffile.imread(out), expected)


@pytest.mark.parametrize("kind", ["array", "file"])
def test_a_cancel_ends_it_after_a_tile(tmp_path: Path, kind: str) -> None:
    cancel, translator = Cancel(), Translator(MODEL, SETTINGS)
    sink = ArraySink() if kind == "array" else FileSink(tmp_path / "out.tif")

    def stop(event: Event) -> None:
        if isinstance(event, TilesDone):
            cancel.set()

    with translator.interruptible(cancel), pytest.raises(Interrupted):
        ended(translate(MemorySource(PIXELS), translator, sink), stop)
    assert list(tmp_path.iterdir()) == []


def test_an_array_in_place_is_told_from_others_by_its_content(tmp_path: Path) -> None:
    out, translator = tmp_path / "out.ome.zarr", Translator(MODEL, IN_REGIONS)
    events = translate(MemorySource(PIXELS), translator, FileSink(out, in_place=True))
    next(event for event in events if isinstance(event, RegionDone))
    events.close()
    again = FileSink(out, in_place=True)
    assert ended(translate(MemorySource(PIXELS.copy()), translator, again)).tiles_reused > 0


def test_a_plan_comes_back_from_json_with_its_backend() -> None:
    plan = Translator(MODEL, SETTINGS).plan((300, 280))
    assert Plan.from_json(json.loads(json.dumps(asdict(plan)))) == plan


def test_what_is_gone_on_with_runs_on_the_backend_that_it_was_begun_with(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which one is chosen may change with what was measured meanwhile."""
    out, begun = tmp_path / "out.tif", BackendChoice(name="torch", reason="as it was then")
    monkeypatch.setattr("napari_pix2pix.translation.translator.choose_backend", lambda *_: begun)
    with open_image(image) as source:
        events = translate(source, Translator(MODEL, IN_REGIONS), FileSink(out))
        next(event for event in events if isinstance(event, RegionDone))
        events.close()
        other = BackendChoice(name="openvino", reason="measured since")
        monkeypatch.setattr("napari_pix2pix.translation.translator.choose_backend", lambda *_: other)
        report = ended(translate(source, Translator(MODEL, IN_REGIONS), FileSink(out, resume=True)))
    assert report.tiles_reused > 0
    assert (report.backend, report.backend_reason) == ("torch", "as it was then")
