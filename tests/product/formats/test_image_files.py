"""Several images in one file, and one image in several files: which images there are, and that it is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_pix2pix.formats.caching import PixelCache
from napari_pix2pix.formats.image_files import files_in, images_within, open_images
from napari_pix2pix.formats.pairing import pairs_from_composites, pairs_from_csv, pairs_from_paths
from napari_pix2pix.formats.source import describe_image, open_image
from pix2pix_training.array_source import ArraySource, whole_plane
from pix2pix_training.errors import ImageError

AnyArray = NDArray[Any]
Pixels = Callable[[ArraySource], AnyArray]
Noise = Callable[[tuple[int, ...], str], AnyArray]


def _positions(path: Path, arrays: list[AnyArray], **metadata: Any) -> Path:
    """An OME-TIFF of one image for each array."""
    with tifffile.TiffWriter(path, ome=True) as tif:
        for number, array in enumerate(arrays):
            tif.write(
                array, photometric="minisblack", metadata={"axes": "YX", "PhysicalSizeX": number + 1.0, **metadata}
            )
    return path


def _different(path: Path, arrays: list[AnyArray], **options: Any) -> Path:
    """A plain TIFF of pages that differ."""
    with tifffile.TiffWriter(path) as tif:
        for array in arrays:
            tif.write(array, photometric="minisblack", metadata=None, **options)
    return path


def test_positions_of_an_ome_tiff(tmp_path: Path, pixels_of: Pixels, noise: Noise) -> None:
    arrays = [noise((20, 30), "uint8") ^ np.uint8(number) for number in range(3)]
    path = _positions(tmp_path / "a.ome.tif", arrays, PhysicalSizeXUnit="µm", PhysicalSizeY=0.5)
    for number, array in enumerate(arrays):
        with open_image(path, number) as source:
            np.testing.assert_array_equal(pixels_of(source)[0], array)
            assert source.metadata.pixel_size == (0.5, number + 1.0)
            assert source.name == f"{path} (image {number})"


def test_equal_positions_without_names_keep_their_own_metadata(tmp_path: Path, noise: Noise) -> None:
    path = _positions(tmp_path / "a.ome.tif", [noise((20, 30), "uint8")] * 2, PhysicalSizeY=0.5, Name="same")
    sizes = []
    for number in (0, 1):
        with open_image(path, number) as source:
            sizes.append(source.metadata.pixel_size)
    assert sizes == [(0.5, 1.0), (0.5, 2.0)]


def test_pages_that_differ_are_images_of_their_own(tmp_path: Path, pixels_of: Pixels, noise: Noise) -> None:
    arrays = [noise((20, 30), "uint8"), noise((24, 9), "uint8"), noise((20, 30), "uint16")]
    path = _different(tmp_path / "a.tif", arrays)
    for number, array in enumerate(arrays):
        with open_image(path, number) as source:
            np.testing.assert_array_equal(pixels_of(source)[0], array)


def test_arrays_written_one_by_one_are_images_of_their_own(tmp_path: Path, pixels_of: Pixels, noise: Noise) -> None:
    arrays = [noise((20, 30), "uint8"), noise((3, 20, 30), "uint8"), noise((20, 30), "uint8") + np.uint8(1)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for array in arrays:
            tif.write(array, photometric="minisblack")
    for number, array in enumerate(arrays):
        with open_image(tmp_path / "a.tif", number) as source:
            np.testing.assert_array_equal(np.squeeze(pixels_of(source)), array)


@pytest.mark.parametrize("kind", [1, 4, 5])
def test_smaller_copies_and_masks_are_no_images(
    tmp_path: Path, noise: Noise, caplog: pytest.LogCaptureFixture, kind: int
) -> None:
    """As GDAL stores overviews and masks."""
    dtype = "bool" if kind & 4 else "uint8"
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(noise((40, 60), "uint8"), photometric="minisblack", metadata=None)
        tif.write(noise((13, 20), dtype), photometric="minisblack", subfiletype=kind, metadata=None)
    with open_image(tmp_path / "a.tif") as source:
        assert source.series_names == ("",)
    assert caplog.text == ""


def test_pages_of_half_the_size_are_told_of(tmp_path: Path, noise: Noise, caplog: pytest.LogCaptureFixture) -> None:
    _different(tmp_path / "a.tif", [noise((40, 60), "uint8"), noise((20, 30), "uint8")], tile=(16, 16))
    with open_image(tmp_path / "a.tif") as source:
        assert source.shape == (1, 40, 60)
    assert "its pages of 20 x 30 pixels are taken as smaller copies" in caplog.text


def test_the_first_of_several_is_never_taken_in_silence(
    tmp_path: Path, noise: Noise, caplog: pytest.LogCaptureFixture
) -> None:
    path = _positions(tmp_path / "a.ome.tif", [noise((20, 30), "uint8")] * 3)
    with open_image(path) as source, open_images([path], 0):
        assert describe_image(source)["images_in_file"] == ["Image0", "Image1", "Image2"]
        assert len(caplog.records) == 1
    assert f"{path} holds 3 images and number 0 is used" in caplog.text


def test_there_are_no_more_images_than_there_are(tmp_path: Path, noise: Noise) -> None:
    path = _positions(tmp_path / "a.ome.tif", [noise((20, 30), "uint8")] * 3)
    with pytest.raises(ImageError, match="no image number 3; it holds 3 images, numbers 0 to 2"):
        open_image(path, 3)
    tifffile.imwrite(tmp_path / "b.tif", noise((20, 30), "uint8"))
    with pytest.raises(ImageError, match="no image number 1; it holds one image, number 0"):
        open_image(tmp_path / "b.tif", 1)


def test_images_of_two_files_pair_by_their_numbers(tmp_path: Path, noise: Noise) -> None:
    arrays = [noise((20, 30), "uint8") ^ np.uint8(number) for number in range(3)]
    source = _positions(tmp_path / "a.ome.tif", arrays)
    target = _different(tmp_path / "b.tif", [255 - arrays[0][:, :28], 255 - arrays[1][:, :29], 255 - arrays[2]])
    pairs = pairs_from_paths([source], [target], series=2)
    np.testing.assert_array_equal(pairs[0].target.read(whole_plane(pairs[0].target))[0], 255 - arrays[2])
    assert [pair.name for pair in pairs] == ["a"]
    pairs = pairs_from_paths([source], [_positions(tmp_path / "c.ome.tif", [255 - array for array in arrays])])
    assert [pair.name for pair in pairs] == ["a_0", "a_1", "a_2"]
    for pair, array in zip(pairs, arrays, strict=True):
        np.testing.assert_array_equal(pair.source.read(whole_plane(pair.source))[0], array)
        np.testing.assert_array_equal(pair.target.read(whole_plane(pair.target))[0], 255 - array)


def test_images_of_a_file_pair_with_files_of_their_names(tmp_path: Path, noise: Noise) -> None:
    """As `translate` calls what it makes of them."""
    arrays = [noise((20, 30), "uint8") ^ np.uint8(number) for number in range(2)]
    for side in ("source", "target"):
        (tmp_path / side).mkdir()
    _positions(tmp_path / "source" / "a.ome.tif", arrays)
    for number, array in enumerate(arrays):
        tifffile.imwrite(tmp_path / "target" / f"a_{number}.tif", array)
    pairs = pairs_from_paths([tmp_path / "source"], [tmp_path / "target"])
    for pair in pairs:
        region = whole_plane(pair.source)
        np.testing.assert_array_equal(pair.source.read(region), pair.target.read(region))


def test_files_of_unequal_numbers_of_images_do_not_pair(tmp_path: Path, noise: Noise) -> None:
    source = _positions(tmp_path / "a.ome.tif", [noise((20, 30), "uint8")] * 3)
    tifffile.imwrite(tmp_path / "b.tif", noise((20, 30), "uint8"))
    with pytest.raises(
        ImageError, match=r"a\.ome\.tif holds 3 images and .*b\.tif one image; choose one by its number"
    ):
        pairs_from_paths([source], [tmp_path / "b.tif"])
    (tmp_path / "pairs.csv").write_text("source,target\na.ome.tif,b.tif\n", encoding="utf-8")
    with pytest.raises(ImageError, match=r"pairs\.csv, line 2: .*holds 3 images"):
        pairs_from_csv(tmp_path / "pairs.csv")
    assert len(pairs_from_csv(tmp_path / "pairs.csv", series=1)) == 1
    assert len(pairs_from_composites(source)) == 3


def test_cached_images_of_one_file_are_not_mixed_up(tmp_path: Path, noise: Noise) -> None:
    arrays = [noise((20, 30), "uint8") ^ np.uint8(number) for number in range(2)]
    path = _positions(tmp_path / "a.ome.tif", arrays)
    with PixelCache() as cache:
        for number in (0, 1, 0, 1):
            image = cache.open(path, number)
            np.testing.assert_array_equal(image.read(whole_plane(image))[0], arrays[number])


def _lsm(path: Path, array: AnyArray) -> Path:
    """Planes of Z, each with a thumbnail, and Zeiss' header in the first page."""
    planes, height, width = array.shape
    header = np.zeros(1, tifffile.TIFF.CZ_LSMINFO)
    for name, value in {
        "MagicNumber": 67127628, "StructureSize": header.itemsize, "DimensionX": width, "DimensionY": height,
        "DimensionZ": planes, "DimensionChannels": 1, "DimensionTime": 1, "DataType": 1, "ThumbnailX": 8,
        "ThumbnailY": 8, "VoxelSizeX": 2.5e-7, "VoxelSizeY": 5e-7, "VoxelSizeZ": 2e-6, "TimeIntervall": 1.5,
    }.items():  # fmt: skip
        header[name] = value
    with tifffile.TiffWriter(path, byteorder="<") as tif:
        for number, plane in enumerate(array):
            tags = [(34412, 1, header.nbytes, header.tobytes(), True)] if number == 0 else []
            tif.write(plane, photometric="minisblack", extratags=tags, metadata=None)
            tif.write(np.zeros((8, 8, 3), np.uint8), photometric="rgb", subfiletype=1, metadata=None)
    return path


