"""Order and buffers of overlapped tiles, with streams and events that do nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch

from pix2pix_trt import double_buffer
from pix2pix_trt.double_buffer import overlapped

CPU = torch.device("cpu")


class FakeEvent:
    def record(self, stream: object) -> None:
        pass

    def synchronize(self) -> None:
        pass


@pytest.fixture(autouse=True)
def buffers(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """No GPU is needed; gives the pinned buffers that were made."""
    made: list[torch.Tensor] = []

    def pinned(tensor: torch.Tensor) -> torch.Tensor:
        made.append(torch.empty_like(tensor))
        return made[-1]

    monkeypatch.setattr(double_buffer, "_pinned", pinned)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    return made


@pytest.mark.parametrize("count", range(6))
def test_results_come_in_order(count: int) -> None:
    tiles = [torch.full((1, 2, 2), float(n)) for n in range(count)]
    results = list(overlapped(lambda x: 2 * x, iter(tiles), CPU))
    assert len(results) == count
    assert all(torch.equal(result, 2 * tile) for result, tile in zip(results, tiles, strict=True))


def test_two_tiles_are_under_way() -> None:
    asked: list[int] = []

    def tiles() -> Iterator[torch.Tensor]:
        for number in range(4):
            asked.append(number)
            yield torch.full((1,), float(number))

    results = overlapped(lambda x: x, tiles(), CPU)
    assert next(results).item() == 0
    assert asked == [0, 1, 2]


def test_buffers_are_used_again_and_results_are_not_overwritten(buffers: list[torch.Tensor]) -> None:
    results = list(overlapped(lambda x: x + 1, (torch.full((3,), float(n)) for n in range(9)), CPU))
    assert len(buffers) == 4
    assert [result[0].item() for result in results] == [n + 1.0 for n in range(9)]


def test_tiles_may_differ_in_size() -> None:
    sizes = [3, 3, 2, 5, 1]
    results = list(overlapped(lambda x: x, (torch.full((n,), float(n)) for n in sizes), CPU))
    assert [tuple(result.shape) for result in results] == [(n,) for n in sizes]
