"""What values of integer images mean is decided from the values in use, and said."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pix2pix_training.array_source import AnyArray, MemorySource
from pix2pix_training.choices import Values
from pix2pix_training.class_maps import look_at
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.fitting import (
    Side,
    fit_mapping,
    warn_of_hidden_pixels,
    warn_of_lost_steps,
    warn_of_unknown_classes,
)
from pix2pix_training.image_survey import survey
from pix2pix_training.intensity import CategoryMapping, LinearMapping, Mapping, dtype_mapping, to_tensor


def discs(count: int, *, seed: int = 0, size: int = 192, radius: int = 9, numbered: bool = False) -> NDArray[np.int64]:
    """Discs of 1, or each of its own number, on 0."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    image = np.zeros((size, size), np.int64)
    for number in range(1, count + 1):
        y, x = rng.integers(0, size, 2)
        image[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = number if numbered else 1
    return image


def smooth(size: int = 192) -> NDArray[np.float64]:
    """Clouds from 0 to 1."""
    clouds = ndimage.gaussian_filter(np.random.default_rng(0).random((size, size)), 8)
    result: NDArray[np.float64] = (clouds - clouds.min()) / np.ptp(clouds)
    return result


def sources(images: Sequence[AnyArray], **changes: Any) -> list[MemorySource]:
    return [
        MemorySource(image[None] if image.ndim == 2 else image, name=f"{number}.tif", **changes)
        for number, image in enumerate(images)
    ]


def fitted(images: Sequence[AnyArray], side: Side = "target", values: Values = "auto", **changes: Any) -> Mapping:
    return fit_mapping(survey(sources(images)), values, side, **changes)


MASK = discs(12)
ROWS = np.arange(192)[:, None]
NOISE = np.random.default_rng(0).normal(0, 5, (192, 192))

CLASS_MAPS: dict[str, list[AnyArray]] = {
    "uint8 0 and 1": [MASK.astype(np.uint8)],
    "uint8 0 and 1, one image empty": [np.zeros((192, 192), np.uint8), MASK.astype(np.uint8)],
    "uint8 0 and 1, one pixel in a hundred": [(discs(1, radius=6)).astype(np.uint8)],
    "uint8 0 and 255": [(MASK * 255).astype(np.uint8)],
    "uint8 17 and 18": [(MASK + 17).astype(np.uint8)],
    "uint8 1, 2 and 3": [(MASK + (discs(8, seed=1) > 0) + 1).astype(np.uint8)],
    "uint8 0, 128 and 255": [np.array([0, 128, 255], np.uint8)[MASK + discs(8, seed=1)]],
    "bool": [MASK.astype(bool)],
    "uint16 0 and 1": [MASK.astype(np.uint16)],
    "uint16 0 and 65535": [(MASK * 65535).astype(np.uint16)],
    "int32 0 and -1": [(-MASK).astype(np.int32)],
    "uint64 0 and 1": [MASK.astype(np.uint64)],
    "big-endian": [MASK.astype(">u2")],
    "twelve classes": [np.random.default_rng(0).permutation(12)[(smooth() * 11.99).astype(int)].astype(np.uint8)],
    "classes of thin lines": [np.tile(np.where(ROWS % 20 < 2, ROWS // 20 % 5, 0), (1, 192)).astype(np.uint8)],
    "classes of lines one pixel wide": [np.tile(np.where(ROWS % 10, 0, ROWS // 10 % 6), (1, 192)).astype(np.uint8)],
    "skeletons of two classes": [(np.eye(192) + 2 * np.eye(192)[::-1] * (1 - np.eye(192))).astype(np.uint8)],
    "points of two classes": [((ROWS % 9 == 4) * (np.arange(192) % 9 == 4) * (1 + ROWS // 9 % 2)).astype(np.uint8)],
    "pixels of three classes at random": [np.random.default_rng(0).integers(1, 4, (64, 64)).astype(np.uint8)],
    "colour codes": [np.eye(3, dtype=np.uint8)[(smooth() * 2.99).astype(int)].transpose(2, 0, 1) * 200],
}


@pytest.mark.parametrize("images", CLASS_MAPS.values(), ids=CLASS_MAPS.keys())
def test_small_integer_masks_and_class_maps_are_classes_and_this_is_said(
    images: list[AnyArray], caplog: pytest.LogCaptureFixture
) -> None:
    mapping = fitted(images)
    assert isinstance(mapping, CategoryMapping)
    expected = {tuple(int(v) for v in code) for i in images for code in i.reshape(-1, 192 * 192).T} if (
        images[0].shape[-1] == 192
    ) else {(1,), (2,), (3,)}  # fmt: skip
    assert set(mapping.values) == expected
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert f"the target has {len(expected)} different" in message
    assert message.startswith("0.tif")
    assert "--target-values training-set" in message


def test_classes_drawn_on_what_holds_no_data_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """As annotations are: the background is transparent, and no class."""
    known = survey(sources([(MASK + discs(8, seed=1)).astype(np.uint8)], nodata=0))
    warn_of_hidden_pixels(fit_mapping(known, "auto", "target"), known, "target")
    share = f"{100 * known.hidden_share:.2g} %"
    assert (
        f"the target is of classes; {share} of its pixels hold no data (transparent, masked or nodata)" in caplog.text
    )
    assert "take their values with --alpha drop, or remove the nodata value" in caplog.text
    assert known.hidden_share == pytest.approx((MASK + discs(8, seed=1) == 0).mean())
    caplog.clear()
    whole = survey(sources([MASK.astype(np.uint8)]))
    warn_of_hidden_pixels(fit_mapping(whole, "auto", "target"), whole, "target")
    assert "hold no data" not in caplog.text


@pytest.mark.parametrize("values", ["auto", "foreground"])
def test_a_mask_drawn_on_what_holds_no_data_is_refused_with_the_reason(values: Values) -> None:
    with pytest.raises(ImageError, match=r"; \d+ % of its pixels hold no data .* take their values with --alpha drop"):
        fit_mapping(survey(sources([MASK.astype(np.uint8)], nodata=0)), values, "target")


def kept_as_jpeg(mask: AnyArray, quality: int) -> AnyArray:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def shrunk(mask: AnyArray, factor: int) -> AnyArray:
    size = len(mask) // factor
    means: AnyArray = mask.reshape(size, factor, size, factor).mean((1, 3)).astype(np.uint8)
    return means


BARS = np.zeros((192, 192), np.uint8)
BARS[20:70, 30:160] = BARS[90:180, 100:120] = 255

MASKS_WITH_SOFT_EDGES: dict[str, AnyArray] = {
    "JPEG": kept_as_jpeg(BARS, 75),
    "JPEG of high quality": kept_as_jpeg((MASK * 255).astype(np.uint8), 95),
    "JPEG of highest quality": kept_as_jpeg((MASK * 255).astype(np.uint8), 100),
    "JPEG of stripes": kept_as_jpeg(np.tile((ROWS % 40 < 20) * np.uint8(255), (1, 192)), 30),
    "edges shown smooth": shrunk((discs(9, size=768, radius=50) * 255).astype(np.uint8), 4),
    "edges shown smooth, few values": shrunk((discs(9, size=384, radius=25) * 255).astype(np.uint8), 2),
    "enlarged with interpolation": np.asarray(Image.fromarray(BARS).resize((250, 250), Image.Resampling.BILINEAR)),
    "blurred": ndimage.gaussian_filter(BARS, 2.0),
}


@pytest.mark.parametrize("mask", MASKS_WITH_SOFT_EDGES.values(), ids=MASKS_WITH_SOFT_EDGES.keys())
def test_the_values_at_soft_edges_of_a_mask_are_no_classes(mask: AnyArray) -> None:
    assert 3 < len(np.unique(mask)) <= 64
    assert fitted([mask]) == dtype_mapping(np.dtype(np.uint8), 1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32"])
def test_few_values_that_are_taken_as_intensities_are_told_of(caplog: pytest.LogCaptureFixture, dtype: str) -> None:
    points = (ROWS % 9 == 4) * (np.arange(192) % 9 == 4) * (1 + ROWS // 9 % 4)
    assert isinstance(fitted([points.astype(dtype)]), LinearMapping)
    assert f"--target-values dtype takes the range of {dtype}, and categories makes each value a class" in caplog.text


INTENSITIES: dict[str, tuple[list[AnyArray], tuple[float, float]]] = {
    "photograph": ([np.clip(smooth() * 255 + NOISE, 0, 255).astype(np.uint8)], (0, 255)),
    "dim and smooth": ([(smooth() * 40).astype(np.uint8)], (0, 40)),
    "dim and noisy": ([np.random.default_rng(0).poisson(20 * smooth()).astype(np.uint8)], (0, 0)),
    "dim and hardly noisy": (
        [np.clip(smooth() * 40 + 0.5 * np.random.default_rng(0).normal(size=(192, 192)), 0, None).astype(np.uint8)],
        (0, 0),
    ),
    "counts of few photons": ([np.random.default_rng(0).poisson(0.3, (192, 192)).astype(np.uint8)], (0, 0)),
    "floats of a mask": ([MASK.astype(np.float32)], (0, 1)),
    "floats of a sparse mask": ([np.where(np.arange(192 * 192).reshape(192, 192) % 5000 == 0, 255.0, 0.0)], (0, 255)),
    "dim uint16": ([(smooth() * 40).astype(np.uint16)], (0, 40)),
}


@pytest.mark.parametrize(("images", "ends"), INTENSITIES.values(), ids=INTENSITIES.keys())
def test_dim_pictures_are_intensities_of_a_range_of_their_own(
    images: list[AnyArray], ends: tuple[float, float], caplog: pytest.LogCaptureFixture
) -> None:
    mapping = fitted(images)
    assert isinstance(mapping, LinearMapping)
    low, high = ends if ends != (0, 0) else (int(images[0].min()), int(images[0].max()))
    assert (mapping.low[0], mapping.high[0]) == (low, high)
    mapped = mapping.to_network(to_tensor(images[0])[None, None])
    assert (float(mapped.min()), float(mapped.max())) == (-1, 1)
    is_said = images[0].dtype.kind == "u" and high < 64
    assert [f"the values {low:g} to {high:g} alone" in r.getMessage() for r in caplog.records] == [True] * is_said


@pytest.mark.parametrize("factor", [1e-42, 1e37])
def test_floats_that_cannot_be_computed_with_are_refused(factor: float) -> None:
    with pytest.raises(ImageError, match=r"0\.tif: values from .* cannot be computed with; multiply the images by"):
        fitted([(smooth() * 9).astype(np.float32) * np.float32(factor)])


def test_two_values_of_a_source_are_its_range(caplog: pytest.LogCaptureFixture) -> None:
    mapping = fitted([MASK.astype(np.uint8)], "source")
    assert isinstance(mapping, LinearMapping)
    assert (mapping.low, mapping.high) == ((0,), (1,))
    assert "the source uses the values 0 to 1 alone" in caplog.text
    caplog.clear()
    assert fitted([(MASK * 255).astype(np.uint8)], "source") == dtype_mapping(np.dtype(np.uint8), 1)
    assert caplog.text == ""
    assert isinstance(fitted([(MASK + discs(5, seed=3)).astype(np.uint8)], "source"), CategoryMapping)


def test_each_channel_has_its_own_range_where_it_needs_one() -> None:
    """A mask beside a picture would train to nothing in the range of 8 bits."""
    picture = np.clip(smooth() * 255 + NOISE, 0, 255)
    mapping = fitted([np.stack([MASK, picture]).astype(np.uint8)])
    assert isinstance(mapping, LinearMapping)
    assert (mapping.low, mapping.high) == ((0, 0), (1, 255))


def test_asked_values_decide(caplog: pytest.LogCaptureFixture) -> None:
    images = [MASK.astype(np.uint8)]
    assert fitted(images, values="dtype") == dtype_mapping(np.dtype(np.uint8), 1)
    linear = fitted(images, values="training-set")
    assert isinstance(linear, LinearMapping)
    assert linear.high == (1,)
    assert isinstance(fitted(images, values="categories"), CategoryMapping)
    assert caplog.text == ""


def test_indexed_images_are_classes_however_they_look() -> None:
    image = MemorySource(
        np.random.default_rng(0).integers(0, 9, (1, 32, 32), np.uint8), palette=np.eye(9, 3, dtype="u1")
    )
    assert isinstance(fit_mapping(survey([image]), "auto", "source"), CategoryMapping)


def test_values_that_are_rare_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more pixels than are looked at first, all are looked at before classes are counted."""
    monkeypatch.setattr("pix2pix_training.image_survey.MOST_COUNTED", 40_000)
    monkeypatch.setattr("pix2pix_training.image_survey._TILE_PX", 64)
    image = np.kron(np.arange(2).repeat(32)[None].repeat(64, 0), np.ones((4, 4), int)).astype(np.uint8)
    image[100, 200] = 2
    known = survey(sources([image]))
    assert not known.is_complete
    mapping = fit_mapping(known, "auto", "target")
    assert isinstance(mapping, CategoryMapping)
    assert mapping.values == ((0,), (1,), (2,))


def test_the_choice_does_not_depend_on_anything_but_the_pixels() -> None:
    images = [discs(20, seed=seed).astype(np.uint8) for seed in range(3)]
    assert fitted(images) == fitted(images) == fitted([np.asfortranarray(image) for image in images])


NUCLEI = [discs(20 + seed, seed=seed, numbered=True) for seed in range(3)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.int64])
@pytest.mark.parametrize("values", ["auto", "categories"])
def test_instance_labels_are_told_from_classes_and_foreground_is_offered(
    dtype: Any, values: Values, caplog: pytest.LogCaptureFixture
) -> None:
    mapping = fitted([image.astype(dtype) for image in NUCLEI], values=values)
    assert isinstance(mapping, CategoryMapping)
    count = len(mapping.values)
    said = caplog.records[-1].getMessage()
    assert f"the target has {count} different values, and nearly each is one connected object" in said
    assert "--target-values foreground" in said


def test_hundreds_of_instance_labels_are_told(caplog: pytest.LogCaptureFixture) -> None:
    labels = np.kron(np.arange(1, 325).reshape(18, 18), np.pad(np.ones((8, 8)), 2)).astype(np.uint16)
    assert isinstance(fitted([labels]), LinearMapping)
    assert "more than 255 different values, and nearly each is one connected object" in caplog.text
    with pytest.raises(
        ImageError, match=r"more than 255 .*look like labels that number objects.*--target-values foreg"
    ):
        fitted([labels], values="categories")


def test_classes_are_not_taken_for_instances(caplog: pytest.LogCaptureFixture) -> None:
    """Classes lie in many places; and layers of a tissue, one piece each, are the same in all images."""
    fitted(CLASS_MAPS["twelve classes"])
    layers = np.repeat(np.arange(12, dtype=np.uint8), 16)[:, None].repeat(192, 1)
    fitted([layers, np.roll(layers, 5, 0)])
    assert "connected object" not in caplog.text


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_foreground_is_labelled_or_not(dtype: Any) -> None:
    mapping = fitted([image.astype(dtype) for image in NUCLEI], values="foreground")
    assert isinstance(mapping, CategoryMapping)
    stored = to_tensor(NUCLEI[0].astype(dtype))[None, None]
    assert mapping.network_channels == 2
    back = mapping.from_network(mapping.to_network(stored))
    assert back.dtype is to_tensor(np.zeros(1, np.uint8)).dtype
    assert np.array_equal(back[0, 0].numpy(), NUCLEI[0] > 0)


def test_foreground_that_cannot_be_is_refused() -> None:
    with pytest.raises(SettingsError, match="foreground is for targets"):
        fitted(NUCLEI, "source", "foreground")
    with pytest.raises(ImageError, match="no target pixel is 0"):
        fitted([MASK.astype(np.uint8) + 1], values="foreground")
    with pytest.raises(ImageError, match="has 2 channels; foreground needs labels of one channel"):
        fitted([np.stack([MASK, MASK]).astype(np.uint8)], values="foreground")


def test_classes_that_are_held_out_alone_are_said(caplog: pytest.LogCaptureFixture) -> None:
    mapping = fitted([(MASK * 3).astype(np.uint8)], values="categories")
    held_out = survey(sources([(MASK * 3).astype(np.uint8), (discs(4, numbered=True) + 4).astype(np.uint8)]))
    warn_of_unknown_classes(mapping, held_out, "target")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "1.tif: 5 values occur in no target image that is trained on (4, 5, 6, 7, 8)" in caplog.text
    caplog.clear()
    warn_of_unknown_classes(fitted(NUCLEI, values="foreground"), held_out, "target")
    assert caplog.text == ""


def test_a_model_to_start_from_decides_what_kind_of_values_there_are() -> None:
    images = [MASK.astype(np.uint8)]
    eight_bit = dtype_mapping(np.dtype(np.uint8), 1)
    assert fitted(images, start=eight_bit) == eight_bit
    three = CategoryMapping(dtype="uint8", values=((0,), (1,), (2,)))
    assert fitted(images, start=three) is three
    assert fitted([(MASK * 5).astype(np.uint8)], start=three) != three


def test_planes_with_their_neighbours_are_no_classes() -> None:
    image = np.stack([MASK, discs(3), discs(4)]).astype(np.uint8)
    assert isinstance(fitted([image], "source"), CategoryMapping)
    assert isinstance(fitted([image], "source", may_be_classes=False), LinearMapping)


def test_integers_that_span_more_than_a_network_tells_apart_are_said(caplog: pytest.LogCaptureFixture) -> None:
    known = survey(sources([(smooth() * 4e9).astype(np.uint32)]))
    with caplog.at_level(logging.WARNING):
        warn_of_lost_steps(fit_mapping(known, "dtype", "target"), known, "target")
    assert caplog.messages == [
        "0.tif: the target has uint32 values that span so much that the network tells steps of about 256 apart; "
        "save it as a smaller type, or choose --target-values training-set"
    ]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        warn_of_lost_steps(fit_mapping(known, "training-set", "target"), known, "target")
    assert caplog.messages[0].endswith("apart; save it as a smaller type")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        narrow = survey(sources([(smooth() * 1e6).astype(np.uint32)]))
        warn_of_lost_steps(fit_mapping(narrow, "training-set", "target"), narrow, "target")
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("drawn", "is_whole"),
    [
        (["1....", ".1...", "..1..", "...1.", "....1"], True),
        (["111.1", "1...1", "1...1", "1...1", "1..11"], False),
        (["11...", "11...", ".....", "...11", "...11"], False),
    ],
    ids=["joined at corners", "two that span each other", "two apart"],
)
def test_an_object_is_what_hangs_together(drawn: list[str], is_whole: bool) -> None:
    image = np.array([[value == "1" for value in row] for row in drawn], np.uint8)
    assert look_at(sources([np.kron(image, np.ones((8, 8), np.uint8))])).whole == is_whole