def test_thumbnails_of_an_lsm_are_no_images(tmp_path: Path, pixels_of: Pixels, noise: Noise) -> None:
    array = noise((3, 20, 30), "uint8")
    with open_image(_lsm(tmp_path / "a.lsm", array)) as source:
        assert (source.axes, source.series_names) == ("ZCYX", ("",))
        np.testing.assert_array_equal(pixels_of(source)[:, 0], array)
        found = source.metadata
    assert (found.pixel_size, found.z_spacing, found.unit, found.time_step_s) == ((0.5, 0.25), 2.0, "µm", 1.5)


_SUFFIXES = [".lsm", ".stk", ".qptiff", ".qpi", ".pcoraw", ".ptif", ".ptiff", ".gel", ".zif", ".flex", ".tf8", ".btf"]


@pytest.mark.parametrize("suffix", _SUFFIXES)
def test_files_based_on_tiff_are_images_in_folders_and_alone(tmp_path: Path, noise: Noise, suffix: str) -> None:
    for side in ("source", "target"):
        (tmp_path / side).mkdir()
        tifffile.imwrite(tmp_path / side / f"a{suffix}", noise((20, 30), "uint8"), metadata=None)
    source, target = tmp_path / "source", tmp_path / "target"
    assert len(pairs_from_paths([source], [target])) == 1
    assert len(pairs_from_paths([source / f"a{suffix}"], [target / f"a{suffix}"])) == 1


