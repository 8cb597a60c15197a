"""A region of an image, translated on its own, is what the whole image has there; in float64, so that errors show."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from napari_pix2pix.translation import cost
from napari_pix2pix.translation.backends.stage_runner import Stages
from napari_pix2pix.translation.exact import gathered_norms
from napari_pix2pix.translation.padded_image import PaddedImage
from napari_pix2pix.translation.plan import Plan, Split
from napari_pix2pix.translation.planner import PYTORCH
from napari_pix2pix.translation.schemes import network_tiles, whole_tiles
from napari_pix2pix.translation.settings import Scheme
from pix2pix_training.array_source import AnyArray
from pix2pix_training.choices import Decoder, Norm, Statistics
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import Generator, UNet
from pix2pix_training.regions import Region
from tests.product.translation.conftest import assembled, of_all, padded, random_generator, random_image, stages_of

TOLERANCE = 1e-10
"""In [-1, 1]."""
MEMORY = 1 << 30


def network_of(depth: int = 4, norm: Norm = "batch", statistics: Statistics = "running", **changes: Any) -> Generator:
    config: dict[str, Any] = {"base_width": 3, "dropout": "paper", "source_channels": 2, "target_channels": 1}
    return random_generator(
        GeneratorConfig(**(config | {"depth": depth, "norm": norm} | changes)),
        InferenceConfig(statistics="image" if norm == "instance" else statistics, dropout="seeded", seed=3),
    )


def splits_at(*levels: int, tile_cells: int = 3) -> tuple[Split, ...]:
    starts = (0, *levels[:-1])
    return tuple(
        Split(start=start, stop=stop, tile=tile_cells << (stop - start), keep_raw=True)
        for start, stop in zip(starts, levels, strict=True)
    )


def plan_of(image: PaddedImage, splits: tuple[Split, ...], scheme: Scheme = "exact", tile: int = 32) -> Plan:
    return Plan(
        region=image.image_size, regions=1, backend=PYTORCH, scheme=scheme, statistics="running", tile=tile,
        splits=splits, halo=32 if scheme == "exact" else 8, padded_size=image.size, working_set_bytes=0,
        memory_for_planes_bytes=MEMORY, mac_overhead=1, tiles=0,
    )  # fmt: skip


def norms_of(stages: Stages, image: PaddedImage, statistics: str) -> dict[str, Tensor] | None:
    if statistics == "running":
        return None
    return gathered_norms(stages, image, splits_at(*range(1, stages.config.depth + 1), tile_cells=8), MEMORY)


def whole(network: Generator, pixels: AnyArray) -> Tensor:
    expected = assembled(whole_tiles(stages_of(network), *of_all(pixels, network.config), 64), pixels)
    assert expected.std() > 0.02, "the comparison would show nothing"
    return expected


def region_of(
    network: Generator, pixels: AnyArray, region: Region, splits: tuple[Split, ...], norms: dict[str, Tensor] | None,
    scheme: Scheme = "exact",
) -> Tensor:  # fmt: skip
    image = padded(pixels, network.config)
    tiles = network_tiles(stages_of(network), image, region, plan_of(image, splits, scheme), norms)
    moved = ((tile.seen_from(region), values) for tile, values in tiles)
    return assembled(moved, pixels[..., *region.slices])


def assert_every_region_is_exact(
    network: Generator, pixels: AnyArray, side: int, splits: tuple[Split, ...] = (), scheme: Scheme = "exact"
) -> None:
    expected = whole(network, pixels)
    statistics = "image" if isinstance(network, UNet) and needs_statistics(network) else "running"
    norms = norms_of(stages_of(network), padded(pixels, network.config), statistics)
    for region in Region.whole(pixels.shape[1], pixels.shape[2]).tiles(side):
        found = region_of(network, pixels, region, splits, norms, scheme)
        assert (found - expected[..., *region.slices]).abs().max() < TOLERANCE


def needs_statistics(network: UNet) -> bool:
    norm = network.up_block(2).norm
    return getattr(norm, "uses_running_statistics", True) is False


@pytest.mark.parametrize("decoder", ["transposed", "resize", "pixel-shuffle"])
@pytest.mark.parametrize(
    ("norm", "statistics"),
    [("batch-renorm", "running"), ("batch", "running"), ("batch", "image"), ("instance", "image"), ("none", "running")],
)
def test_regions_of_every_norm_and_decoder(norm: Norm, statistics: Statistics, decoder: Decoder) -> None:
    network = network_of(norm=norm, statistics=statistics, decoder=decoder)
    assert_every_region_is_exact(network, random_image(2, 131, 200), 64, splits_at(2, 3))


@pytest.mark.parametrize("levels", [(1,), (2,), (4,), (2, 3, 4), (1, 3)])
@pytest.mark.parametrize("architecture", ["unet", "encoder-decoder"])
def test_regions_of_every_split(levels: tuple[int, ...], architecture: str) -> None:
    network = network_of(architecture=architecture, statistics="image")
    assert_every_region_is_exact(network, random_image(2, 150, 97), 64, splits_at(*levels))


@pytest.mark.parametrize("statistics", ["running", "image"])
def test_regions_run_whole(statistics: Statistics) -> None:
    assert_every_region_is_exact(network_of(statistics=statistics), random_image(2, 131, 150), 64, scheme="whole")


def test_regions_of_a_deep_network() -> None:
    """Eight levels: 511 pixels around a region count."""
    network, pixels = network_of(8, base_width=1, dropout="reference"), random_image(2, 700, 1500)
    region = Region(256, 320, 640, 704)
    found = region_of(network, pixels, region, splits_at(2, 4, tile_cells=16), None)
    assert (found - whole(network, pixels)[..., *region.slices]).abs().max() < TOLERANCE


def test_the_receptive_field_is_not_taken_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison would notice."""
    network, pixels = network_of(5, base_width=4), random_image(2, 256, 256)
    expected = whole(network, pixels)
    region = Region(96, 128, 96, 128)
    monkeypatch.setattr("napari_pix2pix.translation.exact.receptive_radius", lambda config: config.stride)
    found = region_of(network, pixels, region, splits_at(2), None)
    assert (found - expected[..., *region.slices]).abs().max() > 1e-6


