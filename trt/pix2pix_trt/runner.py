"""Running a TensorRT or TensorRT-RTX engine on tensors that lie on the GPU already.

Never executed by us on a GPU yet: written to the documented interface, checked against a stand-in for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from pix2pix_training.errors import EngineError, EngineFileError
from pix2pix_trt.engine import Shape, ShapeRange, build_log
from pix2pix_trt.flavours import Flavour, load, product_name, require

_DTYPES = {"FLOAT": torch.float32, "HALF": torch.float16, "BF16": torch.bfloat16}


class EngineMemoryError(EngineError):
    """The GPU lacks the memory for an engine; smaller tiles may fit."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A serialised engine, ready to be loaded onto a GPU."""

    flavour: Flavour
    plan: bytes


@dataclass(frozen=True, kw_only=True)
class _Input:
    dtype: torch.dtype
    shapes: ShapeRange


class EngineRunner:
    """An engine loaded onto one GPU. Not for several threads at a time.

    As context manager, or with `close`, it gives back the GPU memory of weights and activations.

    Parameters
    ----------
    device : a CUDA device; the current one by default.

    Raises
    ------
    BackendError
        The package, the driver or the GPU is missing.
    EngineFileError
        The engine is for another GPU or another version of the package, or damaged.
    EngineMemoryError
        The GPU lacks the memory for it.
    """

    def __init__(self, engine: Engine, device: torch.device | None = None) -> None:
        require(engine.flavour)
        self.flavour = engine.flavour
        self.device = device or torch.device("cuda", torch.cuda.current_device())
        self._trt = load(engine.flavour)
        self._log = build_log(self._trt)
        with torch.cuda.device(self.device):
            self._runtime = self._trt.Runtime(self._log)
            self._engine = self._deserialized(engine.plan)
            self._context = self.new_context()
            self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self._inputs, self._outputs = self._tensors()

    def run(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The engine's output for `inputs`, by name.

        Inputs are read where they lie, without a copy if they are contiguous. The work is queued behind that of the
        current stream, which waits for it in turn, so the result can be used like that of any PyTorch function.

        Raises
        ------
        EngineError
            An input is missing, has another type or a size outside of the profile, or the engine failed.
        """
        with torch.cuda.device(self.device):
            current = torch.cuda.current_stream(self.device)
            held, output = self.bind(self._context, inputs)
            self._stream.wait_stream(current)
            self.enqueue(self._context, self._stream)
            current.wait_stream(self._stream)
            del held  # until here, so that the memory is not given to someone else
            return output

    def takes(self, inputs: Mapping[str, Tensor]) -> bool:
        """Whether the shapes of `inputs` lie within the profile."""
        return all(_within(tuple(tensor.shape), self._inputs[name].shapes) for name, tensor in inputs.items())

    def fixed(self, shapes: Mapping[str, Shape]) -> FixedShapeRunner:
        """A runner for one shape of each input, launched as a CUDA graph; it belongs to this runner."""
        return FixedShapeRunner(self, shapes)

    def close(self) -> None:
        """Give back the GPU memory; the runner cannot be used afterwards."""
        if self._context is None:
            return
        with suppress(RuntimeError):  # a failed GPU must not hide the error that brought us here
            self._stream.synchronize()
        self._context = None
        self._engine = None
        self._runtime = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def input_shapes(self) -> dict[str, ShapeRange]:
        """Shapes that the engine accepts, by input."""
        return {name: facts.shapes for name, facts in self._inputs.items()}

    @property
    def input_dtypes(self) -> dict[str, torch.dtype]:
        return {name: facts.dtype for name, facts in self._inputs.items()}

    @property
    def stream(self) -> torch.cuda.Stream:
        return self._stream

    def new_context(self, *, graphs: bool = False) -> Any:
        """An execution context with activation memory of its own; TensorRT-RTX captures CUDA graphs by itself."""
        if graphs and self.flavour == "tensorrt-rtx":
            config = self._engine.create_runtime_config()
            config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            strategies = self._trt.DynamicShapesKernelSpecializationStrategy
            config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
            context = self._engine.create_execution_context(config)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            reason = f" ({self._log.last_error})" if self._log.last_error else ""
            raise EngineMemoryError(f"the GPU lacks the memory for the activations of an engine{reason}")
        return context

    def bind(self, context: Any, inputs: Mapping[str, Tensor]) -> tuple[list[Tensor], Tensor]:
        """Point a context at `inputs` and at a new output; returns the tensors that must live until it has run."""
        if set(inputs) != set(self._inputs):
            raise EngineError(f"the engine has inputs {sorted(self._inputs)}, given are {sorted(inputs)}")
        held = []
        for name, tensor in inputs.items():
            tensor = self._checked(name, tensor)
            held.append(tensor)
            if not context.set_input_shape(name, tuple(tensor.shape)):
                raise self._error(f"input {name!r} cannot have shape {tuple(tensor.shape)}")
            if not context.set_tensor_address(name, tensor.data_ptr()):
                raise self._error(f"the memory of input {name!r} was not accepted")
        missing = context.infer_shapes()
        if missing:
            raise self._error(f"the sizes of {sorted(missing)} do not follow from those of the inputs")
        ((name, dtype),) = self._outputs.items()
        output = torch.empty(tuple(context.get_tensor_shape(name)), dtype=dtype, device=self.device)
        if not context.set_tensor_address(name, output.data_ptr()):
            raise self._error(f"the memory of output {name!r} was not accepted")
        return held, output

    def enqueue(self, context: Any, stream: torch.cuda.Stream) -> None:
        if not context.execute_async_v3(stream.cuda_stream):
            raise self._error("running it failed")

    def _checked(self, name: str, tensor: Tensor) -> Tensor:
        expected = self._inputs[name]
        if tensor.dtype is not expected.dtype or tensor.device != self.device:
            raise EngineError(
                f"input {name!r} is {tensor.dtype} on {tensor.device}, "
                f"the engine needs {expected.dtype} on {self.device}"
            )
        shape, shapes = tuple(tensor.shape), expected.shapes
        if not _within(shape, shapes):
            raise EngineError(
                f"input {name!r} has shape {shape}, the engine was compiled for {shapes.minimum} to {shapes.maximum}; "
                "compile it for this tile size"
            )
        return tensor.contiguous()

    def _deserialized(self, plan: bytes) -> Any:
        problem = _invalidity(self._trt, self._runtime, plan)
        if problem is not None:
            raise EngineFileError(f"the engine cannot be used here: {problem}; compile the model again on this machine")
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineFileError(
                f"{product_name(self.flavour)} {self._trt.__version__} cannot load the engine "
                f"({self._log.last_error or 'no reason given'}); compile the model again on this machine"
            )
        return engine

    def _tensors(self) -> tuple[dict[str, _Input], dict[str, torch.dtype]]:
        inputs: dict[str, _Input] = {}
        outputs: dict[str, torch.dtype] = {}
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            dtype = _DTYPES[self._engine.get_tensor_dtype(name).name]
            if self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT:
                low, best, high = (tuple(s) for s in self._engine.get_tensor_profile_shape(name, 0))
                inputs[name] = _Input(dtype=dtype, shapes=ShapeRange(minimum=low, optimum=best, maximum=high))
            else:
                outputs[name] = dtype
        if len(outputs) != 1:
            raise EngineFileError(f"the engine has {len(outputs)} outputs, one is expected; compile the model again")
        return inputs, outputs

    def _error(self, what: str) -> EngineError:
        reason = f" ({self._log.last_error})" if self._log.last_error else ""
        return EngineError(f"the {product_name(self.flavour)} engine: {what}{reason}")


class FixedShapeRunner:
    """An engine for inputs of one shape, replayed as a CUDA graph, which spares the launches of its kernels.

    Has buffers of its own that inputs are copied to; results are copies, so they may be kept. TensorRT-RTX captures and
    replays the graph itself; with TensorRT it is captured here.
    """

    def __init__(self, runner: EngineRunner, shapes: Mapping[str, Shape]) -> None:
        self._runner = runner
        device = runner.device
        with torch.cuda.device(device):
            self._context = runner.new_context(graphs=True)
            self._inputs = {
                name: torch.zeros(shape, dtype=runner.input_dtypes[name], device=device)
                for name, shape in shapes.items()
            }
            _, self._output = runner.bind(self._context, self._inputs)
            runner.stream.wait_stream(torch.cuda.current_stream(device))
            runner.enqueue(self._context, runner.stream)  # allocates and compiles what must not happen in a capture
            runner.stream.synchronize()
            self._graph = self._captured() if runner.flavour == "tensorrt" else None

    def run(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """As `EngineRunner.run`, for inputs of the fixed shapes."""
        if {name: t.shape for name, t in inputs.items()} != {name: t.shape for name, t in self._inputs.items()}:
            raise EngineError(f"this runner is for shapes { ({n: tuple(t.shape) for n, t in self._inputs.items()}) }")
        runner = self._runner
        with torch.cuda.device(runner.device):
            current = torch.cuda.current_stream(runner.device)
            result = torch.empty_like(self._output)
            runner.stream.wait_stream(current)
            # All on one stream: the buffers may still be in use by a call from another one.
            with torch.cuda.stream(runner.stream):
                for name, tensor in inputs.items():
                    self._inputs[name].copy_(tensor, non_blocking=True)
                if self._graph is None:
                    runner.enqueue(self._context, runner.stream)
                else:
                    self._graph.replay()
                result.copy_(self._output, non_blocking=True)
            current.wait_stream(runner.stream)
            return result

    def close(self) -> None:
        """Give back graph, context and buffers."""
        self._runner.stream.synchronize()
        self._graph = None
        self._context = None
        self._inputs.clear()
        del self._output

    def _captured(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # Other threads (reading ahead) may allocate meanwhile, so only this one is watched.
        with torch.cuda.graph(graph, stream=self._runner.stream, capture_error_mode="thread_local"):
            self._runner.enqueue(self._context, self._runner.stream)
        return graph


def _within(shape: Shape, shapes: ShapeRange) -> bool:
    return len(shape) == len(shapes.minimum) and all(
        low <= n <= high for low, n, high in zip(shapes.minimum, shape, shapes.maximum, strict=True)
    )


def _invalidity(trt: Any, runtime: Any, plan: bytes) -> str | None:
    """Why an engine cannot run here, where the package can tell before loading it (TensorRT-RTX)."""
    if not hasattr(runtime, "get_engine_validity"):
        return None
    validity, diagnostics = runtime.get_engine_validity(plan)
    if validity != trt.EngineValidity.INVALID:
        return None
    words = {
        "VERSION_MISMATCH": "it is of another version of TensorRT-RTX",
        "UNSUPPORTED_CC": "it was compiled for other GPU architectures",
        "OLD_CUDA_DRIVER": "the NVIDIA driver is too old for it",
        "OLD_CUDA_RUNTIME": "the CUDA runtime is too old for it",
        "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory",
        "MALFORMED_ENGINE": "it is damaged, or no TensorRT-RTX engine",
        "CUDA_ERROR": "CUDA is not installed correctly",
    }
    flags = trt.EngineInvalidityDiagnostics.__members__
    reasons = [text for name, text in words.items() if name in flags and int(flags[name]) & int(diagnostics)]
    return " and ".join(reasons) or "TensorRT-RTX gives no reason"