_PLANE = '<TiffData FirstZ="{0}" IFD="0" PlaneCount="1"><UUID FileName="{1}">urn:uuid:{0}</UUID></TiffData>'
_OME = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"{}>{}</OME>'


def _multi_file(folder: Path, array: AnyArray, *, described_in: str) -> None:
    """Planes along Z, each in a file; the metadata of all in each file, in the last one, or in a companion."""
    folder.mkdir(exist_ok=True)
    depth, height, width = array.shape
    planes = "".join(_PLANE.format(z, f"z{z}.ome.tif") for z in range(depth))
    image = (
        f'<Image><Pixels DimensionOrder="XYZCT" Type="uint8" SizeX="{width}" SizeY="{height}" SizeZ="{depth}" '
        f'SizeC="1" SizeT="1"><Channel/>{planes}</Pixels></Image>'
    )
    only = '<BinaryOnly MetadataFile="z.companion.ome" UUID="urn:uuid:9"/>'
    for z, plane in enumerate(array):
        uuid = f' UUID="urn:uuid:{z}"'
        text = _OME.format(uuid, only if described_in == "companion" else image)
        has_text = described_in != "last" or z == depth - 1
        tifffile.imwrite(folder / f"z{z}.ome.tif", plane, description=text if has_text else None, metadata=None)
    if described_in == "companion":
        (folder / "z.companion.ome").write_text('<?xml version="1.0"?>' + _OME.format("", image), encoding="utf-8")


