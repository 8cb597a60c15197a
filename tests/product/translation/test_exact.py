"""Exact tiles equal the whole image, whatever the network, the image and the tiling."""

from __future__ import annotations

import weakref
from collections.abc import Mapping

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from napari_pix2pix.translation.backends.stage_runner import Stages, TorchRunner
from napari_pix2pix.translation.exact import exact_tiles
from napari_pix2pix.translation.plan import Split
from napari_pix2pix.translation.schemes import whole_tiles
from pix2pix_training.array_source import AnyArray
from pix2pix_training.choices import Architecture, Decoder, Norm, Statistics
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import UNet
from pix2pix_training.stages import StageSpec
from tests.product.translation.conftest import assembled, of_all, random_generator, random_image, stages_of

MEMORY = 1 << 30
TOLERANCE = 1e-10
"""In float64; the outputs lie in [-1, 1]."""


def unet(
    depth: int = 4,
    norm: Norm = "batch",
    architecture: Architecture = "unet",
    *,
    channels: int = 3,
    dropout: bool = False,
    statistics: Statistics = "running",
    width: int = 3,
    decoder: Decoder = "transposed",
) -> UNet:
    config = GeneratorConfig(
        architecture=architecture,
        source_channels=channels,
        target_channels=2,
        base_width=width,
        depth=depth,
        norm=norm,
        dropout="paper" if dropout else "none",
        decoder=decoder,
    )
    inference = InferenceConfig(
        statistics="image" if norm == "instance" else statistics, dropout="seeded" if dropout else "off", seed=5
    )
    network = random_generator(config, inference)
    assert isinstance(network, UNet)
    return network


def splits_at(*levels: int, tile_cells: int = 2, keep_raw: bool = False) -> tuple[Split, ...]:
    starts = (0, *levels[:-1])
    return tuple(
        Split(start=start, stop=stop, tile=tile_cells * 2 ** (stop - start), keep_raw=keep_raw)
        for start, stop in zip(starts, levels, strict=True)
    )


def whole(network: UNet, image: AnyArray) -> Tensor:
    return assembled(whole_tiles(stages_of(network), *of_all(image, network.config), 64), image)


def exact(network: UNet, image: AnyArray, splits: tuple[Split, ...], memory: int = MEMORY) -> Tensor:
    return assembled(exact_tiles(stages_of(network), *of_all(image, network.config), splits, memory), image)


def assert_exact(network: UNet, image: AnyArray, splits: tuple[Split, ...], memory: int = MEMORY) -> None:
    expected = whole(network, image)
    assert expected.std() > 0.02, "the comparison would show nothing"
    assert (exact(network, image, splits, memory) - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("statistics", ["running", "image"])
@pytest.mark.parametrize("levels", [(1,), (2,), (3,), (5,), (2, 3), (1, 2, 3, 4, 5), (2, 4)])
def test_every_split_level_and_recursion(levels: tuple[int, ...], statistics: Statistics) -> None:
    network = unet(depth=5, statistics=statistics, dropout=True)
    for keep_raw in (False, True):
        assert_exact(network, random_image(3, 101, 70), splits_at(*levels, keep_raw=keep_raw))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (37, 53), (64, 64), (300, 517)])
@pytest.mark.parametrize("statistics", ["running", "image"])
def test_every_size(size: tuple[int, int], statistics: Statistics) -> None:
    assert_exact(unet(statistics=statistics), random_image(3, *size), splits_at(2, tile_cells=16, keep_raw=True))


@pytest.mark.parametrize("architecture", ["unet", "encoder-decoder"])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("depth", [2, 3, 6, 8])
def test_every_network(depth: int, norm: Norm, architecture: Architecture) -> None:
    network = unet(depth, norm, architecture, dropout=depth > 3, statistics="image")
    levels = (1,) if depth == 2 else (2,) if depth == 3 else (2, 3, 5)
    assert_exact(network, random_image(3, 110, 130), splits_at(*levels, tile_cells=4, keep_raw=depth % 2 == 0))


