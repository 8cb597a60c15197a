"""What the runner asks of an engine, against a stand-in for the package: order, names, shapes, errors.

The stand-in computes 2 * image on the CPU, so that addresses, shapes and streams are seen to be right.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pix2pix_training.errors import EngineError, EngineFileError
from pix2pix_trt import flavours, runner
from pix2pix_trt.engine import ShapeRange
from pix2pix_trt.flavours import Flavour
from pix2pix_trt.runner import Engine, EngineRunner

PROFILE = ((1, 1, 4, 4), (1, 1, 8, 8), (2, 1, 16, 16))


class FakeContext:
    def __init__(self, calls: list[str]) -> None:
        self.calls = calls
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}
        self.fails = False

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.calls.append(f"shape {name}")
        self.shape = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.calls.append(f"address {name}")
        self.addresses[name] = address
        return True

    def infer_shapes(self) -> list[str]:
        return [] if self.shape else ["image"]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name == "result"
        return self.shape

    def execute_async_v3(self, stream: int) -> bool:
        self.calls.append(f"execute on {stream}")
        if self.fails:
            return False
        count = int(np.prod(self.shape))
        views = {n: np.ctypeslib.as_array((ctypes.c_float * count).from_address(a)) for n, a in self.addresses.items()}
        views["result"][:] = 2 * views["image"]
        return True


class FakeEngine:
    num_io_tensors = 2

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls
        self.context = FakeContext(calls)

    def get_tensor_name(self, index: int) -> str:
        return ("image", "result")[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name="FLOAT")

    def get_tensor_mode(self, name: str) -> FakeMode:
        return FakeMode.INPUT if name == "image" else FakeMode.OUTPUT

    def get_tensor_profile_shape(self, name: str, profile: int) -> tuple[tuple[int, ...], ...]:
        assert (name, profile) == ("image", 0)
        return PROFILE

    def create_execution_context(self, config: object = None) -> FakeContext:
        self.calls.append(f"context with {config}" if config else "context")
        return self.context

    def create_runtime_config(self) -> Any:
        return SimpleNamespace()


class FakeMode(Enum):
    INPUT = 1
    OUTPUT = 2


class FakeValidity(Enum):
    VALID = 0
    INVALID = 2


class FakeDiagnostics:
    __members__ = {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "OLD_CUDA_DRIVER": 4, "MALFORMED_ENGINE": 32}  # noqa: RUF012


class FakeStream:
    cuda_stream = 77

    def __init__(self, device: object = None) -> None:
        self.waited: list[object] = []

    def wait_stream(self, other: object) -> None:
        self.waited.append(other)

    def synchronize(self) -> None:
        self.waited.append("host")


class FakePackage:
    """As much of the package as the runner uses."""

    __version__ = "11.0"
    TensorIOMode = FakeMode
    CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")
    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.engine: FakeEngine | None = FakeEngine(self.calls)
        self.ILogger = type("ILogger", (), {"Severity": SimpleNamespace(INTERNAL_ERROR=0, ERROR=1)})
        self.log: Any = None

    def Runtime(self, log: Any) -> Any:  # noqa: N802
        self.log = log
        return SimpleNamespace(deserialize_cuda_engine=lambda plan: self.engine)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePackage]:
    """TensorRT on a machine whose GPU is the CPU."""
    package = FakePackage()
    for module in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, module, package)
    monkeypatch.setattr(flavours, "driver_cuda_version", lambda: (13, 2))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 9))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    current = FakeStream()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: current)
    yield package


@pytest.fixture
def running(package: FakePackage) -> EngineRunner:
    return EngineRunner(Engine(flavour="tensorrt", plan=b"plan"), torch.device("cpu"))


def test_reads_and_writes_tensors_where_they_lie(running: EngineRunner, package: FakePackage) -> None:
    image = torch.randn(2, 1, 8, 12)
    result = running.run({"image": image})
    assert torch.equal(result, 2 * image)
    assert package.engine is not None
    assert package.engine.context.addresses == {"image": image.data_ptr(), "result": result.data_ptr()}
    assert package.calls == ["context", "shape image", "address image", "address result", "execute on 77"]


def test_work_is_ordered_between_the_streams(running: EngineRunner) -> None:
    running.run({"image": torch.randn(1, 1, 8, 8)})
    current: Any = torch.cuda.current_stream()
    stream: Any = running.stream
    assert stream.waited == [current]
    assert current.waited == [stream]


def test_strided_inputs_are_copied_first(running: EngineRunner) -> None:
    image = torch.randn(1, 1, 12, 8).transpose(2, 3)
    assert torch.equal(running.run({"image": image}), 2 * image)


def test_each_result_is_a_tensor_of_its_own(running: EngineRunner) -> None:
    first = running.run({"image": torch.ones(1, 1, 8, 8)})
    running.run({"image": torch.zeros(1, 1, 8, 8)})
    assert torch.equal(first, torch.full((1, 1, 8, 8), 2.0))


def test_accepted_shapes_are_known(running: EngineRunner) -> None:
    low, best, high = PROFILE
    assert running.input_shapes == {"image": ShapeRange(minimum=low, optimum=best, maximum=high)}


@pytest.mark.parametrize(
    "inputs, words",
    [
        ({"image": torch.zeros(1, 1, 32, 8)}, r"compiled for \(1, 1, 4, 4\) to \(2, 1, 16, 16\)"),
        ({"image": torch.zeros(1, 8, 8)}, "has shape"),
        ({"image": torch.zeros(1, 1, 8, 8, dtype=torch.float16)}, "torch.float16"),
        ({"picture": torch.zeros(1, 1, 8, 8)}, "has inputs"),
        ({}, "has inputs"),
    ],
)
def test_unsuitable_inputs_are_refused(
    running: EngineRunner, package: FakePackage, inputs: dict[str, torch.Tensor], words: str
) -> None:
    with pytest.raises(EngineError, match=words):
        running.run(inputs)
    assert not any(call.startswith("execute") for call in package.calls)


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt-rtx"])
def test_fixed_shapes_run_from_buffers_of_their_own(
    package: FakePackage, monkeypatch: pytest.MonkeyPatch, flavour: Flavour
) -> None:
    assert package.engine is not None
    context = package.engine.context
    replayed: list[bool] = []

    class FakeGraph:
        def replay(self) -> None:
            replayed.append(context.execute_async_v3(0))

    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream, capture_error_mode: nullcontext())
    running = EngineRunner(Engine(flavour=flavour, plan=b"plan"), torch.device("cpu"))
    fixed = running.fixed({"image": (1, 1, 8, 8)})
    images = [torch.randn(1, 1, 8, 8) for _ in range(2)]
    results = [fixed.run({"image": image}) for image in images]
    assert all(torch.equal(result, 2 * image) for result, image in zip(results, images, strict=True))
    assert context.addresses["image"] not in {image.data_ptr() for image in images}
    assert len(replayed) == (2 if flavour == "tensorrt" else 0)
    configured = [call for call in package.calls if call.startswith("context with")]
    assert len(configured) == (0 if flavour == "tensorrt" else 1)
    assert all("'whole'" in call and "'eager'" in call for call in configured)
    with pytest.raises(EngineError, match="is for shapes"):
        fixed.run({"image": torch.zeros(1, 1, 4, 4)})
    fixed.close()


def test_failure_gives_the_reason_of_the_package(running: EngineRunner, package: FakePackage) -> None:
    assert package.engine is not None
    package.engine.context.fails = True
    package.log.log(1, "CUDA error:\n out of luck")
    with pytest.raises(EngineError, match=r"failed \(CUDA error: out of luck\)"):
        running.run({"image": torch.zeros(1, 1, 8, 8)})


def test_engine_that_does_not_load_is_refused(package: FakePackage) -> None:
    package.engine = None
    with pytest.raises(EngineFileError, match="compile the model again"):
        EngineRunner(Engine(flavour="tensorrt", plan=b""), torch.device("cpu"))


def test_leaving_frees_engine_and_context(package: FakePackage) -> None:
    with EngineRunner(Engine(flavour="tensorrt", plan=b"plan"), torch.device("cpu")) as running:
        running.run({"image": torch.zeros(1, 1, 8, 8)})
    assert (running._context, running._engine, running._runtime) == (None, None, None)
    stream: Any = running.stream
    assert stream.waited[-1] == "host"
    running.close()


@pytest.mark.parametrize(
    "bits, words",
    [
        (1, "another version"),
        (2, "other GPU architectures"),
        (4, "driver is too old"),
        (32, "damaged"),
        (0, "no reason"),
    ],
)
def test_engines_for_something_else_are_told_apart(bits: int, words: str) -> None:
    package = SimpleNamespace(EngineValidity=FakeValidity, EngineInvalidityDiagnostics=FakeDiagnostics)
    runtime = SimpleNamespace(get_engine_validity=lambda plan: (FakeValidity.INVALID, bits))
    assert words in str(runner._invalidity(package, runtime, b""))


def test_the_real_package_names_what_is_no_engine() -> None:
    package = pytest.importorskip("tensorrt_rtx", reason="the package tensorrt-rtx is not installed")
    runtime = package.Runtime(package.Logger(package.Logger.INTERNAL_ERROR))
    assert runner._invalidity(package, runtime, bytes(1000)) == "it is damaged, or no TensorRT-RTX engine"
