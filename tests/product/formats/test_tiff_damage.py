"""TIFF files that are damaged, incomplete or hostile: one clear line, and never made-up pixels."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_pix2pix.formats.source import open_image
from pix2pix_training.array_source import ArraySource
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region

AnyArray = NDArray[Any]
Pixels = Callable[[ArraySource], AnyArray]
Noise = Callable[[tuple[int, ...], str], AnyArray]

_STORAGE: list[dict[str, Any]] = [
    {},
    {"tile": (16, 16), "compression": "zlib"},
    {"rowsperstrip": 4, "compression": "zstd"},
    {"rowsperstrip": 4},
]


@pytest.mark.parametrize("storage", _STORAGE, ids=str)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.9])
def test_cut_short(tmp_path: Path, pixels_of: Pixels, noise: Noise, storage: dict[str, Any], share: float) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((3, 64, 64), "uint8"), photometric="minisblack", metadata=None, **storage)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ImageError, match=r"a\.tif") as caught, open_image(path) as source:
        pixels_of(source)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lost=st.integers(1, 4000), storage=st.sampled_from(_STORAGE))
def test_cut_anywhere_gives_an_error_or_the_true_pixels(
    tmp_path: Path, pixels_of: Pixels, noise: Noise, lost: int, storage: dict[str, Any]
) -> None:
    path = tmp_path / "a.tif"
    array = noise((3, 32, 32), "uint8")
    tifffile.imwrite(path, array, photometric="minisblack", metadata=None, **storage)
    path.write_bytes(path.read_bytes()[:-lost])
    with suppress(ImageError), open_image(path) as source:
        np.testing.assert_array_equal(pixels_of(source)[:, 0], array)


def test_imagej_stack_cut_short(tmp_path: Path, noise: Noise) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((50, 64, 64), "uint8"), imagej=True, truncate=True, metadata={"axes": "ZYX"})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ImageError, match=r"a\.tif"):
        open_image(path)


@pytest.mark.parametrize("tag", ["TileOffsets", "TileByteCounts"])
def test_missing_tile_is_refused_instead_of_read_as_zeros(tmp_path: Path, noise: Noise, tag: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((64, 64), "uint8"), tile=(16, 16), metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tif:
        found = tif.pages.first.tags[tag]
        found.overwrite([0, *found.value[1:]])
    with pytest.raises(ImageError, match="lacks parts of its pixels"):
        open_image(path)


def test_missing_strip_of_an_uncompressed_page(tmp_path: Path, noise: Noise) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((64, 64), "uint8"), metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags["StripOffsets"].overwrite(0)
    with pytest.raises(ImageError, match=r"a\.tif"), open_image(path) as source:
        source.read(Region(0, 64, 0, 64))


def test_tile_larger_than_the_budget(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(_tiff_of_one_tile(tile=65536))
    with pytest.raises(ImageError, match=r"a tile of 65536 x 65536 x 1 would take 4\.0 GiB when decoded, 2 GiB are"):
        open_image(path)


@pytest.mark.parametrize("tag", ["ImageWidth", "ImageLength"])
@pytest.mark.parametrize("storage", _STORAGE[1:3], ids=str)
def test_a_size_that_the_tiles_do_not_fill(tmp_path: Path, noise: Noise, tag: str, storage: dict[str, Any]) -> None:
    """Else the plan of a translation would count billions of tiles before the first is missed."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((64, 64), "uint8"), metadata=None, **storage)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags[tag].overwrite(2_000_000_000)
    with pytest.raises(ImageError, match=r"is damaged: .* pixels are \d+ strips or tiles|would take"):
        open_image(path)


def test_volumetric_page(tmp_path: Path, noise: Noise) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", noise((4, 32, 32), "uint8"), volumetric=True, photometric="minisblack", metadata=None
    )
    with pytest.raises(ImageError, match="stores depth inside one page"):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_numbers(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), dtype), metadata=None)
    with pytest.raises(ImageError, match=f"stores {dtype} numbers; only integers and reals"):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize("colours", ["CIELAB", "YCBCR"])
