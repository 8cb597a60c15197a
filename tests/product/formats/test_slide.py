"""Slides through OpenSlide, and one line where it is not installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_pix2pix.formats.source import open_image
from napari_pix2pix.formats.writing import output_suffix, resolve_format
from pix2pix_training.array_source import whole_plane
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region


@pytest.fixture
def pixels() -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 256, (300, 410, 3), np.uint8)


@pytest.fixture
def slide(tmp_path: Path, pixels: NDArray[Any]) -> Path:
    """A generic tiled TIFF, which OpenSlide reads too, by the name of a slide."""
    path = tmp_path / "a.svs"
    tifffile.imwrite(
        path, pixels, tile=(128, 128), photometric="rgb", compression="deflate", resolution=(20_000, 40_000),
        resolutionunit="CENTIMETER", metadata=None,
    )  # fmt: skip
    return path


def test_slide_is_read_at_full_resolution(slide: Path, pixels: NDArray[Any]) -> None:
    pytest.importorskip("openslide")
    with open_image(slide) as source:
        assert (source.axes, source.shape, source.dtype.name) == ("CYX", (3, 300, 410), "uint8")
        np.testing.assert_array_equal(source.read(whole_plane(source)), np.moveaxis(pixels, -1, 0))
        part = source.read(Region(120, 131, 250, 270))
        np.testing.assert_array_equal(part, np.moveaxis(pixels, -1, 0)[:, 120:131, 250:270])
        found = source.metadata
        assert resolve_format(Path("out"), "same", source) == "ome-tiff"
    assert (found.pixel_size, found.unit, found.rgb) == ((0.25, 0.5), "µm", True)
    assert ("make", "generic-tiff") in found.acquisition
    assert output_suffix("ome-tiff", slide) == ".ome.tif"


def test_without_openslide(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(ImageError, match=r'needs OpenSlide: pip install "napari-pix2pix\[slides\]"'):
        open_image(slide)


def test_no_slide(tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    (tmp_path / "a.ndpi").write_bytes(b"II*\0 and nothing more")
    with pytest.raises(ImageError, match="not a whole-slide image that OpenSlide knows"):
        open_image(tmp_path / "a.ndpi")