@pytest.mark.parametrize("decoder", ["resize", "pixel-shuffle"])
@pytest.mark.parametrize("norm", ["batch", "batch-renorm", "instance"])
def test_every_decoder(decoder: Decoder, norm: Norm) -> None:
    network = unet(5, norm, dropout=True, decoder=decoder)
    for levels in ((1,), (3,), (2, 4)):
        assert_exact(network, random_image(3, 101, 70), splits_at(*levels))


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_every_channel_count(channels: int) -> None:
    assert_exact(unet(channels=channels), random_image(channels, 70, 40), splits_at(2))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_combination(data: st.DataObject) -> None:
    depth = data.draw(st.integers(2, 6), "depth")
    levels = sorted(data.draw(st.sets(st.integers(1, depth), min_size=1), "levels"))
    network = unet(
        depth,
        data.draw(st.sampled_from(["batch", "instance", "none"]), "norm"),
        data.draw(st.sampled_from(["unet", "encoder-decoder"]), "architecture"),
        channels=1,
        dropout=data.draw(st.booleans(), "dropout"),
        statistics=data.draw(st.sampled_from(["running", "image"]), "statistics"),
    )
    image = random_image(1, data.draw(st.integers(1, 90), "rows"), data.draw(st.integers(1, 90), "columns"))
    splits = splits_at(*levels, tile_cells=data.draw(st.integers(1, 5)), keep_raw=data.draw(st.booleans(), "keep"))
    memory = data.draw(st.sampled_from([0, 20_000, MEMORY]), "memory")
    reference = whole(network, image)
    assert (exact(network, image, splits, memory) - reference).abs().max() < TOLERANCE


def test_planes_on_disk_give_the_same_result() -> None:
    network, image = unet(statistics="image"), random_image(3, 90, 140)
    splits = splits_at(2, 3, keep_raw=True)
    difference = exact(network, image, splits, memory=0) - exact(network, image, splits)
    assert difference.abs().max() < TOLERANCE


def test_one_cell_of_halo_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison would notice a halo that is one cell too small."""
    monkeypatch.setattr("napari_pix2pix.translation.exact.even_window_around", lambda region, *_: region)
    network, image = unet(), random_image(3, 64, 64)
    assert (exact(network, image, splits_at(2, tile_cells=4)) - whole(network, image)).abs().max() > 1e-3


def test_statistics_are_those_of_each_image() -> None:
    """What one image left behind does not change the next."""
    network, splits = unet(statistics="image"), splits_at(2)
    dark, bright = random_image(3, 64, 64) // 4, random_image(3, 64, 64)
    exact(network, dark, splits)
    assert torch.equal(exact(network, bright, splits), exact(unet(statistics="image"), bright, splits))
    assert_exact(network, dark, splits)


class SmallRunner(TorchRunner):
    """Has memory for 40 x 40 pixels at a time."""

    def __init__(self, network: UNet) -> None:
        super().__init__(network)
        self.refused = 0

    def run(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        if spec.start == 0 and inputs["features"].shape[-2] * inputs["features"].shape[-1] > 40 * 40:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().run(spec, inputs)


def test_a_tile_too_large_for_the_device_is_quartered() -> None:
    network, image = unet(statistics="image"), random_image(3, 128, 96)
    runner = SmallRunner(network)
    tiles = exact_tiles(
        Stages(network=network, runner=runner), *of_all(image, network.config), splits_at(2, tile_cells=16), MEMORY
    )
    assert (assembled(tiles, image) - whole(network, image)).abs().max() < TOLERANCE
    assert runner.refused


class RememberingRunner(TorchRunner):
    """Counts which of the tiles that planes are filled with are still alive when it is asked for the next."""

    def __init__(self, network: UNet) -> None:
        super().__init__(network)
        self.given: list[weakref.ref[AnyArray]] = []
        self.most_alive = 0

    def run(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        self.most_alive = max(self.most_alive, sum(given() is not None for given in self.given))
        output = super().run(spec, inputs)
        if spec.level in (0, spec.start):
            return output
        pixels = output.numpy().copy()  # alive as long as any tensor that lies in its memory
        self.given.append(weakref.ref(pixels))
        return torch.from_numpy(pixels)


def test_no_tile_lies_in_memory_while_the_next_of_a_plane_is_computed() -> None:
    network, image = unet(), random_image(3, 128, 96)
    runner = RememberingRunner(network)
    stages = Stages(network=network, runner=runner)
    for _, output in exact_tiles(stages, *of_all(image, network.config), splits_at(1, 2), MEMORY):
        del output
    assert len(runner.given) > 10
    assert runner.most_alive == 0
