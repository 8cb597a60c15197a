"""Patches that are functions of seed and number, drawn uniformly or by content, without constant ones."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pix2pix_training.array_source import AnyArray, MemorySource
from pix2pix_training.choices import Preset
from pix2pix_training.config import TrainingConfig
from pix2pix_training.dataset import Patch, PatchDataset
from pix2pix_training.errors import ImageError
from pix2pix_training.intensity import LinearMapping
from pix2pix_training.pairs import Pair
from pix2pix_training.patch_config import AugmentationConfig, SamplingConfig
from pix2pix_training.preparation import require_room
from pix2pix_training.presets import preset, usual_depth
from pix2pix_training.setting_options import training_config
from pix2pix_training.validated import choices

PLAIN = AugmentationConfig(flips="none")
BY_CONTENT = SamplingConfig(placement="content")


def sampler_of(
    pairs: list[Pair],
    *,
    patch_size: int,
    sampling: SamplingConfig | None = None,
    augmentation: AugmentationConfig = PLAIN,
    seed: int = 0,
) -> PatchDataset:
    channels = pairs[0].target.shape[-3]
    return PatchDataset(
        pairs,
        patch_size=patch_size,
        augmentation=augmentation,
        sampling=sampling or SamplingConfig(),
        target_mapping=LinearMapping(
            dtype=pairs[0].target.dtype.name,
            scope="training-set",
            channels=channels,
            low=(0.0,) * channels,
            high=(100.0,) * channels,
        ),
        seed=seed,
    )


def pair(height: int, width: int) -> Pair:
    """An image whose two channels are the row and the column of each pixel, and itself as the target."""
    image = MemorySource(np.array(np.mgrid[:height, :width], np.int32))
    return Pair(image, image, "image")


def noise_in(mask: NDArray[np.bool_], name: str = "spots") -> Pair:
    """A source of noise, and a target that is noise within a mask and 0 elsewhere."""
    rng = np.random.default_rng(0)
    source = rng.integers(0, 100, (1, *mask.shape)).astype(np.uint8)
    target = np.where(mask, rng.integers(0, 100, (1, *mask.shape)), 0).astype(np.uint8)
    return Pair(MemorySource(source, name=name), MemorySource(target, name=f"{name} target"), name)


def centres(patches: Iterable[Patch]) -> AnyArray:
    regions = [p.draw.region for p in patches]
    return np.array([((r.y0 + r.y1) / 2, (r.x0 + r.x1) / 2) for r in regions])


def test_patches_depend_on_seed_and_number_alone() -> None:
    pairs = [pair(50, 70), pair(40, 40)]
    first, second = (sampler_of(pairs, patch_size=16, seed=1) for _ in range(2))
    later = [first[n] for n in range(30)]
    assert np.array_equal(second[25].source, later[25].source)
    assert not np.array_equal(later[0].source, later[1].source)


def test_an_epoch_covers_each_image_by_its_area() -> None:
    sampler = sampler_of([pair(32, 48), pair(16, 16)], patch_size=16)
    assert len(sampler) == 6 + 1
    assert sorted(sampler[n].pair_index for n in range(7)) == [0] * 6 + [1]


def test_stacks_give_patches_of_all_planes() -> None:
    stack = MemorySource(
        np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 8, 8), np.uint8), axes="ZCYX"
    )
    sampler = sampler_of([Pair(stack, stack, "stack")], patch_size=8)
    assert sorted(int(sampler[n].source.max()) for n in range(3)) == [0, 1, 2]


def _config(name: Preset, patch_size: int, **changes: Any) -> TrainingConfig:
    base = preset(name)
    generator = replace(base.generator, depth=usual_depth(name, patch_size))
    return replace(base, **{"patch_size": patch_size, "generator": generator, **changes})


@pytest.mark.parametrize("name", choices(Preset))
@pytest.mark.parametrize("side", [24, 30, 31, 32, 40, 63, 100, 129, 200, 255])
def test_the_patch_that_is_advised_for_small_images_is_accepted(name: Preset, side: int) -> None:
    """Of the command line, where the depth follows the patch unless it is given."""
    image = pair(side, 300)
    with pytest.raises(ImageError, match=f"{side} x 300 pixels, less than a patch of 256; choose --patch-size") as said:
        require_room([pair(300, 300), image], _config(name, 256))
    size, depth = re.findall(r"--patch-size (\d+) with --depth (\d+)", str(said.value))[0]
    assert side // 2 < int(size) <= side
    layer = {"preset": name, "patch_size": int(size), "generator": {"depth": int(depth)}}
    require_room([image], training_config({}, layer))


def test_an_image_smaller_than_any_patch_is_refused() -> None:
    with pytest.raises(ImageError, match=r"1 x 1 pixels, less than a patch of 256; leave it out"):
        require_room([pair(1, 1)], preset("seamless"))


def test_nearly_invalid_patches_are_drawn_again() -> None:
    image = np.full((1, 64, 64), np.nan, np.float32)
    image[:, :32, :32] = np.random.default_rng(0).random((32, 32))
    sampler = sampler_of([Pair(MemorySource(image), MemorySource(image), "x")], patch_size=16)
    patches = [sampler[number] for number in range(16)]
    shares = [1.0 if p.valid is None else p.valid.mean() for p in patches]
    assert sum(share >= 0.1 for share in shares) == 16
    assert sum(patch.skipped for patch in patches) > 0


@pytest.mark.parametrize("constant_side", ["source", "target"])
def test_constant_patches_are_drawn_again(constant_side: str) -> None:
    mask = np.zeros((128, 128), bool)
    mask[:, 64:] = True
    drawn = noise_in(mask)
    if constant_side == "source":
        drawn = Pair(drawn.target, drawn.source, "swapped")
    sampler = sampler_of([drawn], patch_size=16)
    patches = [sampler[n] for n in range(100)]
    assert all(p.source.min() < p.source.max() and p.target.min() < p.target.max() for p in patches)
    assert 50 < sum(patch.skipped for patch in patches) < 200, "nearly half of the draws are constant"


def test_constant_patches_are_kept_on_request() -> None:
    mask = np.zeros((128, 128), bool)
    mask[:, 64:] = True
    sampler = sampler_of([noise_in(mask)], patch_size=16, sampling=SamplingConfig(skip_constant=False))
    patches = [sampler[n] for n in range(100)]
    assert 25 < sum(patch.target.max() == 0 for patch in patches) < 65
    assert sum(patch.skipped for patch in patches) == 0


def test_patches_constant_but_for_invalid_pixels_are_constant() -> None:
    """The fill of invalid pixels is no content."""
    image = np.full((1, 64, 64), 3, np.float32)
    image[:, :, ::2] = np.nan
    varied = np.random.default_rng(0).random((1, 64, 64)).astype(np.float32)
    flat = Pair(MemorySource(varied), MemorySource(image, name="flat"), "flat")
    good = Pair(MemorySource(varied), MemorySource(varied, name="good"), "good")
    sampler = sampler_of([flat, good], patch_size=16)
    assert {sampler[n].pair_index for n in range(20)} == {1}


@pytest.mark.parametrize("sampling", [SamplingConfig(), BY_CONTENT])
def test_an_image_without_content_is_named_once_and_others_stand_in(
    sampling: SamplingConfig, caplog: pytest.LogCaptureFixture
) -> None:
    empty = noise_in(np.zeros((64, 64), bool), name="empty")
    sampler = sampler_of([empty, noise_in(np.ones((64, 64), bool), name="full")], patch_size=16, sampling=sampling)
    with caplog.at_level(logging.WARNING):
        patches = [sampler[n] for n in range(64)]
    assert {p.pair_index for p in patches} == {1}
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["empty"]


def test_content_placement_finds_rare_content() -> None:
    """One hundredth of the plane has content; every patch holds some of it, and the rest are as near as a block."""
    mask = np.zeros((640, 640), bool)
    mask[400:464, 128:192] = True
    sampler = sampler_of([noise_in(mask)], patch_size=64, sampling=BY_CONTENT)
    patches = [sampler[n] for n in range(200)]
    found = centres(patches)
    assert (np.abs(found - [432, 160]) < 64 + 16).all()
    assert sum(patch.skipped for patch in patches) < 20
    assert np.ptp(found, axis=0).min() > 60, "patches lie around the content on all sides"


def test_content_placement_is_in_proportion_to_the_spread() -> None:
    """Left third empty, middle with half the amplitude of the right: patches lie there as 0 : 1 : 2."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, 101, (1, 96, 3 * 512)).astype(np.uint8)
    target[..., :512] = 0
    target[..., 512:1024] //= 2
    source = rng.integers(0, 100, target.shape).astype(np.uint8)
    sampler = sampler_of([Pair(MemorySource(source), MemorySource(target), "x")], patch_size=32, sampling=BY_CONTENT)
    columns = centres(sampler[n] for n in range(600))[:, 1]
    shares = np.histogram(columns, bins=[0, 500, 1024, 1536])[0] / 600
    np.testing.assert_allclose(shares, [0, 1 / 3, 2 / 3], atol=0.06)


def test_content_placement_is_uniform_where_content_is() -> None:
    sampler = sampler_of([noise_in(np.ones((160, 160), bool))], patch_size=32, sampling=BY_CONTENT)
    corners = centres(sampler[n] for n in range(2000)) - 16
    assert corners.min() == 0
    assert corners.max() == 128
    quarters = np.histogram2d(corners[:, 0], corners[:, 1], bins=2)[0] / 2000
    np.testing.assert_allclose(quarters, 0.25, atol=0.04)


def test_content_placement_does_not_depend_on_what_was_drawn_before() -> None:
    mask = np.zeros((200, 150), bool)
    mask[120:150, 20:60] = True
    config = AugmentationConfig(flips="both", scale_jitter=1.2)
    first, second = (
        sampler_of([noise_in(mask)], patch_size=48, sampling=BY_CONTENT, augmentation=config, seed=3) for _ in range(2)
    )
    before = [first[n] for n in range(30)]
    assert second[29].draw == before[29].draw
    assert second[7].draw == before[7].draw
    assert any(a.draw != b.draw for a, b in pairwise(before))
