"""Stages compiled by OpenVINO for the CPU."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_pix2pix.translation.backends.cache import EngineCache, model_key
from napari_pix2pix.translation.backends.stage_runner import TorchRunner, UnequalEngineError, require_parity
from pix2pix_training.errors import BackendError, EngineError
from pix2pix_training.networks import Generator
from pix2pix_training.quantisation import STEPS, QuantisedConvolution
from pix2pix_training.stages import (
    ACTIVATED,
    JOINED,
    Stage,
    StageSpec,
    StageTensor,
    activated_inputs,
    around_the_bottom,
    covered_size,
    reaches_the_bottom,
    stage_inputs,
    stage_output,
    weight_count,
)

logger = logging.getLogger(__name__)

OpenVinoPrecision = Literal["fp32", "bf16", "int8"]

_HINTS: dict[OpenVinoPrecision, str] = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""What is not rounded is computed in float32 beside int8."""
_PROOF_CELLS: dict[OpenVinoPrecision, tuple[tuple[int, int], ...]] = {
    "fp32": ((4, 4),),
    "bf16": ((4, 4),),
    "int8": ((4, 4), (3, 5), (6, 2)),
}
"""A new model of any size is compared with PyTorch on a corner of the first tile: rows and columns of cells of the
stage's coarsest level. In int8 OpenVINO was seen to be wrong at some sizes alone."""
_RANGES = range(1, 5)
"""Inputs of a rounding: its ends before and after."""
_REVISION = 8
"""To be raised where the same key would stand for another model."""
_NARROW_LEVELS = 3
"""So many of the deepest ones run in PyTorch where the deepest is too narrow for OpenVINO."""
QUICKLY_COMPILED_WEIGHTS = 1 << 22
"""Stages of at most so many weights are compiled for the windows of full tiles, besides once for any size."""

Shapes = tuple[tuple[int, ...], ...]


def unavailable_reason() -> str | None:
    """Why this backend cannot run here, in one line; None where it can."""
    if find_spec("openvino") is None:
        return 'OpenVINO is not installed; pip install "napari-pix2pix[openvino]", or choose another backend'
    return None


