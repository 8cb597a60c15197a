"""Batches of patches on the device."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from multiprocessing import active_children

import numpy as np
import pytest
import torch

from pix2pix_training.array_source import AnyArray, MemorySource, Opacity
from pix2pix_training.augmentation import IntensityJitter
from pix2pix_training.batches import Batches
from pix2pix_training.dataset import PatchDataset
from pix2pix_training.errors import ImageError, TrainingError
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.pairs import Pair
from pix2pix_training.patch_config import AugmentationConfig, SamplingConfig
from pix2pix_training.regions import Region
from pix2pix_training.remarks import remarks

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.float32, np.float64, ">u2"])
def test_a_batch_holds_the_mapped_pixels_of_each_patch(dtype: str) -> None:
    """Patches of unequal pairs are joined for one copy and come apart again, in any dtype."""
    rng = np.random.default_rng(0)
    images = [(rng.random((2, 12, 12)) * 100).astype(dtype) for _ in range(3)]
    pairs = [Pair(MemorySource(i, name="a"), MemorySource(i[:1], name="b"), "pair") for i in images]
    native = images[0].dtype.newbyteorder("=")
    mappings = dtype_mapping(native, 2), dtype_mapping(native, 1)
    sampler = PatchDataset(
        pairs,
        patch_size=8,
        augmentation=AugmentationConfig(flips="none"),
        sampling=SamplingConfig(),
        target_mapping=mappings[1],
        seed=0,
    )
    source, target, valid = next(Batches(sampler, [mappings[0]] * 3, CPU, batch_size=3, first=3))
    assert valid is None
    for position in range(3):
        stored = sampler[3 + position]
        for found, pixels, mapping in zip((source, target), (stored.source, stored.target), mappings, strict=True):
            expected = mapping.to_network(torch.from_numpy(np.asarray(pixels).astype(native))[None])[0]
            assert torch.equal(found[position], expected)


def test_jitter_changes_the_intensities_of_the_source_alone() -> None:
    """One contrast and one brightness for all channels of a patch, other ones for the next patch."""
    pixels = (np.random.default_rng(0).random((2, 8, 8)) * 255).astype(np.uint8)
    pair = Pair(MemorySource(pixels, name="a"), MemorySource(pixels, name="b"), "pair")
    mapping = dtype_mapping(pixels.dtype, 2)
    sampler = PatchDataset(
        [pair],
        patch_size=8,
        augmentation=AugmentationConfig(flips="none", intensity_jitter=1.0),
        sampling=SamplingConfig(),
        target_mapping=mapping,
        seed=0,
    )
    jitter = IntensityJitter(mean=0.2, brightness=0.3, log_contrast=0.1)
    plain, jittered = (next(Batches(sampler, [mapping], CPU, change, batch_size=2)) for change in (None, jitter))
    assert torch.equal(plain[1], jittered[1])
    draws = [sampler[number].draw for number in range(2)]
    for before, after, draw in zip(plain[0], jittered[0], draws, strict=True):
        expected = np.exp(0.1 * draw.contrast) * (before - 0.2) + 0.2 + 0.3 * draw.brightness
        torch.testing.assert_close(after, expected)
    assert draws[0].brightness != draws[1].brightness


class Damaged(MemorySource):
    """Cannot be read below its first rows."""

    def read_with_opacity(self, region: Region, plane: tuple[int, ...] = ()) -> tuple[AnyArray, Opacity | None]:
        if region.y1 > 16:
            raise ImageError(f"{self.name}: is damaged there")
        return super().read_with_opacity(region, plane)


def test_what_processes_say_of_the_images_and_what_is_wrong_with_them_is_said_here(
    caplog: pytest.LogCaptureFixture,
) -> None:
    noise = np.random.default_rng(0).integers(0, 9, (1, 16, 16), np.uint8)
    tall = np.random.default_rng(1).integers(0, 9, (1, 64, 16), np.uint8)
    pairs = [
        Pair(MemorySource(np.zeros_like(noise), name="empty"), MemorySource(noise), "empty"),
        Pair(MemorySource(noise), MemorySource(noise), "full"),
        Pair(Damaged(tall, name="tall.tif"), MemorySource(tall), "tall"),
    ]
    mapping = dtype_mapping(np.dtype(np.uint8), 1)
    dataset = PatchDataset(
        pairs,
        patch_size=16,
        augmentation=AugmentationConfig(),
        sampling=SamplingConfig(),
        target_mapping=mapping,
        seed=6,  # the empty image comes first
    )
    batches = Batches(dataset, [mapping] * 3, CPU, batch_size=1, ahead=True, workers=1)
    with pytest.raises(ImageError, match=r"^tall\.tif: is damaged there$"):
        for _ in range(30):
            next(batches)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["empty"]


@pytest.mark.slow  # a dead process is noticed after five seconds
def test_a_process_that_dies_ends_the_run_in_words() -> None:
    noise = MemorySource(np.random.default_rng(0).integers(0, 9, (1, 16, 16), np.uint8))
    mapping = dtype_mapping(np.dtype(np.uint8), 1)
    dataset = PatchDataset(
        [Pair(noise, noise, "noise")],
        patch_size=16,
        augmentation=AugmentationConfig(),
        sampling=SamplingConfig(),
        target_mapping=mapping,
        seed=0,
    )
    batches = Batches(dataset, [mapping], CPU, batch_size=1, ahead=True, workers=1)
    next(batches)
    for process in active_children():
        process.kill()
    with pytest.raises(TrainingError, match=r"a process that reads images has ended .*; try fewer workers"):
        for _ in range(10):
            next(batches)


def test_arrays_too_large_to_send_are_read_by_a_thread(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pix2pix_training.batches._MOST_SENT_BYTES", 5_000)
    large = MemorySource(np.random.default_rng(0).integers(0, 9, (1, 80, 80), np.uint8), name="large")
    mapping = dtype_mapping(np.dtype(np.uint8), 1)
    dataset = PatchDataset(
        [Pair(large, large, "large")],
        patch_size=16,
        augmentation=AugmentationConfig(),
        sampling=SamplingConfig(),
        target_mapping=mapping,
        seed=0,
    )
    batches = Batches(dataset, [mapping], CPU, batch_size=1, ahead=True, workers=2)
    assert next(batches)[0].shape == (1, 1, 16, 16)
    batches.close()
    assert "cannot be opened by 2 processes: a thread reads them" in caplog.text


def test_what_the_thread_says_is_heard_by_the_run_that_it_reads_for() -> None:
    empty, noise = np.zeros((1, 16, 16), np.uint8), np.random.default_rng(0).integers(0, 9, (1, 16, 16), np.uint8)
    mapping = dtype_mapping(np.dtype(np.uint8), 1)
    dataset = PatchDataset(
        [Pair(MemorySource(empty, name="empty"), MemorySource(noise), "empty")],
        patch_size=16,
        augmentation=AugmentationConfig(),
        sampling=SamplingConfig(),
        target_mapping=mapping,
        seed=0,
    )
    with remarks() as others, ThreadPoolExecutor(1) as run:

        def heard() -> list[str]:
            with remarks() as own:
                batches = Batches(dataset, [mapping], CPU, batch_size=1, ahead=True)
                next(batches)
                batches.close()
                return own

        assert [line.split(":")[0] for line in run.submit(heard).result()] == ["empty"]
    assert others == []
