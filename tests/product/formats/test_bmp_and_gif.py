"""BMP and GIF hold what their endings promise, as Pillow reads them; what they cannot hold is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_pix2pix.formats import ImageMetadata, OutputSpec, check_output, open_image, write_image
from napari_pix2pix.formats.writing import Tile
from pix2pix_training.array_source import AnyArray, whole_plane
from pix2pix_training.errors import OutputError
from pix2pix_training.regions import Region
from pix2pix_training.remarks import remarks

Tiles = Callable[[AnyArray, int], Iterator[Tile]]
RANDOM = np.random.default_rng(0)
PALETTE = RANDOM.integers(0, 256, (5, 3), dtype=np.uint8)


def spec_of(array: AnyArray, palette: AnyArray | None = None, metadata: ImageMetadata | None = None) -> OutputSpec:
    metadata = metadata or ImageMetadata(rgb=len(array) == 3)
    return OutputSpec(axes="CYX", shape=array.shape, dtype=array.dtype, metadata=metadata, palette=palette)


@pytest.mark.parametrize(
    ("name", "channels", "high", "palette"),
    [("a.bmp", 1, 256, None), ("a.bmp", 3, 256, None), ("a.bmp", 1, 5, PALETTE), ("a.gif", 1, 256, None),
     ("a.gif", 1, 5, PALETTE)],
)  # fmt: skip
def test_pixels_are_those_that_pillow_reads(
    tmp_path: Path, tiles_of: Tiles, name: str, channels: int, high: int, palette: AnyArray | None
) -> None:
    array = RANDOM.integers(0, high, (channels, 33, 20), dtype=np.uint8)
    path = write_image(tmp_path / name, spec_of(array, palette), tiles_of(array, 16), file_format=name[2:])
    assert path.read_bytes().startswith(b"BM" if name == "a.bmp" else b"GIF8")
    with Image.open(path) as image:
        shown = np.asarray(image.convert("RGB"))
    expected = palette[array[0]] if palette is not None else np.moveaxis(np.broadcast_to(array, (3, 33, 20)), 0, -1)
    assert np.array_equal(shown, expected)
    with open_image(path) as source:
        assert np.array_equal(source.read(whole_plane(source)), array)
        assert (source.palette is None) == (palette is None)
        assert source.palette is None or np.array_equal(source.palette[:5], PALETTE)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "words"),
    [
        ("a.bmp", (1, 8, 9), np.uint16, "BMP cannot hold 1 channels of uint16"),
        ("a.bmp", (2, 8, 9), np.uint8, "BMP holds 1 or 3 channels"),
        ("a.gif", (3, 8, 9), np.uint8, "GIF holds 256 colours, the image has 3 channels; use the format png"),
        ("a.gif", (1, 2, 65536), np.uint8, "GIF holds at most 65535 pixels per side; use the format png or tiff"),
        ("a.gif", (1, 8, 9), np.float32, "GIF cannot hold 1 channels of float32"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, name: str, shape: tuple[int, int, int], dtype: type[np.generic], words: str
) -> None:
    with pytest.raises(OutputError, match=words):
        check_output(tmp_path / name, spec_of(np.zeros(shape, dtype)), file_format=name[2:], overwrite=False)


def test_a_lost_pixel_size_is_said(tmp_path: Path, tiles_of: Tiles) -> None:
    array = np.zeros((1, 8, 9), np.uint8)
    sized = ImageMetadata(pixel_size=(0.5, 0.5), unit="µm")
    with remarks() as said:
        check_output(tmp_path / "a.gif", spec_of(array, metadata=sized), file_format="gif", overwrite=False)
    assert len(said) == 1
    assert "how large its pixels are" in said[0]
    with remarks() as said:
        check_output(tmp_path / "a.bmp", spec_of(array, metadata=sized), file_format="bmp", overwrite=False)
        path = write_image(tmp_path / "a.bmp", spec_of(array, metadata=sized), tiles_of(array, 8), file_format="bmp")
    assert said == []
    with open_image(path) as source:
        assert source.metadata.pixel_size == pytest.approx((0.5, 0.5), rel=1e-3)
        assert source.metadata.unit == "µm"


def test_an_animation_is_its_first_frame_and_said(tmp_path: Path) -> None:
    frames = [Image.fromarray(RANDOM.integers(0, 256, (8, 9), dtype=np.uint8)) for _ in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with remarks() as said, open_image(tmp_path / "a.gif") as source:
        assert np.array_equal(source.read(whole_plane(source))[0], np.asarray(frames[0]))
    assert ["3 frames" in line for line in said] == [True]


def test_a_transparent_colour_is_no_data(tmp_path: Path) -> None:
    indices = np.array([[0, 1, 2, 1]], np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(PALETTE.tobytes())
    image.save(tmp_path / "a.gif", transparency=1, optimize=False)
    with open_image(tmp_path / "a.gif") as source:
        assert source.masked
        _, opacity = source.read_with_opacity(Region(0, 1, 0, 4))
    assert opacity is not None
    assert (opacity == 0).tolist() == [[False, True, False, True]]