class OpenVinoRunner:
    """Runs each stage as an OpenVINO model, compiled on its first call and kept in the user's cache.

    A model of one size is faster than one of any size, by a seventh. Square windows of shallow stages, those of full
    tiles, get one; the rest depends on the image, or takes too long to compile for that. What is run thus depends on
    nothing but the window, so that work that is resumed ends in the same numbers.

    A new model is compared with PyTorch on a part of that call's inputs, as it comes back from being stored. One that
    is found in the cache was, and is not again: its key names weights, versions, processor and precision, and its file
    is sealed.

    In int8 OpenVINO gives wrong numbers where the coarsest level of a window is one cell wide: convolutions of more
    than four such rows, and transposed ones of a single cell. PyTorch runs these levels, on the same integers, and
    stages of which OpenVINO was found to give other numbers. Some of these were of any size, and right for one size; so
    in int8 all shallow stages are compiled for the sizes of their windows.

    Parameters
    ----------
    network : float32 on the CPU, in eval mode; for int8 with quantised convolutions.
    precision : of the arithmetic; inputs and outputs are float32, or uint8 as stages say.

    Raises
    ------
    BackendError
        OpenVINO is missing or cannot be loaded.
    """

    name = "openvino"
    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, network: Generator, precision: OpenVinoPrecision, cache: EngineCache | None = None) -> None:
        reason = unavailable_reason()
        if reason is not None:
            raise BackendError(reason)
        try:
            self._openvino = import_module("openvino")
        except (ImportError, OSError) as error:
            raise BackendError(f"OpenVINO is installed but cannot be loaded ({error}); reinstall it") from error
        self._core = self._openvino.Core()
        self._network = network
        self.precision = precision
        self._cache = cache or EngineCache()
        self._model_key = model_key(network)
        self._torch = TorchRunner(network)
        self._given_up: set[tuple[StageSpec, Shapes | None]] = set()
        self._requests: dict[tuple[StageSpec, Shapes | None], Any] = {}
        self._weights: dict[StageSpec, int] = {}
        self._threads = torch.get_num_threads()

    def run(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        """The stage's output.

        Raises
        ------
        EngineError
            The stage cannot be compiled, or its results are not those of PyTorch.
        """
        if self.precision == "int8" and covered_size(self._network.config, spec, inputs)[1] >> spec.top == 1:
            return self._with_narrow_depth(spec, inputs)
        shapes = self._fixed_shapes(spec, inputs)
        if (spec, shapes) in self._given_up:
            return self._torch.run(spec, inputs)
        request = self._requests.get((spec, shapes))
        if request is None:
            self._forget_sizes(spec)
            try:
                request = self._compiled(spec, shapes, inputs).create_infer_request()
            except UnequalEngineError as error:
                if self.precision != "int8":
                    raise
                logger.warning("OpenVINO is wrong in a part of this network (%s); PyTorch computes it, slower", error)
                self._given_up.add((spec, shapes))
                return self._torch.run(spec, inputs)
            self._requests[spec, shapes] = request
        return self._inferred(request, spec, inputs)

    def _with_narrow_depth(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        """The output of a stage whose coarsest level is one cell wide, with that level and those near it in PyTorch."""
        parts = around_the_bottom(self._network.config, spec, spec.top - _NARROW_LEVELS)
        if parts is None:
            return self._torch.run(spec, inputs)
        encoding, deep, decoding = parts
        encoded = self.run(encoding, inputs)
        channels = self._network.config.feature_channels(encoding.level)
        up = self._torch.run(deep, {"features": encoded[:, :channels]})
        return self.run(decoding, {**inputs, "encoded": encoded[:, -channels:], "up": up})

    def _fixed_shapes(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Shapes | None:
        """Shapes (N, h, w, C) that the stage is to be compiled for; None for any."""
        if spec not in self._weights:
            self._weights[spec] = weight_count(self._network, spec)
        if reaches_the_bottom(spec) or self._weights[spec] > QUICKLY_COMPILED_WEIGHTS:
            return None
        height, width = covered_size(self._network.config, spec, inputs)
        if height != width and self.precision != "int8":
            return None
        return tuple(
            (2, t.channels) if t.level is None else (_batch(inputs), height >> t.level, width >> t.level, t.channels)
            for t in activated_inputs(self._network, spec)
        )

    def _forget_sizes(self, spec: StageSpec) -> None:
        """Free the memory of a stage's models for other sizes, those of an earlier plan."""
        for known in [known for known in self._requests if known[0] == spec and known[1] is not None]:
            del self._requests[known]

    def _compiled(self, spec: StageSpec, shapes: Shapes | None, inputs: Mapping[str, Tensor]) -> Any:
        def build() -> bytes:
            model = self._core.compile_model(self._converted(spec, shapes), "CPU", self._settings)
            self._require_integers(model, spec)
            content = cast(bytes, model.export_model().getvalue())
            request = self._imported(content).create_infer_request()
            corners = _PROOF_CELLS[self.precision]
            samples = [inputs] if shapes else [_corner(self._network, spec, inputs, cells) for cells in corners]
            require_parity(
                self._network, spec, lambda tensors: self._inferred(request, spec, tensors), samples, self.precision
            )
            return content

        return self._imported(self._cache.get_or_build(self._key(spec, shapes), build))

    def _imported(self, content: bytes) -> Any:
        try:
            return self._core.import_model(content, "CPU", self._settings)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot load its own model: {_first_line(error)}; use backend torch") from error

    def _key(self, spec: StageSpec, shapes: Shapes | None) -> dict[str, Any]:
        """Everything that a compiled model depends on."""
        return {
            "backend": self.name,
            "revision": _REVISION,
            "package": self._openvino.__version__,
            "torch": torch.__version__,
            "processor": self._core.get_property("CPU", "FULL_DEVICE_NAME"),
            **self._model_key,
            "stage": asdict(spec),
            "shapes": None if shapes is None else [list(shape) for shape in shapes],
            "precision": self.precision,
        }

    @property
    def _settings(self) -> dict[str, Any]:
        """OpenVINO would choose bfloat16 by itself where the processor has it."""
        return {
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self._threads,
        }

    def _converted(self, spec: StageSpec, shapes: Shapes | None = None) -> Any:
        """The stage as an OpenVINO model of given sizes, or of any; traced at a small one."""
        tensors = activated_inputs(self._network, spec)
        examples = tuple(torch.zeros(_example_shape(tensor, spec), dtype=_dtype(tensor)) for tensor in tensors)
        stage = _ChannelsLast(Stage(self._network, spec, activated=True)).eval()
        try:
            with torch.inference_mode(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = _from_torch(stage, examples)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot convert this network: {_first_line(error)}; use torch") from error
        for parameter, shape in zip(model.inputs, shapes or _any_shapes(tensors), strict=True):
            parameter.get_node().set_partial_shape(self._openvino.PartialShape(list(shape)))
        if self.precision == "int8":
            self._fix_ranges(model)
        model.validate_nodes_and_infer_types()
        return model

    def _fix_ranges(self, model: Any) -> None:
        """Make constants of the ranges of roundings, without which OpenVINO computes in float32 after all."""
        operations = import_module("openvino.opset13")
        for node in model.get_ordered_ops():
            if node.get_type_name() != "FakeQuantize":
                continue
            ranges = self._openvino.Model([operations.result(node.input_value(n)) for n in _RANGES], [])
            values = self._core.compile_model(ranges, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])
            for number, value in zip(_RANGES, values.values(), strict=True):
                node.input(number).replace_source_output(operations.constant(value.copy()).output(0))

    def _require_integers(self, compiled: Any, spec: StageSpec) -> None:
        """Raise `EngineError` where a convolution that is rounded to 8 bits would not be computed in them."""
        wanted = [m for m in Stage(self._network, spec).modules() if isinstance(m, QuantisedConvolution)]
        count = sum(conv.rounding.largest == STEPS for conv in wanted)
        infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
        found = [
            info["runtimePrecision"].astype(str)
            for info in infos
            if info["layerType"].astype(str) in ("Convolution", "Deconvolution")
        ]
        if sum(precision in ("i8", "u8") for precision in found) < count:
            raise EngineError(
                f"OpenVINO computes {', '.join(found)} where int8 is wanted on this processor; choose precision fp32"
            )

    def _inferred(self, request: Any, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        """Run a request on (N, C, h, w); the result lies in memory of its own, in channels_last order."""
        names = [tensor.name for tensor in activated_inputs(self._network, spec)]
        arrays = [_input(name, inputs).numpy() for name in names]  # alive until it has run
        for number, array in enumerate(arrays):
            request.set_input_tensor(number, self._openvino.Tensor(array, shared_memory=True))
        output = _empty_output(self._network, spec, inputs)
        request.set_output_tensor(self._openvino.Tensor(output.numpy(), shared_memory=True))
        request.infer()
        return output.permute(0, 3, 1, 2)


def _from_torch(stage: nn.Module, examples: tuple[Tensor, ...]) -> Any:
    """What `openvino.convert_model` does, without its reports to the makers of OpenVINO."""
    frontend = import_module("openvino.frontend").FrontEndManager().load_by_framework("pytorch")
    decoder = import_module("openvino.frontend.pytorch.ts_decoder").TorchScriptPythonDecoder(
        stage, example_input=examples
    )
    return frontend.convert(frontend.load(decoder))


class _ChannelsLast(nn.Module):
    """A stage on tensors (N, h, w, C), the order in which planes are stored and the processor computes."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, *inputs: Tensor) -> Tensor:
        result: Tensor = self.stage(*(x.permute(0, 3, 1, 2) if x.ndim == 4 else x for x in inputs))
        return result.permute(0, 2, 3, 1)


def _input(name: str, inputs: Mapping[str, Tensor]) -> Tensor:
    """An input of a model, (N, h, w, C) or (2, C), without gaps in memory.

    The activations of a stage's inputs are done in the copy that is made of the windows of planes anyway; in a model
    they would be passes of their own, and keep it from taking its inputs in their order.
    """
    if name == JOINED:
        encoded, up = _rows_first(inputs["encoded"]), _rows_first(inputs["up"])
        return torch.cat([encoded, up], 3) if encoded.dtype is torch.uint8 else _joined(encoded, up)
    if name == ACTIVATED:
        return F.leaky_relu(_rows_first(inputs["features"]), 0.2).contiguous()
    x = _rows_first(inputs[name]) if inputs[name].ndim == 4 else inputs[name]
    return x.contiguous() if x.dtype is torch.uint8 else x.float().contiguous()


def _rows_first(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _joined(encoded: Tensor, up: Tensor) -> Tensor:
    channels = encoded.shape[3], up.shape[3]
    joined = torch.empty(*encoded.shape[:3], sum(channels))
    rooms = joined.tensor_split((channels[0],), 3)
    for part, room in zip((encoded, up), rooms, strict=True):
        torch.clamp_min(part, 0, out=room)
    return joined


def _any_shapes(tensors: tuple[StageTensor, ...]) -> Shapes:
    return tuple((2, t.channels) if t.level is None else (-1, -1, -1, t.channels) for t in tensors)


def _example_shape(tensor: StageTensor, spec: StageSpec) -> tuple[int, ...]:
    """Of two by three cells of the coarsest level, (N, h, w, C)."""
    if tensor.level is None:
        return (2, tensor.channels)
    cell = 1 << (spec.top - tensor.level)
    return (1, 2 * cell, 3 * cell, tensor.channels)


def _empty_output(network: Generator, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
    """Room for the output, (N, h, w, C)."""
    result = stage_output(network.config, spec)
    assert result.level is not None
    height, width = covered_size(network.config, spec, inputs)
    size = height >> result.level, width >> result.level
    return torch.empty(_batch(inputs), *size, result.channels, dtype=_dtype(result))


def _dtype(tensor: StageTensor) -> torch.dtype:
    return torch.uint8 if tensor.integers else torch.float32


def _batch(inputs: Mapping[str, Tensor]) -> int:
    return max(x.shape[0] for x in inputs.values() if x.ndim == 4)


def _corner(
    network: Generator, spec: StageSpec, inputs: Mapping[str, Tensor], cells: tuple[int, int]
) -> dict[str, Tensor]:
    corner = {}
    for tensor in stage_inputs(network.config, spec):
        x = inputs[tensor.name]
        if tensor.level is not None:
            height, width = (count << (spec.top - tensor.level) for count in cells)
            x = x[..., :height, :width]
        corner[tensor.name] = x
    return corner


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
