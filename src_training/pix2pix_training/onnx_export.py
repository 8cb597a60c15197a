"""Generators and their stages as ONNX models that are the same function: any batch, any size.

Inputs and output of a stage are float32 in every precision, and have the names that `pix2pix_training.stages` gives
them; a generator with its intensity mapping takes and gives stored pixels. What cannot be said in a graph without
changing the function is refused.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from pix2pix_training.atomic import atomic_write
from pix2pix_training.errors import BackendError, EngineError, SettingsError
from pix2pix_training.export_form import ExportPrecision, export_form, fold_norms
from pix2pix_training.in_words import describe_inference
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import PERCENTILES, CategoryMapping, LinearMapping, Mapping, torch_dtype
from pix2pix_training.model_file import Model, model_header
from pix2pix_training.networks import Generator, noise_layers, norm_layers
from pix2pix_training.quantisation import quantise, require_int8, symmetric
from pix2pix_training.stages import StageSpec, StageTensor, reaches_the_bottom, stage_inputs, stage_output, whole_stage

log = logging.getLogger(__name__)

ModelPrecision = Literal["fp32", "fp16", "bf16", "int8"]

OPSET = 18
SOURCE, TARGET = "source", "target"
"""Input and output of a graph that has the intensity mapping in it."""

_EXAMPLE_BATCH = 2
_EXAMPLE_CELLS = (2, 3)
_SIZE_FREE_OPERATORS = frozenset(
    {"Add", "BatchNormalization", "Cast", "Concat", "Conv", "ConvTranspose", "DepthToSpace", "Gather"}
    | {"Identity", "InstanceNormalization", "LeakyRelu", "Mul", "Pad", "Relu", "Slice", "Tanh", "Unsqueeze"}
    | {"ArgMax", "Clip", "GatherND", "GreaterOrEqual", "Round", "Sub", "Transpose"}
    | {"QuantizeLinear", "DequantizeLinear"}
)


def export_model(
    model: Model,
    path: Path,
    *,
    precision: ModelPrecision = "fp32",
    inference: InferenceConfig | None = None,
    with_mapping: bool = False,
) -> None:
    """Write a model's generator as one ONNX file, atomically; see `onnx_of_model`."""
    content = onnx_of_model(model, precision=precision, inference=inference, with_mapping=with_mapping)
    with atomic_write(path) as partial:
        partial.write_bytes(content)


def onnx_of_model(
    model: Model,
    *,
    precision: ModelPrecision = "fp32",
    inference: InferenceConfig | None = None,
    with_mapping: bool = False,
) -> bytes:
    """A model's generator as a serialised ONNX model.

    Input ``features`` (N, source channels, H, W) and output ``output`` (N, target channels, H, W) are float32 in
    [-1, 1]; H and W must be multiples of the generator's stride. The mapping of stored pixel values is not part of the
    graph, its ``metadata_props`` state it (`onnx_metadata`). `inference` is how norms and dropout are meant; by default
    as the model says. A warning says what else of the model is left out.

    With precision int8 all convolutions take integers, but the first and the last where the model says so, in nodes
    QuantizeLinear and DequantizeLinear whose scales are powers of two and whose zero is 0, which TensorRT, OpenVINO and
    ONNX Runtime know. That is one bit less than this program's own int8 has, whose zero lies anywhere.

    `with_mapping` makes the mapping part of the graph: input ``source`` (N, image channels, H, W) and output ``target``
    are stored pixels, in the types of the model's source and target; categories come out as their values.

    Raises
    ------
    SettingsError
        The model draws noise, which a graph of fixed operations cannot repeat; or a mapping that is to be part of the
        graph is measured on each image, or takes categories in; or the model cannot compute in int8, or was not made
        ready for that.
    BackendError
        The packages of the extra ``onnx`` are missing.
    """
    further = {
        "its error map": model.error,
        "what tells images unlike those of training": model.novelty,
        "how it computes in int8": None if precision == "int8" else model.int8,
    }
    if left_out := [name for name, part in further.items() if part is not None]:
        log.warning("the export holds the generator alone, without %s; the model file keeps it", " and ".join(left_out))
    network = model.generator(inference)
    fold_norms(network)
    if precision == "int8":
        int8 = require_int8(model.generator_config, inference or model.inference, model.int8)
        quantise(network, symmetric(int8.roundings, model.generator_config))
        log.warning(
            "in int8 features of the export have one bit less than those of precision int8 here, as TensorRT knows no "
            "others, so results differ from float32 by up to twice the %.2f %% that the model says",
            100 * int8.deviation,
        )
        precision = "fp32"  # of what is not rounded
    if with_mapping:
        content = _export_mapped(network, model.source.mapping, model.target.mapping, precision)
    else:
        content = export_stage(network, whole_stage(model.generator_config), precision=precision)
    return with_metadata(content, onnx_metadata(model, inference, mapping_in_graph=with_mapping))


