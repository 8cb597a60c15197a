"""Generators and their stages as ONNX models that are the same function: any batch, any size, batch norm folded.

Inputs and output are float32 in every precision. What cannot be said in a graph without changing the function is
refused: noise that depends on a pixel's place in the image.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from pix2pix_training.atomic import atomic_write
from pix2pix_training.config import InferenceConfig
from pix2pix_training.errors import BackendError, EngineError, SettingsError
from pix2pix_training.export_form import ExportPrecision, export_form
from pix2pix_training.model_file import Model
from pix2pix_training.networks import noise_layers

OPSET = 18
IMAGE, RESULT = "image", "result"
"""Names of input and output of a whole generator."""

_EXAMPLE_CELLS = (2, 3)
_SIZE_FREE_OPERATORS = frozenset(
    {"Add", "BatchNormalization", "Cast", "Concat", "Conv", "ConvTranspose", "DepthToSpace", "Identity"}
    | {"InstanceNormalization", "LeakyRelu", "Mul", "Pad", "Relu", "Slice", "Tanh"}
)


@dataclass(frozen=True, kw_only=True)
class FeatureInput:
    """An input of shape (N, channels, cell * rows, cell * columns), with N, rows and columns common to all inputs."""

    name: str
    channels: int
    cell: int


def export_model(
    model: Model, path: Path, *, precision: ExportPrecision = "fp32", inference: InferenceConfig | None = None
) -> None:
    """Write a model's generator as one ONNX file, atomically.

    Input ``image`` (N, source channels, H, W) and output ``result`` (N, target channels, H, W) are float32 in [-1, 1];
    H and W must be multiples of the generator's stride. The mapping of stored pixel values is not part of the graph.

    Raises
    ------
    SettingsError
        The model draws noise, which a graph of fixed operations cannot repeat.
    BackendError
        The packages of the extra ``onnx`` are missing.
    """
    content = whole_generator(model, precision=precision, inference=inference)
    with atomic_write(path) as partial:
        partial.write_bytes(content)


def whole_generator(
    model: Model, *, precision: ExportPrecision = "fp32", inference: InferenceConfig | None = None
) -> bytes:
    """A model's generator as a serialised ONNX model; see `export_model`."""
    config = model.generator_config
    image = FeatureInput(name=IMAGE, channels=config.source_channels, cell=config.stride)
    return export_onnx(model.generator(inference), [image], RESULT, precision=precision)


def export_onnx(
    network: nn.Module, inputs: Sequence[FeatureInput], output: str, *, precision: ExportPrecision
) -> bytes:
    """A network in eval mode as a serialised ONNX model.

    Parameters
    ----------
    network : takes `inputs` in order, float32; gives one tensor. It is not changed.
    precision : of the convolutions; norms are computed in float32, inputs and output are float32.

    Raises
    ------
    SettingsError
        The graph would not be the same function.
    BackendError
        The packages of the extra ``onnx`` are missing.
    """
    _require_packages()
    _require_exportable(network)
    exported = _Float32Output(export_form(network, precision))
    rows, columns = _EXAMPLE_CELLS
    examples = tuple(torch.zeros(2, i.channels, i.cell * rows, i.cell * columns) for i in inputs)
    with torch.inference_mode(), _quiet_exporter():
        program = torch.onnx.export(
            exported,
            examples,
            dynamo=True,
            input_names=[i.name for i in inputs],
            output_names=[output],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    _open_sizes(graph)
    return cast(bytes, graph.SerializeToString())


class _Float32Output(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        return cast(Tensor, self.network(*inputs)).float()


def _open_sizes(model: Any) -> None:
    """Let batch and size vary, in place: the graph was traced at one size, and no operator in it depends on that.

    Tracing with symbolic sizes gives the same graph, and takes four times as long.
    """
    for node in model.graph.node:
        if node.op_type not in _SIZE_FREE_OPERATORS:
            raise EngineError(f"operator {node.op_type} of the exported network may depend on the size; not exported")
    _require_ends_from_the_end(model.graph)
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        batch, _, height, width = value.type.tensor_type.shape.dim
        batch.dim_param = "batch"
        for dim, name, cells in zip((height, width), ("rows", "columns"), _EXAMPLE_CELLS, strict=True):
            cell = dim.dim_value // cells
            dim.dim_param = name if cell == 1 else f"{cell}*{name}"


def _require_ends_from_the_end(graph: Any) -> None:
    """A slice must say where it ends by counting from the end."""
    import onnx

    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Slice":
            ends = onnx.numpy_helper.to_array(constants[node.input[2]])
            if ((ends >= 0) & (ends < 2**31)).any():
                raise EngineError("a slice in the exported network depends on the size; not exported")


def _require_exportable(network: nn.Module) -> None:
    if any(noise.seed is not None for noise in noise_layers(network)):
        raise SettingsError(
            "the model draws dropout noise from the place of each pixel in the image, which a compiled graph cannot; "
            "set dropout to off, or use backend torch"
        )


def _require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise BackendError(
            f'exporting to ONNX needs the package {error.name}; pip install "napari-pix2pix[onnx]"'
        ) from error


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep remarks of PyTorch's exporter about itself from users."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
