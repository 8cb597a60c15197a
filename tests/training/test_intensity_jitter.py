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


def of(
    images: list[MemorySource], mapping: Mapping, deviations: float, targets: list[MemorySource] | None = None
) -> IntensityJitter | None:
    described, wanted = (
        [(image, list(plane_indices(image)), resolved(mapping, image)) for image in each]
        for each in (images, targets or [])
    )
    return measured_jitter(described, deviations, wanted if targets else None)


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


@pytest.mark.parametrize("slope", [1.0, -0.5])
def test_brightness_that_targets_follow_is_not_varied(slope: float, caplog: pytest.LogCaptureFixture) -> None:
    means = [60, 80, 100, 120, 140, 160]
    sources = [image(mean, 10 + 3 * (i % 2)) for i, mean in enumerate(means)]
    targets = [image(128 + slope * (mean - 100), 20 + 7 * (i // 3)) for i, mean in enumerate(means)]
    jitter = of(sources, MAPPING, 2.5, targets)
    assert jitter is not None
    assert jitter.brightness == 0
    assert jitter.log_contrast > 0
    assert [record.message for record in caplog.records] == [
        "the brightness of the targets follows that of the sources, so training does not vary it"
    ]


def test_contrast_that_targets_follow_is_not_varied(caplog: pytest.LogCaptureFixture) -> None:
    contrasts = [5, 10, 20, 30, 40]
    sources = [image(100 + 10 * (i % 2), contrast) for i, contrast in enumerate(contrasts)]
    targets = [image(120, 2 * contrast) for contrast in contrasts]
    jitter = of(sources, MAPPING, 2.5, targets)
    assert jitter is not None
    assert jitter.log_contrast == 0
    assert jitter.brightness > 0
    assert "the contrast of the targets follows" in caplog.text


@pytest.mark.parametrize("count", [4, 6])
def test_few_or_unrelated_targets_change_nothing(count: int, caplog: pytest.LogCaptureFixture) -> None:
    """Four images lie near some line by chance, six whose targets do not follow do not."""
    means = [60, 80, 100, 120, 140, 160][:count]
    sources = [image(mean, 20) for mean in means]
    targets = [image(mean, 20) for mean in (means if count == 4 else [100, 140, 90, 120, 80, 110])]
    assert of(sources, MAPPING, 2.5, targets) == of(sources, MAPPING, 2.5)
    assert not caplog.records


def test_classes_as_targets_follow_nothing() -> None:
    images = [image(mean, 20) for mean in (60, 80, 100, 120, 140)]
    mapping = category_mapping(images[0], [(40,), (80,)])
    described = [(each, list(plane_indices(each)), MAPPING) for each in images]
    classes = [(each, planes, mapping) for each, planes, _ in described]
    assert measured_jitter(described, 2.5, classes) == measured_jitter(described, 2.5)