def _export_mapped(network: Generator, source: Mapping, target: Mapping, precision: ExportPrecision) -> bytes:
    if isinstance(source, CategoryMapping):
        raise SettingsError("a source of categories has no mapping for a graph; export without --with-mapping")
    if not source.low:
        raise SettingsError(
            "the model maps each image by its own percentiles, which a graph cannot find; export without --with-mapping"
        )
    _require_packages()
    spec = whole_stage(network.config)
    _require_same_function(network, spec)
    image = StageTensor(name=SOURCE, channels=source.image_channels, level=0)
    result = StageTensor(name=TARGET, channels=target.image_channels, level=0)
    example = torch.zeros(_example_shape(image, spec.top), dtype=torch_dtype(np.dtype(source.dtype)))
    return _exported(
        MappedGenerator(export_form(network, spec, precision), source, target), [example], [image], result, spec.top
    )


def export_stage(network: Generator, spec: StageSpec, *, precision: ExportPrecision = "fp32") -> bytes:
    """A stage of a network in eval mode as a serialised ONNX model.

    Inputs are those of `stage_inputs`, in this order, with batch and size open.

    Parameters
    ----------
    network : set to the function that is meant, see `set_inference_mode`; not changed. What enters and leaves a stage
        depends on whether its norms are folded (`fold_norms`), so all stages must be of the same network.
    precision : of the convolutions; norms are computed in float32, inputs and output are float32.

    Raises
    ------
    SettingsError
        The graph would not be the same function.
    BackendError
        The packages of the extra ``onnx`` are missing.
    """
    _require_packages()
    _require_same_function(network, spec)
    inputs = stage_inputs(network.config, spec)
    return _exported(
        _Float32Output(export_form(network, spec, precision)),
        [torch.zeros(_example_shape(tensor, spec.top)) for tensor in inputs],
        inputs,
        stage_output(network.config, spec),
        spec.top,
    )


