"""What of a layer is on the screen: in full resolution, and in that of the screen."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pix2pix._widgets.views import ReducedSource, Screen, shown_source, view_extent, view_of
from pix2pix_training.array_source import MemorySource, whole_plane
from pix2pix_training.errors import ImageError
from tests.widgets.stand_ins import Layer


def screen(
    corners: list[list[int]],
    *,
    level: int = 0,
    downsampling: tuple[float, ...] | None = None,
    point: tuple[float, ...] | None = None,
    pixels: float = 1.0,
) -> Screen:
    first, last = corners
    return Screen(
        corners=(tuple(first), tuple(last)),
        level=level,
        downsampling=downsampling or (1.0,) * len(first),
        point=point or (0.0,) * len(first),
        pixels_per_screen_pixel=pixels,
    )


def test_extent_is_in_pixels_of_full_resolution() -> None:
    layer = Layer(np.zeros((7, 400, 600), np.uint8), ("z", "y", "x"))
    shown = screen([[0, 10, 20], [0, 39, 200]], downsampling=(1, 4, 4), point=(3.4, 0, 0))
    assert view_extent(layer, shown, None) == ((3, 4), (40, 160), (80, 600))


def test_view_beside_the_layer_is_refused() -> None:
    layer = Layer(np.zeros((40, 60), np.uint8), ("y", "x"))
    for function in (view_extent, view_of):
        with pytest.raises(ImageError, match="nothing of it is on the screen"):
            function(layer, screen([[0, 60], [39, 80]]), None)


def test_view_of_a_coarse_level() -> None:
    coarse = np.arange(7 * 100 * 150).reshape(7, 100, 150)
    layer = Layer([np.zeros((7, 400, 600), np.uint8), coarse], ("z", "y", "x"), multiscale=True)
    shown = screen([[0, 10, 20], [0, 39, 200]], level=1, downsampling=(1, 4, 4), point=(3, 0, 0), pixels=1.3)
    view = view_of(layer, shown, None)
    assert (view.extent, view.step) == (((3, 4), (10, 40), (20, 150)), 1)
    assert view.origin == (3, 40, 80)
    assert view.factors == (1, 4, 4)
    source = shown_source([layer], None, view)
    np.testing.assert_array_equal(source.read(whole_plane(source), (0,))[0], coarse[3, 10:40, 20:150])


def test_view_of_more_pixels_than_the_screen_has_is_averaged() -> None:
    image = np.arange(40 * 64, dtype=np.float32).reshape(40, 64)
    layer = Layer(image, ("y", "x"))
    view = view_of(layer, screen([[8, 16], [39, 63]], pixels=4.2), None)
    assert (view.step, view.factors, view.origin) == (4, (4, 4), (9.5, 17.5))
    source = shown_source([layer], None, view)
    assert source.shape == (1, 8, 12)
    expected = image[8:40, 16:64].reshape(8, 4, 12, 4).mean((1, 3))
    np.testing.assert_allclose(source.read(whole_plane(source))[0], expected)


def test_reduced_image_does_not_depend_on_its_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_pix2pix._widgets import views

    image = np.random.default_rng(0).integers(0, 60_000, (2, 3, 45, 30), np.uint16)
    results = []
    for pixels in (2**24, 1):
        monkeypatch.setattr(views, "_STRIP_PIXELS", pixels)
        reduced = ReducedSource(MemorySource(image), 4)
        assert reduced.shape == (2, 3, 12, 8)
        results.append(reduced.read(whole_plane(reduced), (1,)))
    np.testing.assert_array_equal(results[0], results[1])


def test_categories_are_not_averaged() -> None:
    reduced = ReducedSource(MemorySource(np.array([[1, 9], [9, 9]], np.uint8)), 2, average=False)
    assert reduced.read(whole_plane(reduced)).tolist() == [[[1]]]
