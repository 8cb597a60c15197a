"""OME metadata in a file of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_pix2pix.formats.image_files import image_stem
from napari_pix2pix.formats.source import open_image
from pix2pix_training.array_source import ArraySource
from pix2pix_training.errors import ImageError

Pixels = Callable[[ArraySource], NDArray[Any]]

_PIXELS = np.random.default_rng(0).integers(0, 256, (3, 20, 30), np.uint8)
_BINARY_ONLY = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{}">'
    '<BinaryOnly MetadataFile="scan.companion.ome" UUID="urn:uuid:9"/></OME>'
)
_PLANE = '<TiffData FirstZ="{0}" IFD="0" PlaneCount="1"><UUID FileName="{1}">urn:uuid:{0}</UUID></TiffData>'


def _companion(folder: Path, name: str = "scan-{}.ome.tif") -> Path:
    planes = "".join(_PLANE.format(z, name.format(z)) for z in range(3))
    path = folder / "scan.companion.ome"
    path.write_text(
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<AcquisitionDate>2010-03-02T15:08:59</AcquisitionDate><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
        'Type="uint8" SizeX="30" SizeY="20" SizeZ="3" SizeC="1" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.25">'
        f'<Channel ID="Channel:0:0" Name="DAPI"/>{planes}</Pixels></Image></OME>',
        encoding="utf-8",
    )
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    for z, plane in enumerate(_PIXELS):
        tifffile.imwrite(tmp_path / f"scan-{z}.ome.tif", plane, description=_BINARY_ONLY.format(z), metadata=None)
    return _companion(tmp_path)


def test_companion_opens_the_whole_image(scan: Path, pixels_of: Pixels) -> None:
    with open_image(scan) as source:
        assert (source.axes, source.shape, source.path) == ("ZCYX", (3, 1, 20, 30), scan)
        np.testing.assert_array_equal(pixels_of(source)[:, 0], _PIXELS)
        found = source.metadata
    assert (found.file_format, found.channel_names, found.pixel_size) == ("ome-tiff", ("DAPI",), (0.25, 0.5))
    assert found.acquisition == (("date", "2010-03-02T15:08:59"),)
    assert image_stem(scan) == "scan"
    assert source.files == (scan, *(scan.with_name(f"scan-{z}.ome.tif") for z in range(3)))


def test_a_part_is_read_alone_and_says_so(scan: Path, pixels_of: Pixels, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), open_image(scan.with_name("scan-1.ome.tif")) as source:
        np.testing.assert_array_equal(pixels_of(source)[0], _PIXELS[1])
    assert "one of several files of an image; open scan.companion.ome" in caplog.text


def test_missing_part(scan: Path) -> None:
    scan.with_name("scan-2.ome.tif").unlink()
    with pytest.raises(ImageError, match=r"scan-2\.ome\.tif is missing beside it"):
        open_image(scan)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<?xml version='1.0'?><svg/>", "no OME metadata"),
        ("<OME xmlns='http://www.openmicroscopy.org/Schemas/OME/2016-06'/>", "names no TIFF file"),
        ("<OME xmlns=", "damaged or cut short"),
    ],
)
def test_xml_without_an_image(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.companion.ome").write_text(text, encoding="utf-8")
    with pytest.raises(ImageError, match=message):
        open_image(tmp_path / "a.companion.ome")


@pytest.mark.parametrize("name", ["../scan-{}.ome.tif", "/etc/hostname"])
def test_parts_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="missing beside it; put all files in one folder"):
        open_image(_companion(tmp_path, name))
