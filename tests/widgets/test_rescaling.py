"""The offer to rescale a layer whose pixels have another size than those that the model was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_pix2pix import load_model, translate_file
from napari_pix2pix.formats import open_image
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.array_source import AnyArray, whole_plane
from pix2pix_training.model_file import save_model
from tests.widgets.conftest import WaitUntil
from tests.widgets.test_translate_widget import assert_same_place

PLACE: dict[str, Any] = {
    "scale": (250.0, 500.0),
    "translate": (1010.0, -3.5),
    "rotate": 30.0,
    "units": ("nm", "nm"),
    "axis_labels": ("y", "x"),
}


@pytest.fixture
def model(grey_model: Path) -> Path:
    """Trained at 1 µm."""
    trained = load_model(grey_model)
    save_model(replace(trained, source=replace(trained.source, pixel_size=(1.0, 1.0), unit="µm")), grey_model)
    return grey_model


@pytest.fixture
def cells(viewer: Any, rng: np.random.Generator) -> Any:
    """A layer of 0.25 x 0.5 µm per pixel."""
    image = np.kron(rng.integers(0, 256, (16, 20), np.uint8), np.ones((8, 4), np.uint8))
    return viewer.add_image(image, name="cells", metadata={"sample": 7}, **PLACE)


@pytest.fixture
def ready(translate: Any, cells: Any, model: Path, wait_until: WaitUntil) -> Any:
    """The Translate widget with the model and the layer."""
    translate.set_model(model)
    translate.picker.choose([cells])
    wait_until(lambda: translate.translate_button.isEnabled())
    return translate


@pytest.fixture
def as_file(cells: Any, model: Path, tmp_path: Path) -> AnyArray:
    """What ``translate --match-pixel-size`` makes of the same pixels."""
    per_cm = (1e7 / 500, 1e7 / 250)
    tifffile.imwrite(tmp_path / "cells.tif", cells.data, resolution=per_cm, resolutionunit="CENTIMETER")
    settings = TranslationSettings(match_pixel_size=True)
    translate_file(tmp_path / "cells.tif", load_model(model), tmp_path / "out.tif", settings)
    with open_image(tmp_path / "out.tif") as out:
        pixels: AnyArray = out.read(whole_plane(out))[0]
        return pixels


def test_it_is_offered_where_pixel_sizes_differ(
    viewer: Any, ready: Any, model: Path, cells: Any, wait_until: WaitUntil
) -> None:
    assert ready.rescale.isVisibleTo(ready)
    assert "Pixels are 250 x 500 nm, the model was trained on 1 µm." in ready.fit.text()
    assert "match_pixel_size" not in ready.options()
    ready.rescale.setChecked(True)
    assert "rescaled for it" in ready.fit.text()
    assert ready.options()["match_pixel_size"] is True
    equal = viewer.add_image(cells.data, scale=(1000, 1000), units=("nm", "nm"))
    ready.picker.choose([equal])
    assert not ready.rescale.isVisibleTo(ready)
    assert ready.options() == {}
    ready.picker.choose([viewer.add_image(cells.data)])  # counts in pixels
    assert not ready.rescale.isVisibleTo(ready)


@pytest.mark.parametrize("into_file", [False, True])
def test_result_has_the_grid_of_the_source(
    viewer: Any, ready: Any, cells: Any, as_file: AnyArray, tmp_path: Path, wait_until: WaitUntil, into_file: bool
) -> None:
    ready.rescale.setChecked(True)
    out = tmp_path / "cells.ome.zarr"
    if into_file:
        ready.destination.choose(True)
        ready.out.set_path(out)
    ready.translate_button.click()
    wait_until(lambda: not ready.is_running)
    assert ready.state.text().startswith("done")
    output = viewer.layers[-1]
    np.testing.assert_array_equal(np.asarray(output.data[0] if output.multiscale else output.data), as_file)
    assert_same_place(output, cells)
    assert output.metadata["sample"] == 7
    assert output.metadata["napari-pix2pix"]["options"] == {"match_pixel_size": True}
    if into_file:
        with open_image(out) as stored:
            assert (stored.metadata.pixel_size, stored.metadata.unit) == ((250, 500), "nm")


def test_current_view_lies_in_place(viewer: Any, ready: Any, cells: Any, wait_until: WaitUntil) -> None:
    ready.rescale.setChecked(True)
    cells.corner_pixels = np.array([[16, 8], [79, 71]])
    ready.part.kind.choose("view")
    ready.translate_button.click()
    wait_until(lambda: not ready.is_running)
    output = viewer.layers[-1]
    assert output.data.shape == (64, 64)
    np.testing.assert_allclose(output.data_to_world((0, 0)), cells.data_to_world((16, 8)))
    np.testing.assert_allclose(output.data_to_world((63, 63)), cells.data_to_world((79, 71)))


@pytest.mark.parametrize("into_file", [False, True])
def test_cancelled_leaves_nothing(
    viewer: Any,
    ready: Any,
    cells: Any,
    tmp_path: Path,
    wait_until: WaitUntil,
    slow_layers: Callable[[], list[float]],
    into_file: bool,
) -> None:
    ready.rescale.setChecked(True)
    if into_file:
        ready.destination.choose(True)
        ready.out.set_path(tmp_path / "results" / "cells.ome.zarr")
        (tmp_path / "results").mkdir()
    started = slow_layers()
    ready.translate_button.click()
    wait_until(lambda: bool(started))
    ready.cancel_button.click()
    assert ready.state.text() == "cancelling…"
    wait_until(lambda: not ready.is_running, 20)
    assert ready.state.text() == "cancelled"
    assert list(viewer.layers) == [cells]
    if into_file:
        assert list((tmp_path / "results").iterdir()) == []
