"""ONNX models that compute in 8 bits: the integers of PyTorch in other programs, in tiles as in the whole image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pix2pix_training.errors import SettingsError
from pix2pix_training.export_form import fold_norms
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.model_file import Model
from pix2pix_training.onnx_export import onnx_of_model
from pix2pix_training.quantisation import Int8Traits, RangeSurvey, quantise, symmetric
from tests.training.test_onnx_export import model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

Run = Callable[[Tensor], Tensor]


def noise(rows: int, columns: int) -> Tensor:
    return torch.rand(1, 2, rows, columns, generator=torch.Generator().manual_seed(2)) * 2 - 1


def ready(**changes: Any) -> Model:
    plain = model(InferenceConfig(statistics="running"), **changes)
    network = plain.generator()
    fold_norms(network)
    survey = RangeSurvey(network)
    survey.add(noise(64, 64))
    traits = Int8Traits(roundings=survey.roundings(), parts=2, deviation=0.001, worst=0.001)
    return replace(plain, int8=traits)


def in_pytorch(ready: Model) -> Run:
    assert ready.int8 is not None
    network = ready.generator()
    fold_norms(network)
    quantise(network, symmetric(ready.int8.roundings, ready.generator_config))
    return torch.inference_mode()(network)


def in_onnx_runtime(content: bytes) -> Run:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"features": x.numpy()})[0])


def in_openvino(content: bytes) -> Run:
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda x: torch.from_numpy(compiled([x.numpy()])[0].copy())


@pytest.fixture(scope="module")
def subject() -> Model:
    return ready(norm="batch-renorm", decoder="resize")


@pytest.fixture(scope="module")
def content(subject: Model) -> bytes:
    return onnx_of_model(subject, precision="int8")


@pytest.mark.parametrize("runtime", [in_onnx_runtime, in_openvino])
def test_other_programs_compute_the_integers_of_pytorch(
    runtime: Callable[[bytes], Run], subject: Model, content: bytes
) -> None:
    x = noise(96, 160)
    expected = in_pytorch(subject)(x)
    assert (runtime(content)(x) - expected).abs().max() < 1e-5
    with torch.inference_mode():
        exact = subject.generator()(x)
    assert 1e-4 < (expected - exact).abs().mean() / 2 < 0.02


def test_in_tiles_the_result_is_that_of_the_whole_image(content: bytes) -> None:
    run, x = in_onnx_runtime(content), noise(96, 96)
    assert (run(x[..., 16:80])[..., 24:40] - run(x)[..., 40:56]).abs().max() < 1e-6
    assert (run(x[..., 16:80])[..., :8] - run(x)[..., 16:24]).abs().max() > 1e-3  # sees beyond its border


def test_all_but_the_first_and_last_convolution_take_signed_integers_around_zero(
    subject: Model, content: bytes
) -> None:
    graph = onnx.load_from_string(content).graph
    known = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert len(convolutions) == 2 * subject.generator_config.depth
    for node in convolutions[1:-1]:
        for rounded in (made[name] for name in node.input[:2]):
            _, scale, zero = rounded.input
            assert rounded.op_type == "DequantizeLinear"
            assert known[zero].dtype == "int8" and not known[zero].any()
            assert all(torch.frexp(torch.tensor(known[scale]))[0].flatten() == 0.5)
    assert known[made[convolutions[1].input[1]].input[0]].dtype == "int8"


def test_what_was_not_made_ready_is_refused(subject: Model) -> None:
    with pytest.raises(SettingsError, match="was not made ready for precision int8"):
        onnx_of_model(model(InferenceConfig(statistics="running")), precision="int8")
    with pytest.raises(SettingsError, match="statistics of each image"):
        onnx_of_model(subject, precision="int8", inference=InferenceConfig(statistics="image"))
