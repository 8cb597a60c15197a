"""From stored pixels to stored pixels."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from napari_pix2pix.translation.pipeline import translate, translate_array
from napari_pix2pix.translation.planner import make_plan
from napari_pix2pix.translation.progress import ended, told
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.sinks import ArraySink
from napari_pix2pix.translation.translator import OutputTile, Translator
from pix2pix_training.array_source import AnyArray, ArraySource, MemorySource, plane_size
from pix2pix_training.errors import ImageError, Pix2PixError, SettingsError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import CategoryMapping, LinearMapping, image_mapping
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.regions import Region
from tests.product.translation.conftest import random_image, random_model

CONFIG = GeneratorConfig(base_width=4, depth=4, source_channels=2, target_channels=3)
EXACT = TranslationSettings(scheme="exact", tile=32)
WHOLE = TranslationSettings(scheme="whole")


def tiles_of(source: ArraySource, model: Model, settings: TranslationSettings) -> Generator[OutputTile, None, None]:
    translator = Translator(model, settings)
    fitted = translator.fit(source)
    return translator.tiles(fitted, plan=translator.plan(plane_size(fitted)))


def model_of(config: GeneratorConfig = CONFIG, dtype: str = "uint8", **inference: Any) -> Model:
    return random_model(config, InferenceConfig(**inference), dtype=dtype)


@pytest.mark.parametrize("statistics", ["running", "image"])
def test_exact_tiles_give_the_pixels_of_the_whole_image(statistics: str) -> None:
    """8-bit results differ only where the float result lies within 1e-4 of a rounding boundary."""
    model, image = model_of(statistics=statistics), random_image(2, 137, 91)
    whole, exact = (translate_array(image, model, choice) for choice in (WHOLE, EXACT))
    in_floats = replace(model, target=ImageDescription(mapping=LinearMapping(
        dtype="float32", scope="dtype", channels=3, low=(0,) * 3, high=(255,) * 3)))  # fmt: skip
    unrounded = translate_array(image, in_floats, WHOLE)
    near_boundary = np.abs(unrounded % 1 - 0.5) < 255 / 2 * 1e-4
    assert whole.shape == (3, 137, 91)
    assert whole.dtype == np.uint8
    assert whole.std() > 5
    np.testing.assert_array_equal(exact[~near_boundary], whole[~near_boundary])
    np.testing.assert_allclose(translate_array(image, in_floats, EXACT), unrounded, atol=255 / 2 * 1e-4)


def test_planes_are_translated_one_by_one_in_storage_order() -> None:
    model, stack = model_of(), np.stack([random_image(2, 40, 50, seed=s) for s in range(6)]).reshape(2, 3, 2, 40, 50)
    source = MemorySource(stack, axes="TZCYX")
    tiles = list(tiles_of(source, model, EXACT))
    assert list(dict.fromkeys(plane for plane, _, _ in tiles)) == [(t, z) for t in range(2) for z in range(3)]
    result = translate_array(stack, model, EXACT, axes="TZCYX")
    np.testing.assert_array_equal(result[1, 2], translate_array(stack[1, 2], model, EXACT))


def test_progress_counts_all_tiles() -> None:
    calls: list[tuple[int, int]] = []
    source, translator = MemorySource(random_image(2, 70, 40)), Translator(model_of(), EXACT)
    ended(translate(source, translator, ArraySink()), told(lambda done, total: calls.append((done, total))))
    assert calls == [(n + 1, 3 * 2) for n in range(3 * 2)]


@pytest.mark.parametrize(("target", "expected"), [("float32", np.nan), ("uint8", 0)])
def test_invalid_pixels_stay_invalid_and_spoil_nothing(target: str, expected: float) -> None:
    model = replace(model_of(dtype="float32"), target=model_of(dtype=target).target)
    image = random_image(2, 100, 90, "float32")
    image[0, 10:20, 30:35] = np.nan
    image[1, 50, 60] = np.inf
    result = translate_array(image, model, EXACT)
    invalid = ~np.isfinite(image).all(0)
    np.testing.assert_array_equal(result[:, invalid], np.full((3, invalid.sum()), expected, target))
    assert np.isfinite(result[:, ~invalid]).all()
    np.testing.assert_allclose(result, translate_array(image, model, WHOLE), atol=1 if target == "uint8" else 1e-4)


def test_nodata_is_restored_where_the_target_can_hold_it() -> None:
    image = random_image(2, 50, 40)
    image[:, :20, :10] = 255
    assert (translate_array(image, model_of(), EXACT, nodata=255)[:, :20, :10] == 255).all()
    as_they_are = replace(EXACT, convert_values="values")
    assert (translate_array(image.astype(np.int16), model_of(), as_they_are, nodata=-9999) >= 0).all()


def test_an_image_without_a_valid_pixel_is_refused() -> None:
    with pytest.raises(ImageError, match="not one valid pixel"):
        translate_array(np.full((2, 20, 20), np.nan, np.float32), model_of(dtype="float32"), EXACT)


def test_per_image_intensities_do_not_depend_on_tiles() -> None:
    model = replace(model_of(), source=ImageDescription(mapping=image_mapping(np.dtype("uint16"), 2)))
    image = random_image(2, 90, 70).astype(np.uint16) * 16
    whole, exact = (translate_array(image, model, choice).astype(int) for choice in (WHOLE, EXACT))
    assert np.abs(whole - exact).max() <= 1
    assert (whole != exact).mean() < 1e-3
    np.testing.assert_array_equal(translate_array(image * 2, model, EXACT), translate_array(image, model, EXACT))


def test_channels_must_be_those_of_the_model() -> None:
    model = model_of()
    named = replace(model, source=replace(model.source, channel_names=("DAPI", "actin")))
    with pytest.raises(ImageError, match=r"array has 1 channel, the model expects 2 \(DAPI, actin\)"):
        tiles_of(MemorySource(random_image(1, 20, 20)), named, EXACT)


def test_categories_come_out_as_stored_values() -> None:
    mapping = CategoryMapping(dtype="uint8", values=((3,), (7,), (200,)))
    model = replace(model_of(), target=ImageDescription(mapping=mapping))
    result = translate_array(random_image(2, 60, 50), model, EXACT)
    assert result.shape == (1, 60, 50)
    assert set(np.unique(result)) <= {3, 7, 200}
    assert len(np.unique(result)) > 1


NOISY = replace(CONFIG, dropout="paper")


def test_seeds_change_the_noise_and_tiles_do_not() -> None:
    model, image = model_of(NOISY, "float32", dropout="seeded"), random_image(2, 70, 60, "float32")
    first, again, other = (
        translate_array(image, model, choice) for choice in (EXACT, replace(WHOLE, tile=16), replace(EXACT, seed=9))
    )
    np.testing.assert_allclose(first, again, atol=1e-4)
    assert np.abs(first - other).mean() > 1e-3


def test_dropout_samples_give_mean_and_standard_deviation() -> None:
    model, image = model_of(NOISY, dropout="seeded", seed=4), random_image(2, 70, 60)
    floats = replace(model, target=ImageDescription(mapping=LinearMapping(
        dtype="float32", scope="dtype", channels=3, low=(0,) * 3, high=(255,) * 3)))  # fmt: skip
    samples = [translate_array(image, floats, replace(EXACT, seed=seed)) for seed in (4, 5, 6)]
    result = translate_array(image, model, replace(EXACT, dropout_samples=3))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[:3], np.mean(samples, 0), atol=0.05)
    np.testing.assert_allclose(result[3:], np.std(samples, 0, ddof=1), atol=0.05)


def test_half_precision_comes_close() -> None:
    model, image = model_of(statistics="image"), random_image(2, 90, 70)
    full = translate_array(image, model, EXACT).astype(int)
    half = translate_array(image, model, replace(EXACT, precision="bf16")).astype(int)
    assert 0 < np.abs(full - half).mean() < 4


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_running_out_of_memory_names_the_setting(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("pix2pix_training.stages.Stage.forward", fail)
    with pytest.raises(Pix2PixError, match=r"memory ran out.*max_memory"):
        translate_array(random_image(2, 40, 40), model_of(), EXACT)


class _FailingSource(MemorySource):
    def read(self, region: Region, plane: tuple[int, ...] = ()) -> AnyArray:
        if region.y0 > 40:
            raise ImageError("the file is damaged")
        return super().read(region, plane)


def test_threads_end_when_reading_fails_and_when_the_caller_stops() -> None:
    with pytest.raises(ImageError, match="damaged"):
        list(tiles_of(_FailingSource(random_image(2, 128, 64)), model_of(), EXACT))
    tiles = tiles_of(MemorySource(random_image(2, 128, 64)), model_of(), EXACT)
    next(tiles)
    tiles.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(SettingsError, match="device"):
        Translator(model_of(), TranslationSettings(device="tpu"))


def test_hardly_any_memory_gives_the_same_result() -> None:
    """The planes go to disk, and the deep part is split too."""
    model, image = model_of(statistics="image"), random_image(2, 600, 460)
    settings = TranslationSettings(max_memory=3 * 2**19, split_level=2)
    plan = make_plan((600, 460), CONFIG, model.inference, settings, 3 * 2**19)
    assert plan.scheme == "exact"
    assert plan.working_set_bytes <= 3 * 2**19
    assert plan.planes_on_disk
    difference = translate_array(image, model, settings).astype(int) - translate_array(image, model, WHOLE)
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 1e-3


@pytest.mark.parametrize(("backend", "least"), [("torch", 0), ("openvino", 300 << 20)])
def test_memory_is_left_for_the_backend_and_for_rows_that_wait_for_the_file(backend: Any, least: int) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    settings = TranslationSettings(scheme="exact", backend=backend, max_memory=1 << 30, region=1 << 16)
    rows, columns = 30_000, 20_000
    plan = Translator(model_of(), settings).plan((rows, columns))
    waiting = 2048 * columns * 3
    assert plan.planes_on_disk  # so that all the memory that is allowed is used
    assert (1 << 29) <= plan.working_set_bytes <= (1 << 30) - waiting - least


def test_resnets_need_a_few_pixels() -> None:
    config = replace(CONFIG, architecture="resnet", blocks=1)
    with pytest.raises(ImageError, match="too few"):
        translate_array(random_image(2, 3, 30), model_of(config), WHOLE)
    assert translate_array(random_image(2, 5, 5), model_of(config), WHOLE).shape == (3, 5, 5)
    assert torch.is_inference_mode_enabled()
