"""How far intensities are changed in training follows from how far images differ."""

from __future__ import annotations

import numpy as np
import pytest

from pix2pix_training.array_source import MemorySource, plane_indices
from pix2pix_training.augmentation import IntensityJitter, measured_jitter
from pix2pix_training.intensity import Mapping, category_mapping, dtype_mapping, image_mapping, resolved

MAPPING = dtype_mapping(np.dtype(np.uint8), 1)


def image(mean: float, contrast: float, shape: tuple[int, ...] = (1, 300, 300)) -> MemorySource:
    """Half of the pixels lie `contrast` above the mean and half below, in stored values."""
    signs = np.indices(shape).sum(0) % 2 * 2 - 1
    return MemorySource((mean + contrast * signs).astype(np.uint8), name="image")


def of(images: list[MemorySource], mapping: Mapping, deviations: float) -> IntensityJitter | None:
    described = [(image, list(plane_indices(image)), resolved(mapping, image)) for image in images]
    return measured_jitter(described, deviations)


def test_the_bounds_are_deviations_of_mean_and_contrast() -> None:
    jitter = of([image(100, 20), image(140, 40)], MAPPING, 2.5)
    assert jitter is not None
    unit = 2 / 255  # of stored values in [-1, 1]
    assert jitter.mean == pytest.approx(120 * unit - 1, abs=1e-6)
    assert jitter.brightness == pytest.approx(2.5 * 20 * unit, rel=1e-5)
    assert jitter.log_contrast == pytest.approx(2.5 * np.log(2) / 2, rel=1e-5)


def test_images_that_are_alike_are_left_alone() -> None:
    jitter = of([image(100, 20), image(100, 20)], MAPPING, 2.5)
    assert jitter is not None
    assert jitter.brightness == jitter.log_contrast == pytest.approx(0, abs=1e-9)


def test_planes_of_a_stack_are_images() -> None:
    stack = np.stack([np.full((1, 8, 8), value, np.uint8) for value in (100, 140)])
    stack[..., ::2] += 10
    jitter = of([MemorySource(stack, name="stack")], MAPPING, 1.0)
    assert jitter is not None
    assert jitter.brightness == pytest.approx(20 * 2 / 255, rel=1e-5)


def test_images_that_are_mapped_one_by_one_hardly_differ() -> None:
    jitter = of([image(100, 20), image(140, 40)], image_mapping(np.dtype(np.uint8), 1), 1.0)
    assert jitter is not None
    assert max(jitter.brightness, jitter.log_contrast) < 1e-3


def test_nothing_is_changed_where_nothing_is_known_or_asked() -> None:
    pair = [image(100, 20), image(140, 40)]
    assert of(pair[:1], MAPPING, 2.5) is None
    assert of(pair, MAPPING, 0.0) is None
    assert of(pair, category_mapping(pair[0], [(100,), (120,)]), 2.5) is None


def test_a_constant_image_counts_as_one_of_little_contrast() -> None:
    jitter = of([image(100, 0), image(140, 40)], MAPPING, 1.0)
    assert jitter is not None
    assert np.isfinite(jitter.log_contrast)