def _exported(
    module: nn.Module, examples: Sequence[Tensor], inputs: Sequence[StageTensor], output: StageTensor, top: int
) -> bytes:
    """A module that takes `inputs`, of which `examples` are some, as a serialised ONNX model."""
    with torch.inference_mode(), _quiet_exporter():
        program = torch.onnx.export(
            module,
            tuple(examples),
            dynamo=True,
            input_names=[tensor.name for tensor in inputs],
            output_names=[output.name],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _require_size_free(model.graph)
    _open_sizes(model.graph, (*inputs, output), top)
    return cast(bytes, model.SerializeToString())


class MappedGenerator(nn.Module):
    """A generator from stored pixels (N, image channels, H, W) to stored pixels."""

    def __init__(self, network: nn.Module, source: Mapping, target: Mapping) -> None:
        super().__init__()
        self.network = network
        self.source = source
        self.target = target

    def forward(self, stored: Tensor) -> Tensor:
        return self.target.from_network(cast(Tensor, self.network(self.source.to_network(stored))))


class _Float32Output(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        return cast(Tensor, self.network(*inputs)).float()


def _example_shape(tensor: StageTensor, top: int) -> tuple[int, ...]:
    if tensor.level is None:
        return (2, tensor.channels)
    rows, columns = (cells << (top - tensor.level) for cells in _EXAMPLE_CELLS)
    return (_EXAMPLE_BATCH, tensor.channels, rows, columns)


def _open_sizes(graph: Any, tensors: tuple[StageTensor, ...], top: int) -> None:
    """Let batch and size vary, in place, and say what sizes must be multiples of.

    The graph was traced at one size; tracing it with symbolic sizes gives the same graph in four times the time.
    """
    del graph.value_info[:]
    values = {value.name: value for value in (*graph.input, *graph.output)}
    for tensor in tensors:
        if tensor.level is None:
            continue
        cell = 1 << (top - tensor.level)
        batch, _, height, width = values[tensor.name].type.tensor_type.shape.dim
        batch.dim_param = "batch"
        for dim, name in ((height, "rows"), (width, "columns")):
            dim.dim_param = name if cell == 1 else f"{cell}*{name}"


def _require_size_free(graph: Any) -> None:
    """Refuse a graph with an operator that may depend on the size at which it was traced."""
    import onnx

    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.dims == [1]}
    for node in graph.node:
        if node.op_type not in _SIZE_FREE_OPERATORS:
            raise EngineError(f"operator {node.op_type} of the exported network may depend on the size; not exported")
        if node.op_type == "Slice" and not _counts_from_the_end(int(constants[node.input[2]][0])):
            raise EngineError("a slice in the exported network depends on the size; not exported")


def _counts_from_the_end(end: int) -> bool:
    return end < 0 or end >= 2**31


def _require_same_function(network: Generator, spec: StageSpec) -> None:
    config = network.config
    seeded = any(noise.seed is not None for noise in noise_layers(network))
    if seeded and stage_inputs(config, replace(spec, noise=True)) != stage_inputs(config, spec):
        raise SettingsError(
            "the model draws dropout noise from the place of each pixel in the image, which a compiled graph cannot; "
            "set dropout to off, or use backend torch"
        )
    of_the_image = any(norm.statistics == "image" for norm in norm_layers(network))
    in_parts = not spec.given_norms and not reaches_the_bottom(spec)
    if (
        of_the_image
        and in_parts
        and stage_inputs(config, replace(spec, given_norms=True)) != stage_inputs(config, spec)
    ):
        raise SettingsError(
            "a stage that sees the image tile by tile cannot find the statistics of the image; they must be inputs"
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


def onnx_metadata(
    model: Model, inference: InferenceConfig | None = None, *, mapping_in_graph: bool = False
) -> dict[str, str]:
    """Entries for ``metadata_props``.

    ``pix2pix`` is the header of the model file as JSON; ``source_mapping`` and ``target_mapping`` say how stored pixels
    become the input and how the output becomes pixels, ``mapping`` whether the graph does that itself, ``inference``
    which function was exported, and ``license``, ``authors`` and ``citation`` are there where the model has them.
    """
    credits = {
        "authors": ", ".join(model.credits.authors),
        "license": model.credits.license or "",
        "citation": model.credits.citation or "",
    }
    return {
        "mapping": "part of the graph" if mapping_in_graph else "not part of the graph",
        "source_mapping": _source_formula(model.source.mapping),
        "target_mapping": _target_formula(model.target.mapping),
        "inference": describe_inference(inference or model.inference),
        **{name: text for name, text in credits.items() if text},
        "pix2pix": json.dumps(model_header(model)),
    }


def with_metadata(content: bytes, entries: dict[str, str]) -> bytes:
    """A serialised ONNX model with `entries` in its ``metadata_props``."""
    import onnx

    model = onnx.load_model_from_string(content)
    onnx.helper.set_model_props(model, entries)
    return bytes(model.SerializeToString())


def _source_formula(mapping: Mapping) -> str:
    if isinstance(mapping, CategoryMapping):
        return f"a channel per category, 1 where a pixel has its value and -1 elsewhere; {_values(mapping)}"
    formula = f"features = clip((pixel - low) * 2 / (high - low) - 1, -1, 1), pixels of type {mapping.dtype}"
    if not mapping.low:
        return f"{formula}; low and high are percentiles {PERCENTILES[0]} and {PERCENTILES[1]} of each channel"
    return f"{formula}; {_ends(mapping)}"


def _target_formula(mapping: Mapping) -> str:
    if isinstance(mapping, CategoryMapping):
        return f"pixel = value of the category whose channel is largest; {_values(mapping)}"
    rounding = "" if mapping.dtype.startswith("float") else ", rounded"
    formula = f"pixel = (clip(output, -1, 1) + 1) * (high - low) / 2 + low{rounding}, of type {mapping.dtype}"
    return f"{formula}; {_ends(mapping)}"


def _ends(mapping: LinearMapping) -> str:
    return f"per channel: low = {list(mapping.low)}, high = {list(mapping.high)}"


def _values(mapping: CategoryMapping) -> str:
    return f"values = {[list(value) for value in mapping.values]}, type {mapping.dtype}"
