"""Layers that are to be one image, or a pair, and do not lie on each other: words, and a tick to go on all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_pix2pix._widgets.layer_places import misplaced_among
from tests.widgets.conftest import WaitUntil, trained_on

PLACE: dict[str, Any] = {"scale": (0.5, 0.5), "units": ("um", "um")}


def layer(name: str = "a", shape: tuple[int, ...] = (96, 128), **place: Any) -> Any:
    image = pytest.importorskip("napari.layers").Image
    return image(np.zeros(shape, np.uint8), name=name, **place)


def words(first: Any, other: Any, axis: int | None = None, other_axis: int | None = None) -> str:
    return " ".join(each.words for each in misplaced_among([([first], axis), ([other], other_axis)]))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, "b has no scale, its pixels are taken for those of a"),
        ({**PLACE, "scale": (0.25, 0.25)}, "scale 0.5, 0.5 and 0.25, 0.25"),
        ({**PLACE, "translate": (0, 16)}, "32 pixels apart (translate 0, 0 and 0, 16)"),
        ({**PLACE, "rotate": 20.0}, "rotate"),
        ({**PLACE, "shear": (0.2,)}, "shear 0 and 0.2"),
        ({**PLACE, "affine": np.diag([2.0, 1.0, 1.0])}, "affine"),
        ({"scale": (0.5, 0.5), "units": ("mm", "mm")}, "units micrometer and millimeter"),
        ({"translate": (0, 128)}, "translate"),
    ],
)
def test_layers_at_different_places_are_told(other: dict[str, Any], said: str) -> None:
    assert said in words(layer("a", **PLACE), layer("b", **other))


@pytest.mark.parametrize(
    "other",
    [
        PLACE,
        {**PLACE, "translate": (0.1, 0.1)},
        {"scale": (500, 500), "units": ("nm", "nm")},
        {"scale": (0.5, 0.5)},
    ],
    ids=["equal", "less than half a pixel", "another unit", "without a unit"],
)
def test_layers_that_lie_on_each_other_are_not(other: dict[str, Any]) -> None:
    assert words(layer("a", **PLACE), layer("b", **other)) == ""


def test_a_shift_along_z_counts_and_one_along_the_channels_does_not() -> None:
    stack = {"shape": (3, 96, 128), "scale": (2, 1, 1)}
    assert "translate" in words(layer("a", **stack), layer("b", **stack, translate=(2, 0, 0)))
    channels = layer("b", shape=(2, 96, 128), translate=(9, 0, 0), axis_labels=("c", "y", "x"))
    assert words(layer("a", translate=(0, 0)), channels, None, 0) == ""


def test_channels_at_different_places_are_no_image_without_a_word(
    viewer: Any, translate: Any, wait_until: WaitUntil, rgb_model: Path, rng: np.random.Generator
) -> None:
    images = rng.integers(0, 256, (3, 40, 48), np.uint8)
    layers = [viewer.add_image(image, name=name, **PLACE) for image, name in zip(images, "abc", strict=True)]
    layers[2].translate = (0, 8)
    translate.set_model(rgb_model)
    translate.picker.choose(layers)
    wait_until(lambda: translate.model.card is not None)
    assert translate.fit.text().startswith("c does not lie on a, up to 16 pixels apart (translate 0, 0 and 0, 8)")
    assert translate.fit.kind == "error"
    assert not translate.translate_button.isEnabled()
    translate.same_pixels.setChecked(True)
    assert translate.fit.kind == "warning"
    assert "c does not lie on a" in translate.fit.text()
    assert translate.translate_button.isEnabled()
    layers[1].translate = (4, 0)
    assert not translate.same_pixels.isChecked(), "what was ticked was about other places"
    for moved in layers[1:]:
        moved.translate = (0, 0)
    assert translate.same_pixels.isHidden()
    assert translate.fit.kind == "plain"
    assert translate.translate_button.isEnabled()


def test_a_pair_at_different_places_is_not_trained_on_without_a_word(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil
) -> None:
    pair[1].translate = (3, 0)
    message = train.images.message
    assert "stain does not lie on phase, up to 6 pixels apart" in message.text()
    assert not train.train_button.isEnabled()
    train.images.same_pixels.setChecked(True)
    assert message.kind == "warning"
    assert trained_on(train, pair[0], pair[1], wait_until).training["step"] == 2


def test_a_target_without_a_scale_is_said_and_taken(
    viewer: Any, train: Any, pair: list[Any], wait_until: WaitUntil
) -> None:
    plain = viewer.add_labels((np.asarray(pair[0].data) > 127).astype(np.uint8), name="mask")
    train.choose_layers(pair[:1], [plain])
    assert "mask has no scale, its pixels are taken for those of phase." in train.images.message.text()
    assert train.images.message.kind == "warning"
    wait_until(train.train_button.isEnabled)