def test_colours_that_are_neither_rgb_nor_grey(tmp_path: Path, noise: Noise, colours: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((8, 8, 3), "uint8"), photometric="rgb", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags["PhotometricInterpretation"].overwrite(int(tifffile.PHOTOMETRIC[colours]))
    with pytest.raises(ImageError, match=f"stores its colours as {colours}; convert it"):
        open_image(path)


def test_multi_file_ome_is_read_across_its_files(tmp_path: Path, pixels_of: Pixels, noise: Noise) -> None:
    array = noise((2, 8, 9), "uint8")
    _write_multi_file(tmp_path, array, "b.ome.tif")
    with open_image(tmp_path / "a.ome.tif") as source:
        assert source.axes == "ZCYX"
        np.testing.assert_array_equal(pixels_of(source)[:, 0], array)


def test_multi_file_ome_without_its_companion(tmp_path: Path, noise: Noise) -> None:
    _write_multi_file(tmp_path, noise((2, 8, 9), "uint8"), "b.ome.tif")
    (tmp_path / "b.ome.tif").unlink()
    with pytest.raises(ImageError, match=r"b\.ome\.tif is missing beside it"):
        open_image(tmp_path / "a.ome.tif")


@pytest.mark.parametrize("companion", ["../b.ome.tif", "/etc/passwd", "folder/b.ome.tif", "..\\b.ome.tif"])
def test_multi_file_ome_never_leaves_its_folder(tmp_path: Path, noise: Noise, companion: str) -> None:
    _write_multi_file(tmp_path, noise((2, 8, 9), "uint8"), companion, write_second=False)
    with pytest.raises(ImageError, match="outside its own folder"):
        open_image(tmp_path / "a.ome.tif")


def test_ome_with_fewer_pages_than_declared(tmp_path: Path, noise: Noise) -> None:
    path = tmp_path / "a.ome.tif"
    xml = _ome_xml(sizes='SizeX="9" SizeY="8" SizeC="1" SizeZ="7" SizeT="1"', data='<TiffData IFD="0" PlaneCount="2"/>')
    tifffile.imwrite(path, noise((2, 8, 9), "uint8"), photometric="minisblack", description=xml, metadata=None)
    with pytest.raises(ImageError, match="declares 7 planes, some of which are missing"):
        open_image(path)


@pytest.mark.parametrize("value", ["x", "", "1e3", "9" * 5000])
@pytest.mark.parametrize("name", ["SizeC", "SizeX", "IFD"])
def test_ome_with_sizes_that_are_no_numbers(tmp_path: Path, noise: Noise, name: str, value: str) -> None:
    sizes = {"SizeX": "9", "SizeY": "8", "SizeC": "1", "SizeZ": "1", "SizeT": "1", "IFD": "0"} | {name: value}
    number = sizes.pop("IFD")
    attributes = " ".join(f'{axis}="{length}"' for axis, length in sizes.items())
    xml = _ome_xml(sizes=attributes, data=f'<TiffData IFD="{number}"/>')
    tifffile.imwrite(tmp_path / "a.ome.tif", noise((8, 9), "uint8"), description=xml, metadata=None)
    with pytest.raises(ImageError, match=f"its OME-XML says {name}='{value[:40]}', which is no number") as caught:
        open_image(tmp_path / "a.ome.tif")
    assert len(str(caught.value)) < 200 + len(str(tmp_path))


def test_ome_with_more_planes_than_digits_of_a_line(tmp_path: Path, noise: Noise) -> None:
    most = "9" * 4000
    xml = _ome_xml(sizes=f'SizeX="9" SizeY="8" SizeC="{most}" SizeZ="{most}" SizeT="{most}"', data="<TiffData/>")
    tifffile.imwrite(tmp_path / "a.ome.tif", noise((8, 9), "uint8"), description=xml, metadata=None)
    with pytest.raises(ImageError, match="declares over 1 000 000 000 000 planes; at most"):
        open_image(tmp_path / "a.ome.tif")


_SIZES = {"SizeX": 9, "SizeY": 8, "SizeC": 1, "SizeZ": 1, "SizeT": 1}
_HOSTILE_OME = {
    **{f"{name} of a billion": ({name: 999_999_999}, "<TiffData/>", "") for name in _SIZES},
    "a billion planes": ({}, '<TiffData IFD="0" PlaneCount="1000000000"/>', ""),
    "a billion planes, with a sign": ({}, '<TiffData IFD="0" PlaneCount=" +1_000_000_000 "/>', ""),
    "a page far away": ({}, '<TiffData IFD="1000000000"/>', ""),
    "a late position": ({"SizeT": 999_999_999}, '<TiffData FirstT="999999998"/>', ""),
    "many samples": ({}, '<Channel SamplesPerPixel="1000000000"/><TiffData/>', ""),
    "elements of another namespace": ({"SizeT": 999_999_999}, '<TiffData xmlns="urn:other"/>', ""),
    "an axis of a billion labels": (
        {}, "<TiffData/>",
        '<StructuredAnnotations><XMLAnnotation ID="A" Namespace="openmicroscopy.org/omero/dimension/modulo"><Value>'
        '<Modulo><ModuloAlongT Type="other" Start="0" End="1e9"/></Modulo></Value></XMLAnnotation>'
        "</StructuredAnnotations>",
    ),
    "many large images": (
        {}, "<TiffData/>",
        '<Image><Pixels DimensionOrder="XYZCT" SizeX="9" SizeY="8" SizeC="1" SizeZ="1" SizeT="900000"><TiffData/>'
        "</Pixels></Image>" * 2,
    ),
    "millions of elements": ({}, "<TiffData/>", "<A/>" * 2_000_001),
    "deep nesting": ({}, "<TiffData/>", "<A>" * 300_000 + "</A>" * 300_000),
}  # fmt: skip


_HOSTILE_DESCRIPTIONS = {
    "shape": '{"shape": [1000000000, 8, 9]}',
    "ImageJ": "ImageJ=1.53\nimages=1000000000\nframes=1000000000\nhyperstack=true\n",
    "deep JSON": '{"shape": [8, 9], "napari-pix2pix": ' + "[" * 100_000 + "]" * 100_000 + "}",
}
_ENTITIES = '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY e0 "ten letters">{}]><OME>&e9;</OME>'.format(
    "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `open_image` says of each hostile file, in a child process that may take 2 GiB, and 10 seconds for each."""
    folder = tmp_path_factory.mktemp("hostile")
    texts = _HOSTILE_DESCRIPTIONS | {"entities.ome": _ENTITIES}
    for name, (sizes, data, more) in _HOSTILE_OME.items():
        attributes = " ".join(f'{axis}="{length}"' for axis, length in (_SIZES | sizes).items())
        texts[name] = _ome_xml(sizes=attributes, data=data).replace("</OME>", f"{more}</OME>")
    for name, text in texts.items():
        tifffile.imwrite(folder / f"{name}.tif", np.zeros((8, 9), np.uint8), description=text, metadata=None)
    (folder / "entities.companion.ome").write_text(_ENTITIES, encoding="utf-8")
    code = (
        "import json, resource, sys, time\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "from pathlib import Path\n"
        "from napari_pix2pix.formats.source import open_image\n"
        "def answer(path):\n"
        "    started = time.monotonic()\n"
        "    try:\n        text = str(open_image(path).shape)\n"
        "    except Exception as error:\n        text = f'{type(error).__name__} {error}'\n"
        "    return text if time.monotonic() - started < 10 else f'{text}, too late'\n"
        "print(json.dumps({path.name: answer(path) for path in Path(sys.argv[1]).iterdir()}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=120)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="no memory limit for a child process")
@pytest.mark.parametrize("name", [*_HOSTILE_OME, *_HOSTILE_DESCRIPTIONS])
def test_whatever_a_header_claims_costs_no_memory(answers: dict[str, str], name: str) -> None:
    answer = answers[f"{name}.tif"]
    assert answer.startswith("ImageError") or answer == "(1, 8, 9)"
    assert "enough memory" not in answer


@pytest.mark.skipif(sys.platform == "win32", reason="no memory limit for a child process")
@pytest.mark.parametrize("name", ["entities.ome.tif", "entities.companion.ome"])
def test_entities_are_refused_before_they_grow(answers: dict[str, str], name: str) -> None:
    assert "defines entities" in answers[name]


def test_ome_metadata_of_another_size_is_ignored_with_a_word(
    tmp_path: Path, pixels_of: Pixels, noise: Noise, caplog: pytest.LogCaptureFixture
) -> None:
    """As programs leave it that cut a part out of an image."""
    array = noise((2, 8, 9), "uint8")
    xml = _ome_xml(sizes='SizeX="90" SizeY="80" SizeC="1" SizeZ="2" SizeT="1"', data="<TiffData/>")
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", description=xml, metadata=None)
    with open_image(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(pixels_of(source)[:, 0], array)
    assert "its OME metadata is of another image (80 x 90 pixels, its page has 8 x 9)" in caplog.text


def _ome_xml(*, sizes: str, data: str) -> str:
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:a">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" {sizes}>'
        f'<Channel ID="Channel:0" SamplesPerPixel="1"/>{data}</Pixels></Image></OME>'
    )


def _write_multi_file(folder: Path, array: AnyArray, companion: str, *, write_second: bool = True) -> None:
    """Two planes along Z, each in a file; the first is "a.ome.tif", the second is called `companion`."""
    data = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{uuid}</UUID></TiffData>'
        for z, (name, uuid) in enumerate([("a.ome.tif", "a"), (companion, "b")])
    )
    xml = _ome_xml(sizes='SizeX="9" SizeY="8" SizeC="1" SizeZ="2" SizeT="1"', data=data)
    tifffile.imwrite(folder / "a.ome.tif", array[0], description=xml, metadata=None)
    if write_second:
        tifffile.imwrite(folder / companion, array[1], description=xml.replace("uuid:a", "uuid:b", 1), metadata=None)


def _tiff_of_one_tile(tile: int) -> bytes:
    """A file of under 200 bytes that declares one huge deflate tile."""
    tags = [
        (256, 3, 64), (257, 3, 64), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1),
        (322, 4, tile), (323, 4, tile), (324, 4, 8), (325, 4, 10),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", code, kind, 1, value) for code, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
