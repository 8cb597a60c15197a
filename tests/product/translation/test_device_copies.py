"""Order of copies and waits, with streams that write down what they are asked, on a machine whose GPU is the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch

from napari_pix2pix.translation import device_copies
from napari_pix2pix.translation.device_copies import Uploader, downloaded
from napari_pix2pix.translation.pipeline import translate_array
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from tests.product.translation.conftest import random_image, random_model

CPU = torch.device("cpu")


class FakeStream:
    def __init__(self, log: list[str], name: str) -> None:
        self.log = log
        self.name = name

    def wait_stream(self, other: FakeStream) -> None:
        self.log.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event: FakeEvent) -> None:
        assert event.stream is not None
        self.log.append(f"{self.name} waits for copy on {event.stream.name}")


class FakeEvent:
    log: list[str]

    def __init__(self) -> None:
        self.stream: FakeStream | None = None

    def record(self, stream: FakeStream) -> None:
        self.stream = stream

    def synchronize(self) -> None:
        assert self.stream is not None
        self.log.append(f"host waits for copy on {self.stream.name}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of streams, in order; held tensors are in it too."""
    log: list[str] = []
    FakeEvent.log = log
    streams = iter(range(100))
    monkeypatch.setattr(device_copies, "_is_gpu", lambda device: True)
    monkeypatch.setattr(device_copies, "_on", lambda stream: nullcontext())
    monkeypatch.setattr(device_copies, "_hold", lambda tensor, stream: log.append(f"held for {stream.name}"))
    monkeypatch.setattr(device_copies, "_pinned", torch.clone)
    monkeypatch.setattr(device_copies, "_pinned_like", lambda t: torch.empty(t.shape, dtype=t.dtype))
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: FakeStream(log, f"stream {next(streams)}"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream(log, "computing"))
    return log


def test_computing_waits_for_what_was_sent(log: list[str]) -> None:
    stored = torch.arange(6, dtype=torch.uint8)
    upload = Uploader(CPU).send(stored)
    assert log == []
    assert torch.equal(upload.received(), stored)
    assert log == ["computing waits for copy on stream 0", "held for computing"]


@pytest.mark.parametrize("count", range(5))
def test_results_come_in_order(log: list[str], count: int) -> None:
    tiles = [(n, torch.full((2, n + 1), float(n))) for n in range(count)]
    results = list(downloaded(iter(tiles), CPU))
    assert [label for label, _ in results] == list(range(count))
    assert all(torch.equal(result, tile) for (_, result), (_, tile) in zip(results, tiles, strict=True))
    assert log.count("host waits for copy on stream 0") == count


def test_the_next_tile_is_launched_before_one_is_waited_for(log: list[str]) -> None:
    def tiles() -> Iterator[tuple[int, torch.Tensor]]:
        for number in range(3):
            log.append(f"launch {number}")
            yield number, torch.zeros(1)

    next(downloaded(tiles(), CPU))
    copy = ["stream 0 waits for computing", "held for stream 0"]
    assert log == ["launch 0", *copy, "launch 1", *copy, "host waits for copy on stream 0"]


def test_translation_through_streams_is_the_same(log: list[str]) -> None:
    model = random_model(GeneratorConfig(base_width=3, depth=3, source_channels=1), InferenceConfig())
    image = random_image(1, 70, 90)
    found = translate_array(image, model, TranslationSettings(device="cpu", scheme="exact", tile=32))
    tiles = Translator(model, TranslationSettings(device="cpu", scheme="exact", tile=32)).plan((70, 90)).tiles
    assert sum(line.startswith("host waits") for line in log) == tiles
    assert any(line.startswith("computing waits") for line in log)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_copies, "_is_gpu", lambda device: False)
        expected = translate_array(image, model, TranslationSettings(device="cpu", scheme="exact", tile=32))
    assert (found == expected).all()


def test_elsewhere_tensors_are_simply_moved() -> None:
    tile = torch.rand(3)
    assert Uploader(CPU).send(tile).received() is tile
    results = downloaded(iter([("a", tile), ("b", tile)]), CPU)
    assert next(results) == ("a", tile)
