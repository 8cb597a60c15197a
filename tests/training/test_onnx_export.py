"""ONNX models run by ONNX Runtime give the numbers of PyTorch."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pix2pix_training.array_source import AnyArray
from pix2pix_training.choices import Architecture, Norm, Statistics
from pix2pix_training.error_network import ErrorNetwork, ErrorTraits
from pix2pix_training.errors import BackendError, SettingsError
from pix2pix_training.export_form import ExportPrecision, fold_norms
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import CategoryMapping, LinearMapping, Mapping, dtype_mapping, image_mapping
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import set_inference_mode
from pix2pix_training.onnx_export import MappedGenerator, export_model, export_stage, onnx_of_model
from pix2pix_training.stages import Stage, StageSpec, stage_inputs, whole_stage
from tests.training.test_export_form import trained

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def model(inference: InferenceConfig | None = None, **changes: Any) -> Model:
    config = GeneratorConfig(**{"source_channels": 2, "base_width": 4, "depth": 3, **changes})
    network = trained(config)
    return Model(
        generator_config=config,
        weights=network.state_dict(),
        source=ImageDescription(mapping=dtype_mapping(np.dtype("uint8"), 2)),
        target=ImageDescription(mapping=dtype_mapping(np.dtype("uint8"), 3)),
        inference=inference or InferenceConfig(statistics="image"),
    )


def test_what_is_left_out_is_said(caplog: pytest.LogCaptureFixture) -> None:
    plain = model(depth=2)
    onnx_of_model(plain)
    caplog.clear()
    traits = ErrorTraits(config=GeneratorConfig(), coverage=0.9, factors=(1.0,) * 3, images=3)
    onnx_of_model(replace(plain, error=ErrorNetwork(traits=traits, weights={})))
    said = [record.getMessage() for record in caplog.records if record.name.startswith("pix2pix_training")]
    assert said == ["the export holds the generator alone, without its error map; the model file keeps it"]


def whole(model: Model, precision: ExportPrecision = "fp32") -> bytes:
    network = model.generator()
    fold_norms(network)
    return export_stage(network, whole_stage(model.generator_config), precision=precision)


def run(content: bytes, *inputs: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    (result,) = session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})
    return torch.from_numpy(result)


def relative_error(result: torch.Tensor, expected: torch.Tensor) -> float:
    assert result.shape == expected.shape
    return ((result - expected).abs().max() / expected.abs().max()).item()


def images(config: GeneratorConfig) -> Sequence[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    cells = [(1, 2, 2), (3, 4, 3)]
    return [torch.rand(n, 2, config.stride * h, config.stride * w, generator=generator) * 2 - 1 for n, h, w in cells]


@torch.inference_mode()
@pytest.mark.parametrize(
    "changes, statistics",
    [
        ({}, "running"),
        ({"depth": 5}, "image"),
        ({"norm": "instance"}, "image"),
        ({"norm": "batch-renorm", "decoder": "resize"}, "running"),
        ({"decoder": "pixel-shuffle"}, "running"),
        ({"architecture": "encoder-decoder", "norm": "instance"}, "tile"),
        ({"architecture": "resnet", "blocks": 2, "output": "linear"}, "running"),
        ({"architecture": "resnet", "blocks": 1}, "image"),
    ],
)
def test_onnx_runtime_gives_the_numbers_of_pytorch(changes: dict[str, Any], statistics: Statistics) -> None:
    subject = model(InferenceConfig(statistics=statistics), **changes)
    network = subject.generator()
    content = whole(subject)
    for x in images(subject.generator_config):
        assert relative_error(run(content, x), network(x)) < 1e-5


@torch.inference_mode()
def test_half_precision_has_float32_ends_and_norms() -> None:
    subject = model()
    content = whole(subject, "fp16")
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(content)).graph
    types = {v.name: v.type.tensor_type.elem_type for v in [*graph.value_info, *graph.input, *graph.output]}
    assert types["features"] == types["output"] == onnx.TensorProto.FLOAT
    operators = {kind: [n for n in graph.node if n.op_type == kind] for kind in ("Conv", "InstanceNormalization")}
    assert {types[n.output[0]] for n in operators["Conv"]} == {onnx.TensorProto.FLOAT16}
    assert {types[n.output[0]] for n in operators["InstanceNormalization"]} == {onnx.TensorProto.FLOAT}
    for x in images(subject.generator_config):
        assert relative_error(run(content, x), subject.generator()(x)) < 1e-2


def test_bfloat16_has_no_transposed_convolution() -> None:
    graph = onnx.load_from_string(whole(model(InferenceConfig()), "bf16")).graph
    operators = Counter(node.op_type for node in graph.node)
    assert operators["DepthToSpace"] == 3
    assert not {"ConvTranspose", "BatchNormalization"} & set(operators)
    modes = {a.s for n in graph.node if n.op_type == "DepthToSpace" for a in n.attribute if a.name == "mode"}
    assert modes == {b"CRD"}


def test_sizes_are_open_and_named_by_what_they_must_be_multiples_of(tmp_path: Path) -> None:
    export_model(model(InferenceConfig()), tmp_path / "model.onnx")
    exported = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(exported, full_check=True)
    sizes = [d.dim_param or d.dim_value for d in exported.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", 2, "8*rows", "8*columns"]
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def stages(config: GeneratorConfig, **changes: Any) -> list[StageSpec]:
    """Those of the exact scheme for a split at level 2, and a second one at level 3 below it."""
    depth = config.depth
    return [
        StageSpec(gives="encoded", level=2, top=2, start=0, **changes),
        StageSpec(gives="encoded", level=3, top=3, start=2, **changes),
        StageSpec(gives="up", level=2, top=depth, start=2, **changes),
        StageSpec(gives="up", level=0, top=2, start=0, encoded=True, up=True, **changes),
        StageSpec(gives="up", level=1, top=2, start=0, encoded=True, up=True, **changes),
    ]


def stage_tensors(config: GeneratorConfig, spec: StageSpec) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    tensors = {}
    for tensor in stage_inputs(config, spec):
        if tensor.level is None:
            tensors[tensor.name] = torch.rand(2, tensor.channels, generator=generator) + 0.5
            continue
        shape = (3, tensor.channels, 5 << (spec.top - tensor.level), 3 << (spec.top - tensor.level))
        values = torch.rand(shape, generator=generator) * 2 - 1
        tensors[tensor.name] = values.sign() + 1 if tensor.noise_of is not None else values
    return tensors


@torch.inference_mode()
@pytest.mark.parametrize(
    "number, norm, given",
    [
        (0, "batch", False),
        (2, "batch", False),
        (3, "batch", False),
        (1, "instance", True),
        (3, "instance", True),
        (4, "instance", True),
    ],
)
def test_every_stage_gives_the_numbers_of_pytorch(number: int, norm: Norm, given: bool) -> None:
    config = GeneratorConfig(source_channels=2, base_width=4, depth=4, norm=norm)
    network = trained(config, "image" if given else "running")
    spec = stages(config, given_norms=given)[number]
    tensors = stage_tensors(config, spec)
    expected = Stage(network, spec)(*tensors.values())
    assert relative_error(run(export_stage(network, spec), *tensors.values()), expected) < 1e-5


@torch.inference_mode()
@pytest.mark.parametrize("architecture", ["unet", "resnet"])
def test_noise_can_be_an_input(architecture: Architecture) -> None:
    config = GeneratorConfig(
        architecture=architecture, source_channels=2, base_width=4, depth=3, blocks=1, dropout="reference"
    )
    config = replace(config, dropout="paper") if architecture == "unet" else config
    network = trained(config, "image")
    set_inference_mode(network, InferenceConfig(statistics="image", dropout="seeded"))
    spec = whole_stage(config, noise=True)
    tensors = stage_tensors(config, spec)
    assert any(name.endswith("noise") for name in tensors)
    expected = Stage(network, spec)(*tensors.values())
    assert relative_error(run(export_stage(network, spec), *tensors.values()), expected) < 1e-5


@pytest.mark.parametrize("number, refused", [(0, False), (1, True), (2, False), (3, True)])
def test_statistics_of_the_image_are_not_those_of_a_tile(number: int, refused: bool) -> None:
    config = GeneratorConfig(source_channels=2, base_width=4, depth=4, norm="instance")
    spec = stages(config)[number]
    if number == 0:
        spec = replace(spec, level=1, top=1)  # has no norm
    expectation = pytest.raises(SettingsError, match="tile by tile") if refused else nullcontext()
    with expectation:
        assert export_stage(trained(config), spec)


def test_noise_that_depends_on_the_place_is_refused() -> None:
    noisy = model(InferenceConfig(statistics="image", dropout="seeded"), dropout="paper")
    with pytest.raises(SettingsError, match="dropout"):
        whole(noisy)


def test_noise_layers_that_are_off_are_exported() -> None:
    quiet = model(InferenceConfig(statistics="running"), dropout="paper")
    content = whole(quiet)
    x = images(quiet.generator_config)[0]
    with torch.inference_mode():
        assert relative_error(run(content, x), quiet.generator()(x)) < 1e-5


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BackendError, match=rf'{package}; pip install "napari-pix2pix\[onnx\]"'):
        whole(model())


def test_exporting_changes_nothing_in_the_model() -> None:
    subject = model(InferenceConfig())
    before = {name: tensor.clone() for name, tensor in subject.weights.items()}
    whole(subject, "fp16")
    assert all(torch.equal(before[name], tensor) for name, tensor in subject.weights.items())


def _run_pixels(content: bytes, pixels: AnyArray) -> AnyArray:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    result: AnyArray = session.run(["target"], {"source": pixels})[0]
    return result


def _pixels(dtype: str, shape: tuple[int, ...]) -> AnyArray:
    generator = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return generator.normal(0.5, 0.5, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@torch.inference_mode()
@pytest.mark.parametrize(
    "source, target, statistics, levels",
    [
        ("uint8", "uint8", "image", 1),
        ("uint16", "uint8", "running", 1),
        ("uint8", "uint16", "image", 2),
        ("int16", "float32", "running", 1e-4),
        ("float32", "uint8", "running", 1),
    ],
)
def test_stored_pixels_in_and_out(source: str, target: str, statistics: Statistics, levels: float) -> None:
    low, high = (0.1, -5.0), (0.9, 700.0)
    linear = LinearMapping(dtype=source, scope="training-set", channels=2, low=low, high=high)
    subject = replace(
        model(InferenceConfig(statistics=statistics)),
        source=ImageDescription(mapping=linear),
        target=ImageDescription(mapping=dtype_mapping(np.dtype(target), 3)),
    )
    content = onnx_of_model(subject, with_mapping=True)
    for shape in ((1, 2, 16, 16), (3, 2, 32, 24)):
        pixels = _pixels(source, shape)
        expected = MappedGenerator(subject.generator(), linear, subject.target.mapping)(torch.from_numpy(pixels))
        result = _run_pixels(content, pixels)
        assert (result.dtype.name, result.shape) == (target, (shape[0], 3, *shape[2:]))
        assert np.abs(result.astype(np.float64) - expected.numpy().astype(np.float64)).max() <= levels
        assert result.std() > 0


@torch.inference_mode()
def test_categories_come_out_as_their_values() -> None:
    categories = CategoryMapping(dtype="uint8", values=((3,), (7,), (200,)))
    subject = replace(model(), target=ImageDescription(mapping=categories))
    pixels = _pixels("uint8", (1, 2, 24, 32))
    result = _run_pixels(onnx_of_model(subject, with_mapping=True), pixels)
    expected = MappedGenerator(subject.generator(), subject.source.mapping, categories)(torch.from_numpy(pixels))
    assert result.dtype == np.uint8
    assert (result == expected.numpy()).mean() > 0.99
    assert len(np.unique(result)) > 1


@pytest.mark.parametrize(
    "mapping, message",
    [
        (image_mapping(np.dtype("uint8"), 2), "by its own percentiles"),
        (CategoryMapping(dtype="uint8", values=((0,), (1,))), "a source of categories"),
    ],
)
def test_mappings_that_a_graph_cannot_hold(mapping: Mapping, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        onnx_of_model(replace(model(), source=ImageDescription(mapping=mapping)), with_mapping=True)
