"""What `open_image` says to files that are no images, and to regions that are none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_pix2pix.formats import image_stem, is_image_path, open_image
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    path = tmp_path / "grey.png"
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(path)
    return path


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.tif does not exist"):
        open_image(tmp_path / "none.tif")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a folder, not an image file"):
        open_image(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"hello, world", "is not an image of a known format")]
)
def test_file_that_is_no_image(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ImageError, match=message):
        open_image(tmp_path / "a.tif")


def test_content_decides_not_the_ending(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.png", np.zeros((4, 5), np.float32), metadata=None)
    with open_image(tmp_path / "a.png") as source:
        assert source.metadata.file_format == "tiff"


@pytest.mark.parametrize("region", [Region(0, 21, 0, 1), Region(0, 1, 0, 31), Region(-1, 1, 0, 1), Region(2, 1, 0, 1)])
def test_region_outside_the_image(grey: Path, region: Region) -> None:
    with open_image(grey) as source, pytest.raises(ImageError, match="does not lie within the image of 20 x 30"):
        source.read(region)


@pytest.mark.parametrize("plane", [(0,), (0, 0)])
def test_plane_that_the_image_does_not_have(grey: Path, plane: tuple[int, ...]) -> None:
    with open_image(grey) as source, pytest.raises(ImageError, match="there is no plane"):
        source.read(Region(0, 1, 0, 1), plane)


@pytest.mark.parametrize("name", ["a.tif", "a.TIFF", "a.ome.tif", "a.btf", "a.png", "a.JPG", "a.jpeg", "a.bmp"])
def test_image_names(name: str) -> None:
    assert is_image_path(Path("folder") / name)
    assert image_stem(Path("folder") / name) == "a"


@pytest.mark.parametrize("name", ["a.txt", "a", ".a.png", "a.csv", "png", "a.tif.partial"])
def test_other_names(name: str) -> None:
    assert not is_image_path(Path("folder") / name)


def test_importing_loads_no_heavy_package() -> None:
    code = (
        "import sys, napari_pix2pix.formats; "
        "print([m for m in ('torch', 'tifffile', 'PIL', 'zarr', 'imagecodecs', 'napari') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
