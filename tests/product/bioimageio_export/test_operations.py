"""Operations before and after the network are the intensity mapping, step by step as other programs run them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_pix2pix.bioimageio_export.operations import Operation, postprocessing, preprocessing, tensor_dtype
from pix2pix_training.array_source import MemorySource
from pix2pix_training.errors import SettingsError
from pix2pix_training.intensity import (
    CategoryMapping,
    LinearMapping,
    dtype_mapping,
    image_mapping,
    resolved,
    to_tensor,
)


def run(operations: Sequence[Operation], x: NDArray[Any]) -> NDArray[Any]:
    """The operations of the model zoo on (1, C, Y, X), as its documentation defines them."""
    for operation in operations:
        kwargs = dict(operation["kwargs"])
        match operation["id"]:
            case "ensure_dtype":
                x = x.astype(kwargs["dtype"])
            case "clip":
                x = np.clip(x, kwargs["min"], kwargs["max"])
            case "scale_linear":
                per_channel = "axis" in kwargs
                assert per_channel or not isinstance(kwargs["gain"], list)
                gain, offset = (np.reshape(kwargs[name], (1, -1, 1, 1)) for name in ("gain", "offset"))
                x = x * gain.astype(np.float64) + offset
            case "scale_range":
                assert kwargs["axes"] == ["y", "x"]
                ends = np.percentile(
                    x, (kwargs["min_percentile"], kwargs["max_percentile"]), axis=(2, 3), keepdims=True
                )
                x = (x - ends[0]) / (ends[1] - ends[0] + kwargs["eps"])
            case other:
                raise AssertionError(other)
    return x


def linear(dtype: str, *ends: tuple[float, float]) -> LinearMapping:
    low, high = zip(*ends, strict=True)
    return LinearMapping(dtype=dtype, scope="training-set", channels=len(ends), low=low, high=high)


MAPPINGS = [
    dtype_mapping(np.dtype(np.uint8), 3),
    dtype_mapping(np.dtype(np.int8), 2),
    dtype_mapping(np.dtype(bool), 1),
    linear("uint16", (100.0, 4000.0), (0.0, 65535.0)),
    linear("int16", (-500.0, 12000.0), (-32768.0, 32767.0)),
    linear("uint32", (7.0, 4e9)),
    linear("int32", (-(2.0**31), 2.0**31 - 1)),
    linear("float16", (0.0, 1.0)),
    linear("float32", (-0.25, 3.5), (-1.0, 1.0)),
    linear("float32", (-1.0, 1.0)),
    linear("float64", (1e6, 1e6 + 1)),
]


def pixels(mapping: LinearMapping) -> NDArray[Any]:
    """Stored values around the ends of each channel and between them, (1, C, 16, 16)."""
    rng = np.random.default_rng(0)
    dtype = np.dtype(mapping.dtype)
    ends = np.array([mapping.low, mapping.high]).T
    values = np.stack(
        [rng.uniform(low - 0.1 * (high - low), high + 0.1 * (high - low), (16, 16)) for low, high in ends]
    )
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.round(values), limits.min, limits.max)
    return (values > 0.5 if dtype.kind == "b" else values).astype(dtype)[None]


@pytest.mark.parametrize("mapping", MAPPINGS, ids=lambda m: f"{m.dtype}-{m.channels}")
def test_preprocessing_is_the_mapping_of_the_source(mapping: LinearMapping) -> None:
    stored = pixels(mapping)
    found = run(preprocessing(mapping), stored.astype(tensor_dtype(mapping)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, mapping.to_network(to_tensor(stored)).numpy(), atol=2e-6)


@pytest.mark.parametrize("mapping", MAPPINGS, ids=lambda m: f"{m.dtype}-{m.channels}")
def test_postprocessing_is_the_mapping_of_the_target(mapping: LinearMapping) -> None:
    output = np.random.default_rng(1).uniform(-1.2, 1.2, (1, mapping.channels, 32, 32)).astype(np.float32)
    output[0, 0, 0, :2] = -1, 1
    found = run(postprocessing(mapping), output)
    expected = mapping.from_network(torch.from_numpy(output)).numpy()
    assert found.dtype == tensor_dtype(mapping)
    difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    if np.dtype(mapping.dtype).kind == "f":
        assert float(difference.max()) <= 1e-3 * (mapping.high[0] - mapping.low[0])
    else:
        assert float(difference.max()) <= 1  # rounded the other way
        assert float((difference > 0).mean()) < 0.01


def test_percentiles_of_the_image_become_scale_range() -> None:
    mapping = image_mapping(np.dtype(np.uint16), 2)
    stored = np.random.default_rng(0).integers(0, 5000, (1, 2, 64, 64), np.uint16)
    own = resolved(mapping, MemorySource(stored[0]))
    found = run(preprocessing(mapping), stored)
    assert float(np.abs(found - own.to_network(to_tensor(stored)).numpy()).max()) < 0.01


def test_categories_are_scores_as_output_and_refused_as_input() -> None:
    mapping = CategoryMapping(dtype="uint8", values=((0,), (3,), (7,)))
    scores = np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(run(postprocessing(mapping), scores), scores)
    with pytest.raises(SettingsError, match="export to onnx instead"):
        preprocessing(mapping)
