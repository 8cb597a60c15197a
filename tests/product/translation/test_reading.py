"""Each pixel of an image is read as often as the scheme needs it, and no more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_pix2pix.translation.padded_image import SeenOpacity
from napari_pix2pix.translation.region_grid import even_window_around
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import AnyArray, MemorySource
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.regions import Region
from tests.product.translation.conftest import random_image, random_model


class CountingSource(MemorySource):
    """Counts for each pixel how often it is read."""

    def __init__(self, array: AnyArray, **kind: Any) -> None:
        super().__init__(array, **kind)
        self.reads: NDArray[np.int64] = np.zeros((*array.shape[:-3], *array.shape[-2:]), np.int64)

    def read(self, region: Region, plane: tuple[int, ...] = ()) -> AnyArray:
        index: tuple[Any, ...] = (*plane, *region.slices)
        self.reads[index] += 1
        return super().read(region, plane)


WHOLE = TranslationSettings(scheme="whole")
EXACT = TranslationSettings(scheme="exact", tile=32)
BLEND = TranslationSettings(scheme="blend", tile=64)
UNET = GeneratorConfig(base_width=4, depth=4, source_channels=1, target_channels=1)
RESNET = GeneratorConfig(base_width=4, architecture="resnet", blocks=1, source_channels=1, target_channels=1)


def _reads(config: GeneratorConfig, settings: TranslationSettings, dtype: str, **inference: Any) -> NDArray[np.int64]:
    source = CountingSource(random_image(1, 150, 170, dtype))
    list(Translator(random_model(config, InferenceConfig(**inference), dtype=dtype), settings).tiles(source))
    return source.reads


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_the_whole_image_is_read_once(dtype: str) -> None:
    assert (_reads(UNET, WHOLE, dtype) == 1).all()


@pytest.mark.parametrize("settings", [EXACT, BLEND])
@pytest.mark.parametrize("config", [UNET, RESNET])
@pytest.mark.parametrize("statistics", ["running", "image"])
def test_reals_are_read_as_often_as_integers(
    config: GeneratorConfig, settings: TranslationSettings, statistics: str
) -> None:
    if statistics == "running" and config is RESNET:
        pytest.skip("the same path")
    integers = _reads(config, settings, "uint8", statistics=statistics)
    np.testing.assert_array_equal(_reads(config, settings, "float32", statistics=statistics), integers)


def test_exact_tiles_are_read_as_often_as_the_plan_says() -> None:
    """Once for the encoder and once for the decoder, with what lies around the tiles."""
    source = CountingSource(random_image(1, 160, 176, "float32"))
    translator = Translator(random_model(UNET, InferenceConfig(), dtype="float32"), EXACT)
    plan = translator.plan((160, 176))
    list(translator.tiles(source, plan=plan))
    split, everything = plan.splits[0], Region.whole(*plan.padded_size)
    expected: NDArray[np.int64] = np.zeros((160, 176), np.int64)
    for tile in everything.tiles(split.tile):
        window = even_window_around(tile, split.cell, everything, split.tile)
        expected[window.slices] += 2
    np.testing.assert_array_equal(source.reads, expected)


def test_planes_with_invalid_pixels_are_not_read_again_for_what_fills_them() -> None:
    stack = random_image(3, 64, 48, "float32")[:, None]
    stack[1, 0, 10:20, 5:9] = np.nan
    source = CountingSource(stack, axes="ZCYX")
    model = random_model(UNET, InferenceConfig(statistics="image"), dtype="float32")
    list(Translator(model, WHOLE).tiles(source))
    assert [int(plane.max()) for plane in source.reads] == [1, 1, 1]


def test_what_was_seen_of_windows_is_known_of_regions_in_them() -> None:
    opacity = np.full((20, 30), 255, np.uint8)
    opacity[3:5, 7:20] = 0
    seen = SeenOpacity()
    seen.add(Region(0, 20, 0, 15), None)
    seen.add(Region(0, 20, 10, 40), None)
    seen.add(Region(20, 40, 10, 40), opacity)
    assert seen.of(Region(2, 18, 0, 40)) is None
    found = seen.of(Region(21, 30, 11, 21))
    assert found is not None
    np.testing.assert_array_equal(found, opacity[1:10, 1:11])
    for unknown in (Region(2, 21, 0, 15), Region(20, 30, 0, 20), Region(50, 60, 0, 2)):
        with pytest.raises(KeyError):
            seen.of(unknown)


def test_what_takes_more_than_its_share_of_memory_is_forgotten() -> None:
    seen = SeenOpacity(most_bytes=0)
    seen.add(Region(0, 8, 0, 8), np.zeros((8, 8), np.uint8))
    with pytest.raises(KeyError):
        seen.of(Region(0, 8, 0, 8))
