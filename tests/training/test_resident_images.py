"""Images that stay on the device give the batches that are uploaded patch by patch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pix2pix_training.array_source import MemorySource, Region
from pix2pix_training.config import AugmentationConfig, SamplingConfig
from pix2pix_training.intensity import dtype_mapping, fitted_mapping
from pix2pix_training.mapped_data import MappedPairs
from pix2pix_training.pairs import Pair
from pix2pix_training.patches import PatchSampler
from pix2pix_training.resident_images import ResidentImages, fits_on_device

CPU = torch.device("cpu")


class CountingSource(MemorySource):
    """Counts how many pixels are read."""

    pixels_read = 0

    def read(self, region: Region, plane: tuple[int, ...] = ()) -> np.ndarray:
        self.pixels_read += region.height * region.width
        return super().read(region, plane)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_batches_are_the_same(device: str) -> None:
    """Of a stack of floats with a hole, and of its 16-bit image; with every kind of augmentation."""
    rng = np.random.default_rng(0)
    source = rng.random((3, 2, 40, 50)).astype(np.float32)
    source[1, :, 10:20, 10:20] = np.nan
    target = rng.integers(0, 60000, (3, 1, 40, 50)).astype(np.uint16)
    pairs = [Pair(MemorySource(source, name="a"), MemorySource(target, name="b"), "pair")]
    mappings = fitted_mapping([pairs[0].source]), dtype_mapping(target.dtype, 1)
    sampler = PatchSampler(
        pairs,
        patch_size=16,
        augmentation=AugmentationConfig(flips="both", quarter_turns=True, scale_jitter=1.2),
        sampling=SamplingConfig(),
        target_mapping=mappings[1],
        seed=0,
    )
    uploaded, resident = (
        MappedPairs(pairs, sampler, *mappings, 16, torch.device(device), resident=flag) for flag in (False, True)
    )
    masks = 0
    for number in range(10):
        for ours, expected in zip(resident.batch(number, 2), uploaded.batch(number, 2), strict=True):
            assert (ours is None) == (expected is None)
            assert ours is None or expected is None or torch.equal(ours, expected)
        masks += uploaded.batch(number, 2)[2] is not None
    assert 0 < masks < 10


def test_a_plane_is_read_once() -> None:
    image = CountingSource(np.arange(1200, dtype=np.uint8).reshape(1, 30, 40), name="image")
    images = ResidentImages([image], CPU)
    crops = [images.crop(0, (), Region(y, y + 5, 3, 9)) for y in range(20)]
    assert image.pixels_read == 1200
    assert torch.equal(crops[7], torch.from_numpy(image.read(Region(7, 12, 3, 9))))


@pytest.mark.parametrize(("free", "fits"), [(16 * 1000, True), (16 * 1000 - 4, False)])
def test_they_stay_on_a_gpu_where_they_take_a_quarter_of_its_free_memory(
    free: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [MemorySource(np.zeros((1, 50, 20), dtype), name="image") for dtype in (np.uint8, np.uint16)]
    images.append(MemorySource(np.zeros((1, 50, 20), np.uint8), name="image"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    assert fits_on_device(images, torch.device("cuda")) is fits
    assert not fits_on_device(images, CPU)