@pytest.mark.parametrize("norm", ["batch", "batch-renorm", "none"])
@pytest.mark.parametrize("scheme", ["exact", "whole"])
def test_regions_of_a_resnet(norm: Norm, scheme: Scheme) -> None:
    network = network_of(norm=norm, architecture="resnet", blocks=2, dropout="reference")
    assert_every_region_is_exact(network, random_image(2, 130, 141), 64, scheme=scheme)


def test_regions_do_not_show_in_a_blend() -> None:
    network, pixels = network_of(3), random_image(2, 130, 141)
    blended = region_of(network, pixels, Region(0, 130, 0, 141), (), None, "blend")
    for region in Region.whole(130, 141).tiles(64):
        found = region_of(network, pixels, region, (), None, "blend")
        assert torch.equal(found, blended[..., *region.slices])


def test_statistics_of_the_image_are_those_of_one_pass_over_it() -> None:
    """Every norm is found, also those of the levels that otherwise run at once."""
    network, pixels = network_of(norm="instance"), random_image(2, 100, 120)
    norms = norms_of(stages_of(network), padded(pixels, network.config), "image")
    assert norms is not None
    assert norms.keys() == {
        *(f"encoder_{k}_norm" for k in range(2, 4)), *(f"decoder_{k}_norm" for k in range(2, 5))
    }  # fmt: skip


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_region(data: st.DataObject) -> None:
    depth = data.draw(st.integers(2, 5), "depth")
    levels = sorted(data.draw(st.sets(st.integers(1, depth), min_size=1), "levels"))
    rows, columns = (data.draw(st.integers(8, 180), name) for name in ("rows", "columns"))
    y, x = data.draw(st.integers(0, rows - 1), "y"), data.draw(st.integers(0, columns - 1), "x")
    region = Region(y, data.draw(st.integers(y + 1, rows)), x, data.draw(st.integers(x + 1, columns)))
    network = network_of(depth, data.draw(st.sampled_from(["batch", "instance"]), "norm"))
    pixels = random_image(2, rows, columns)
    splits = splits_at(*levels, tile_cells=data.draw(st.integers(1, 5)))
    norms = norms_of(stages_of(network), padded(pixels, network.config), "image" if network.config.norm == "instance"
                     else "running")  # fmt: skip
    expected = assembled(whole_tiles(stages_of(network), *of_all(pixels, network.config), 64), pixels)
    found = region_of(network, pixels, region, splits, norms)
    assert (found - expected[..., *region.slices]).abs().max() < TOLERANCE


def test_the_halo_of_a_region_comes_from_the_architecture() -> None:
    assert cost.receptive_radius(GeneratorConfig(depth=8)) == 512
    assert cost.receptive_radius(GeneratorConfig(depth=5)) == 64
    assert cost.receptive_radius(GeneratorConfig(architecture="resnet")) == 88