@pytest.mark.parametrize(
    ("described_in", "stands"), [("each", "z0.ome.tif"), ("last", "z2.ome.tif"), ("companion", "z.companion.ome")]
)
def test_files_of_one_image_are_one_image(
    tmp_path: Path, pixels_of: Pixels, noise: Noise, caplog: pytest.LogCaptureFixture, described_in: str, stands: str
) -> None:
    array = noise((3, 20, 30), "uint8")
    _multi_file(tmp_path, array, described_in=described_in)
    tifffile.imwrite(tmp_path / "other.tif", array[0])
    (tmp_path / "notes.txt").write_text("not an image")
    assert {file.name for file in files_in(tmp_path)} == {stands, "other.tif"}
    assert f"{stands} and " in caplog.text and "other files beside it belong together" in caplog.text
    with open_image(tmp_path / stands) as source:
        np.testing.assert_array_equal(pixels_of(source)[:, 0], array)


def test_files_of_one_image_are_one_pair(tmp_path: Path, noise: Noise) -> None:
    array = noise((3, 20, 30), "uint8")
    for side in ("source", "target"):
        _multi_file(tmp_path / side, array, described_in="each")
    pairs = pairs_from_paths([tmp_path / "source"], [tmp_path / "target"])
    assert [(pair.name, pair.source.shape) for pair in pairs] == [("z0", (3, 1, 20, 30))]


def test_images_that_only_look_related_stay_apart(
    tmp_path: Path, noise: Noise, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a_0.tif", "a_1.tif", "a.ome.tif", "b.ome.tif"):
        tifffile.imwrite(tmp_path / name, noise((20, 30), "uint8"))
    assert len(files_in(tmp_path)) == 4
    assert caplog.text == ""


def test_a_file_that_cannot_be_read_is_left_for_its_turn(tmp_path: Path, noise: Noise) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise((20, 30), "uint8"))
    (tmp_path / "b.tif").write_bytes(b"II*\0 and no more")
    (tmp_path / "c.png").write_bytes(b"")
    assert [file.name for file in files_in(tmp_path)] == ["a.tif", "b.tif", "c.png"]


def test_a_file_of_several_images_says_that_all_are_used(
    tmp_path: Path, noise: Noise, caplog: pytest.LogCaptureFixture
) -> None:
    path = _positions(tmp_path / "a.ome.tif", [noise((20, 30), "uint8")] * 2)
    assert [image.name for image in images_within(path)] == ["a_0", "a_1"]
    assert "holds 2 images; all are used, as a_0 to a_1" in caplog.text
    assert [image.name for image in images_within(path, 1)] == ["a"]


def test_images_in_which_0_is_white_are_not_mixed_with_others_in_silence(
    tmp_path: Path, noise: Noise, caplog: pytest.LogCaptureFixture
) -> None:
    for side in ("source", "target"):
        (tmp_path / side).mkdir()
        for name, photometric in (("a", "minisblack"), ("b", "miniswhite" if side == "source" else "minisblack")):
            array = noise((20, 30), "uint8")
            tifffile.imwrite(tmp_path / side / f"{name}.tif", array, photometric=photometric, metadata=None)
    pairs_from_paths([tmp_path / "source"], [tmp_path / "target"])
    assert [record.getMessage()[:15] for record in caplog.records] == ["0 is white in /"]
