"""When tiles are replayed as a CUDA graph, and when they are not; engines stand in that double their input."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from pix2pix_trt.replay import ReplayingRunner
from pix2pix_trt.runner import EngineMemoryError, EngineRunner


class FakeEngine:
    def __init__(self, error: Exception | None = None, factor: float = 2.0) -> None:
        self.error = error
        self.factor = factor
        self.plain = self.replayed = 0
        self.closed: list[str] = []

    def takes(self, inputs: Mapping[str, Tensor]) -> bool:
        return inputs["image"].shape[-1] < 100

    def run(self, inputs: Mapping[str, Tensor]) -> Tensor:
        self.plain += 1
        return 2 * inputs["image"]

    def fixed(self, shapes: Mapping[str, tuple[int, ...]]) -> Any:
        if self.error is not None:
            raise self.error
        return FakeGraph(self, shapes)

    def close(self) -> None:
        self.closed.append("engine")


class FakeGraph:
    def __init__(self, engine: FakeEngine, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.engine = engine
        self.shapes = dict(shapes)

    def run(self, inputs: Mapping[str, Tensor]) -> Tensor:
        assert {name: tuple(t.shape) for name, t in inputs.items()} == self.shapes
        self.engine.replayed += 1
        return self.engine.factor * inputs["image"]

    def close(self) -> None:
        self.engine.closed.append("graph")


def run(engine: FakeEngine, *sizes: int) -> ReplayingRunner:
    runner = ReplayingRunner(cast(EngineRunner, engine), 1e-2)
    for size in sizes:
        image = torch.rand(1, size)
        assert torch.equal(runner.run({"image": image}), 2 * image)
    return runner


def test_shape_that_comes_twice_in_a_row_is_replayed_from_then_on() -> None:
    engine = FakeEngine()
    run(engine, 3, 4, 4, 4, 3, 4, 3, 3)
    assert engine.plain == 6
    assert engine.replayed == 1 + 2  # the comparison, and the later tiles of size 4
    assert engine.closed == []


@pytest.mark.parametrize("error", [EngineMemoryError("no"), torch.OutOfMemoryError("no")])
def test_without_memory_for_a_graph_it_goes_on_without(error: Exception) -> None:
    engine = FakeEngine(error)
    run(engine, 4, 4, 4, 4)
    assert (engine.plain, engine.replayed) == (4, 0)


def test_graph_that_deviates_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine(factor=2.5)
    with caplog.at_level(logging.WARNING):
        run(engine, 4, 4, 4, 4)
    assert (engine.plain, engine.replayed, engine.closed) == (4, 1, ["graph"])
    assert "is not used" in caplog.text


def test_closing_frees_graph_and_engine() -> None:
    engine = FakeEngine()
    run(engine, 4, 4).close()
    assert engine.closed == ["graph", "engine"]
    assert run(engine).takes({"image": torch.zeros(1, 99)})
    assert not run(engine).takes({"image": torch.zeros(1, 100)})
