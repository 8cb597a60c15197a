"""Files of microscope makers: through bioio where it is installed, else one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_pix2pix.formats.bioio_source import open_series, open_source
from napari_pix2pix.formats.source import open_image
from pix2pix_training.array_source import ArraySource
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region

AnyArray = NDArray[Any]
Pixels = Callable[[ArraySource], AnyArray]


@pytest.mark.parametrize(
    ("name", "beginning"), [("a.czi", b"ZISRAWFILE"), ("a.nd2", b"\xda\xce\xbe\n"), ("a.lif", b"p\0\0\0")]
)
def test_without_bioio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, beginning: bytes) -> None:
    (tmp_path / name).write_bytes(beginning + bytes(100))
    monkeypatch.setitem(sys.modules, "bioio", None)
    with pytest.raises(ImageError, match=r'its reader for \..* files: pip install "napari-pix2pix\[bioio\]"'):
        open_image(tmp_path / name)


def test_stack_with_channels(tmp_path: Path, pixels_of: Pixels) -> None:
    pytest.importorskip("bioio_ome_tiff", reason="needs bioio with a reader of OME-TIFF")
    array = np.random.default_rng(0).integers(0, 2**16, (2, 3, 2, 40, 50), np.uint16)
    metadata = {
        "axes": "TZCYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0,
        "Channel": {"Name": ["DAPI", "GFP"]},
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "a.ome.tif", array, photometric="minisblack", metadata=metadata)
    with open_source(tmp_path / "a.ome.tif") as source:
        assert (source.axes, source.shape, source.dtype.name) == ("TZCYX", array.shape, "uint16")
        np.testing.assert_array_equal(pixels_of(source), array)
        np.testing.assert_array_equal(source.read(Region(3, 9, 20, 41), (1, 2)), array[1, 2, :, 3:9, 20:41])
        found = source.metadata
    assert (found.pixel_size, found.z_spacing, found.unit) == ((0.5, 0.25), 2.0, "µm")
    assert (found.channel_names, found.file_format) == (("DAPI", "GFP"), "bioio")


def test_colours_are_channels(tmp_path: Path, pixels_of: Pixels) -> None:
    pytest.importorskip("bioio_ome_tiff", reason="needs bioio with a reader of OME-TIFF")
    array = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", array, photometric="rgb", metadata={"axes": "YXS"})
    with open_source(tmp_path / "a.ome.tif") as source:
        assert (source.axes, source.shape, source.metadata.rgb) == ("CYX", (3, 40, 50), True)
        np.testing.assert_array_equal(pixels_of(source), np.moveaxis(array, -1, 0))


def test_each_scene_is_an_image(tmp_path: Path, pixels_of: Pixels) -> None:
    pytest.importorskip("bioio_ome_tiff", reason="needs bioio with a reader of OME-TIFF")
    arrays = np.random.default_rng(0).integers(0, 256, (3, 40, 50), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        for array in arrays:
            tif.write(array, metadata={"axes": "YX"})
    for number, array in enumerate(arrays):
        with open_series(tmp_path / "a.ome.tif", number) as source:
            assert (source.series, len(source.series_names)) == (number, 3)
            np.testing.assert_array_equal(pixels_of(source)[0], array)
    with pytest.raises(ImageError, match="no image number 3; it holds 3 images"):
        open_series(tmp_path / "a.ome.tif", 3)


@pytest.fixture
def czi_stack(tmp_path: Path) -> tuple[Path, AnyArray]:
    """A file by the library of the maker's format, and its pixels TZCYX."""
    pytest.importorskip("bioio_czi", reason="needs bioio with its reader of CZI")
    czi = pytest.importorskip("pylibCZIrw.czi", reason="needs pylibCZIrw to write a CZI")
    array = np.random.default_rng(0).integers(0, 2**16, (2, 3, 2, 40, 50), np.uint16)
    path = tmp_path / "stack.czi"
    with czi.create_czi(str(path)) as file:
        for t, z, c in np.ndindex(2, 3, 2):
            file.write(array[t, z, c][..., None], plane={"T": t, "Z": z, "C": c})
        names = {0: "DAPI", 1: "GFP"}
        file.write_metadata("stack", channel_names=names, scale_x=0.25e-6, scale_y=0.5e-6, scale_z=2e-6)
    return path, array


def test_czi(czi_stack: tuple[Path, AnyArray], pixels_of: Pixels) -> None:
    path, array = czi_stack
    with open_image(path) as source:
        assert (source.axes, source.shape, source.dtype.name) == ("TZCYX", array.shape, "uint16")
        np.testing.assert_array_equal(pixels_of(source), array)
        np.testing.assert_array_equal(source.read(Region(3, 9, 20, 41), (1, 2)), array[1, 2, :, 3:9, 20:41])
        found = source.metadata
    assert (found.pixel_size, found.z_spacing, found.unit) == ((0.5, 0.25), 2.0, "µm")
    assert (found.channel_names, found.file_format) == (("DAPI", "GFP"), "bioio")


def test_planes_of_a_czi_are_decoded_one_at_a_time(czi_stack: tuple[Path, AnyArray]) -> None:
    with open_source(czi_stack[0]) as source:
        assert source._data.blocks.shape == (2, 2, 3, 1, 1)
