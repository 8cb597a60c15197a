"""PNG, JPEG and BMP against what Pillow and imagecodecs say."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.source import open_image
from napari_pix2pix.formats.writing import OutputSpec, write_image
from pix2pix_training.array_source import ArraySource, whole_plane
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region

AnyArray = NDArray[Any]
Pixels = Callable[[ArraySource], AnyArray]
Noise = Callable[[tuple[int, ...], str], AnyArray]


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((5, 7), "uint8"), ((5, 7), "uint16"), ((5, 7, 3), "uint8"), ((5, 7, 3), "uint16")],
)
def test_png_keeps_values_and_type(
    tmp_path: Path, pixels_of: Pixels, noise: Noise, shape: tuple[int, ...], dtype: str
) -> None:
    array = noise(shape, dtype)
    path = tmp_path / "image.png"
    path.write_bytes(imagecodecs.png_encode(array))
    with open_image(path) as source:
        assert source.axes == "CYX"
        assert source.dtype == dtype
        expected = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
        np.testing.assert_array_equal(pixels_of(source), expected)
        assert source.metadata.rgb == (array.ndim == 3)
        assert source.metadata.file_format == "png"


def test_one_bit_png_is_bool(tmp_path: Path, pixels_of: Pixels, noise: Noise) -> None:
    mask = noise((9, 11), "bool")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    with open_image(tmp_path / "mask.png") as source:
        assert source.dtype == bool
        np.testing.assert_array_equal(pixels_of(source)[0], mask)


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_of_grey_are_scaled_to_eight(tmp_path: Path, pixels_of: Pixels, bits: int) -> None:
    path = tmp_path / "grey.png"
    path.write_bytes(_png(width=8, height=1, bits=bits, kind=0, rows=b"\0" + b"\xff" * bits))
    with open_image(path) as source:
        assert source.dtype == np.uint8
        np.testing.assert_array_equal(pixels_of(source), 255)


@pytest.mark.parametrize("entries", [2, 5, 256])
def test_palette_gives_indices_and_colours(tmp_path: Path, pixels_of: Pixels, noise: Noise, entries: int) -> None:
    colours = noise((entries, 3), "uint8")
    indices = (noise((6, 5), "uint16") % entries).astype(np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putdata(indices.ravel().tolist())
    image.putpalette(colours.tobytes())
    image.save(tmp_path / "classes.png")
    with open_image(tmp_path / "classes.png") as source:
        assert source.shape == (1, 6, 5)
        assert source.palette is not None
        np.testing.assert_array_equal(source.palette[:entries], colours)
        np.testing.assert_array_equal(pixels_of(source)[0], indices)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_of_a_png_is_opacity(tmp_path: Path, noise: Noise, dtype: str, channels: int) -> None:
    array = noise((5, 7, channels), dtype)
    array[:2, :, -1] = 0
    path = tmp_path / "screenshot.png"
    path.write_bytes(imagecodecs.png_encode(array))
    with open_image(path) as source:
        assert (source.masked, source.shape) == (True, (channels - 1, 5, 7))
        pixels, opacity = source.read_with_opacity(whole_plane(source))
    np.testing.assert_array_equal(pixels, np.moveaxis(array[..., :-1], -1, 0))
    assert opacity is not None
    np.testing.assert_array_equal(opacity == 0, array[..., -1] == 0)


def test_opaque_alpha_is_dropped_silently(
    tmp_path: Path, pixels_of: Pixels, noise: Noise, caplog: pytest.LogCaptureFixture
) -> None:
    array = noise((5, 7, 4), "uint8")
    array[..., 3] = 255
    Image.fromarray(array).save(tmp_path / "screenshot.png")
    with open_image(tmp_path / "screenshot.png") as source, caplog.at_level(logging.WARNING):
        assert pixels_of(source).shape == (3, 5, 7)
    assert caplog.text == ""


@pytest.mark.parametrize(("dpi", "expected"), [(254.0, 100.0), (72.0, None), (96.0, None)])
def test_pixel_size_of_png_unless_it_is_that_of_a_screen(tmp_path: Path, dpi: float, expected: float | None) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png", dpi=(dpi, dpi))
    with open_image(tmp_path / "a.png") as source:
        size = source.metadata.pixel_size
        assert size is None if expected is None else size == pytest.approx((expected, expected))
        assert source.metadata.unit == (None if expected is None else "µm")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_resolution_of_a_screen_is_no_pixel_size_and_is_kept(tmp_path: Path, suffix: str) -> None:
    Image.new("L", (4, 4)).save(tmp_path / f"a{suffix}", dpi=(72, 72))
    with open_image(tmp_path / f"a{suffix}") as source:
        assert (source.metadata.pixel_size, source.metadata.unit) == (None, None)
        spec = OutputSpec(axes="CYX", shape=source.shape, dtype=source.dtype, metadata=source.metadata)
        for other, file_format in ((".png", "png"), (".jpg", "jpeg"), (".tif", "tiff")):
            tiles = iter([((), Region(0, 4, 0, 4), np.zeros((1, 4, 4), np.uint8))])
            path = write_image(tmp_path / f"b{other}", spec, tiles, file_format=file_format, overwrite=True)
            with Image.open(path) as image:
                assert image.info["dpi"] == pytest.approx((72, 72), abs=0.1)
            with open_image(path) as copy:
                assert copy.metadata.screen_dpi == pytest.approx((72, 72), abs=0.1)
                assert copy.metadata.pixel_size is None


@pytest.mark.parametrize("size_um", [0.1, 0.325, 5.0, 2e6])
def test_pixel_size_that_the_density_of_a_jpeg_cannot_hold(tmp_path: Path, size_um: float) -> None:
    metadata = ImageMetadata(pixel_size=(size_um, size_um), unit="µm", channel_names=("a",))
    spec = OutputSpec(axes="CYX", shape=(1, 4, 4), dtype=np.dtype("uint8"), metadata=metadata)
    tiles = iter([((), Region(0, 4, 0, 4), np.zeros((1, 4, 4), np.uint8))])
    path = write_image(tmp_path / "a.jpg", spec, tiles, file_format="jpeg")
    with open_image(path) as source, Image.open(path) as image:
        assert source.metadata == replace(metadata, file_format="jpeg")
        assert image.info.get("dpi", (25_400 / size_um,) * 2) == pytest.approx((25_400 / size_um,) * 2, rel=0.01)


@pytest.mark.parametrize(("channels", "dtype"), [(1, "bool"), (1, "uint8"), (1, "uint16"), (3, "uint8"), (3, "uint16")])
@pytest.mark.parametrize("size", [(200, 1), (1, 200), (1, 1), (3, 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_small_and_narrow_png(
    tmp_path: Path, noise: Noise, size: tuple[int, int], channels: int, dtype: str, masked: bool
) -> None:
    array = noise((channels + masked, *size), dtype)
    spec = OutputSpec(
        axes="CYX", shape=(channels, *size), dtype=array.dtype, metadata=ImageMetadata(name="a"), masked=masked
    )
    path = write_image(tmp_path / "a.png", spec, iter([((), Region(0, size[0], 0, size[1]), array)]), file_format="png")
    with open_image(path) as source:
        pixels, _ = source.read_with_opacity(whole_plane(source))
        assert source.metadata.name == "a"
    np.testing.assert_array_equal(pixels > 0 if dtype == "bool" else pixels, array[:channels])


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("suffix", "file_format", "channels", "dtype"),
    [
        (".png", "png", 1, "uint8"),
        (".png", "png", 3, "uint16"),
        (".jpg", "jpeg", 1, "uint8"),
        (".jpg", "jpeg", 3, "uint8"),
    ],
)
def test_orientation_of_a_tiff_is_shown_the_same(
    tmp_path: Path, noise: Noise, orientation: int, suffix: str, file_format: str, channels: int, dtype: str
) -> None:
    """A TIFF is read as it is stored; the output says how that lies."""
    metadata = ImageMetadata(orientation=orientation, pixel_size=(1.0, 2.0), unit="µm")
    spec = OutputSpec(axes="CYX", shape=(channels, 4, 6), dtype=np.dtype(dtype), metadata=metadata)
    tiles = iter([((), Region(0, 4, 0, 6), noise((channels, 4, 6), dtype))])
    path = write_image(tmp_path / f"a{suffix}", spec, tiles, file_format=file_format)
    with Image.open(path) as image:
        assert ImageOps.exif_transpose(image).size == ((6, 4) if orientation == 1 else (4, 6))
    with open_image(path) as source:
        assert source.shape[1:] == ((4, 6) if orientation == 1 else (6, 4))
        assert source.metadata.orientation == 1
        assert source.metadata.pixel_size == ((1.0, 2.0) if orientation == 1 else (2.0, 1.0))


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_jpeg_equals_pillow(tmp_path: Path, pixels_of: Pixels, mode: str, channels: int) -> None:
    path = tmp_path / "photo.jpg"
    Image.radial_gradient("L").convert(mode).save(path, dpi=(254, 508))
    with open_image(path) as source:
        assert source.shape == (channels, 256, 256)
        expected = np.asarray(Image.open(path)).reshape(256, 256, channels)
        np.testing.assert_array_equal(pixels_of(source), np.moveaxis(expected, -1, 0))
        assert source.metadata.pixel_size == pytest.approx((50.0, 100.0))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_is_turned_upright(tmp_path: Path, pixels_of: Pixels, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    array = np.zeros((16, 32), np.uint8)
    array[:8, :8] = 255  # the stored top left corner
    path = tmp_path / "photo.jpg"
    Image.fromarray(array).save(path, exif=exif, quality=100)
    with open_image(path) as source:
        assert source.shape == ((1, 32, 16) if orientation >= 5 else (1, 16, 32))
        upright = pixels_of(source)[0]
    corners = {name: int(upright[rows, columns]) > 128 for name, (rows, columns) in _CORNERS.items()}
    assert [name for name, bright in corners.items() if bright] == [_FIRST_PIXEL_LIES[orientation]]


_CORNERS = {"top left": (0, 0), "top right": (0, -1), "bottom left": (-1, 0), "bottom right": (-1, -1)}
# EXIF 2.32, tag 0x0112: where the 0th row and 0th column lie.
_FIRST_PIXEL_LIES = {
    1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left",
    5: "top left", 6: "top right", 7: "bottom right", 8: "bottom left",
}  # fmt: skip


_UPRIGHT: dict[int, Callable[[AnyArray], AnyArray]] = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}  # fmt: skip


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["grey", "mask", "colours", "palette", "16 bits", "16-bit colours", "alpha", "late"])
def test_png_is_turned_upright(tmp_path: Path, pixels_of: Pixels, noise: Noise, orientation: int, kind: str) -> None:
    path = tmp_path / "photo.png"
    array = noise((5, 7, 3) if "colours" in kind else (5, 7), "uint16" if "16" in kind else "uint8")
    array = array > 99 if kind == "mask" else array
    if kind in ("16-bit colours", "late"):  # behind the pixels, as many programs write it
        whole = bytes(imagecodecs.png_encode(array, out=9999))
        block = _chunk(b"eXIf", _exif(orientation).tobytes().removeprefix(b"Exif\0\0"))
        path.write_bytes(whole[:-12] + block + whole[-12:])
    else:
        image = Image.fromarray(array)
        if kind == "palette":
            image.putpalette(noise((256, 3), "uint8").tobytes())
        if kind == "alpha":
            image.putalpha(Image.fromarray(noise((5, 7), "uint8")))
        image.save(path, exif=_exif(orientation), dpi=(254, 508))
    expected = _UPRIGHT[orientation](array)
    if kind == "grey":
        np.testing.assert_array_equal(expected, np.asarray(ImageOps.exif_transpose(Image.open(path))))
    with open_image(path) as source:
        expected = expected[None] if expected.ndim == 2 else np.moveaxis(expected, -1, 0)
        np.testing.assert_array_equal(pixels_of(source), expected)
        size = source.metadata.pixel_size
        assert size is None or size == pytest.approx((100, 50) if orientation >= 5 else (50, 100), rel=1e-3)


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0" + b"\xff" * 40, b"no exif"])
def test_damaged_exif_is_left_out(tmp_path: Path, pixels_of: Pixels, noise: Noise, exif: bytes) -> None:
    array = noise((5, 7), "uint8")
    whole = bytes(imagecodecs.png_encode(array, out=9999))
    (tmp_path / "a.png").write_bytes(whole[:33] + _chunk(b"eXIf", exif) + whole[33:])
    with open_image(tmp_path / "a.png") as source:
        np.testing.assert_array_equal(pixels_of(source)[0], array)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_colour_profile_is_said(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    """That of sRGB is what a file without one has."""
    image = Image.new("RGB", (4, 4))
    profiles = {"a": ImageCms.createProfile("XYZ"), "b": ImageCms.createProfile("sRGB")}
    for name, kind in profiles.items():
        profile = ImageCms.ImageCmsProfile(kind)
        image.save(tmp_path / f"{name}{suffix}", icc_profile=profile.tobytes())
        with open_image(tmp_path / f"{name}{suffix}"):
            pass
    (record,) = caplog.records
    assert f"a{suffix} has a colour profile (XYZ" in record.getMessage()
    assert "not applied" in record.getMessage()


@pytest.mark.parametrize(("gamma", "said"), [(100_000, True), (45_455, False)])
def test_gamma_of_a_png_is_said(tmp_path: Path, gamma: int, said: bool, caplog: pytest.LogCaptureFixture) -> None:
    info = PngInfo()
    info.add(b"gAMA", struct.pack(">I", gamma))
    Image.new("L", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
    with open_image(tmp_path / "a.png"):
        assert ("declares a gamma of 1," in caplog.text) == said


def test_animated_png_is_said(
    tmp_path: Path, pixels_of: Pixels, noise: Noise, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [Image.fromarray(noise((5, 7), "uint8") + np.uint8(i)) for i in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with open_image(tmp_path / "a.png") as source:
        np.testing.assert_array_equal(pixels_of(source)[0], np.asarray(frames[0]))
    assert "is an animation of 3 frames; the first is used" in caplog.text


def test_palette_with_transparent_colours(tmp_path: Path, noise: Noise) -> None:
    indices = noise((6, 5), "uint16") % 4
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette(noise((4, 3), "uint8").tobytes())
    for name, transparency in (("bytes", bytes([255, 0, 128])), ("one", 1)):
        image.save(tmp_path / f"{name}.png", transparency=transparency)
        with open_image(tmp_path / f"{name}.png") as source:
            pixels, opacity = source.read_with_opacity(whole_plane(source))
        np.testing.assert_array_equal(pixels[0], indices)
        assert opacity is not None
        half = 128 if name == "bytes" else 255
        np.testing.assert_array_equal(opacity, np.array([255, 0, half, 255])[indices])


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palette_of_few_bits(tmp_path: Path, pixels_of: Pixels, bits: int) -> None:
    indices = np.arange(8, dtype=np.uint8) % 2**bits
    packed = np.packbits(np.unpackbits(indices[:, None], axis=1)[:, 8 - bits :].ravel()).tobytes()
    colours = np.arange(3 * 2**bits, dtype=np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(_png(width=8, height=1, bits=bits, kind=3, rows=b"\0" + packed, palette=colours.tobytes()))
    with open_image(path) as source:
        assert source.palette is not None
        np.testing.assert_array_equal(source.palette, colours.reshape(-1, 3))
        np.testing.assert_array_equal(pixels_of(source)[0, 0], indices)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_colour(tmp_path: Path, noise: Noise, dtype: str, channels: int) -> None:
    array = noise((5, 7, channels), dtype)
    array[0, 0] = array[2, 3] = 7
    whole = bytes(imagecodecs.png_encode(array.squeeze(), out=9999))
    (tmp_path / "a.png").write_bytes(whole[:33] + _chunk(b"tRNS", struct.pack(">H", 7) * channels) + whole[33:])
    with open_image(tmp_path / "a.png") as source:
        assert source.dtype == dtype
        pixels, opacity = source.read_with_opacity(whole_plane(source))
    np.testing.assert_array_equal(pixels, np.moveaxis(array, -1, 0))
    assert opacity is not None
    np.testing.assert_array_equal(opacity == 0, (array == 7).all(-1))


def test_interlaced_png(tmp_path: Path, pixels_of: Pixels) -> None:
    """Made by hand (Adam7), as neither library writes it: passes of 1, 1, 1, 2, 2, 4 and 4 pixels, a row each."""
    array = np.arange(16, dtype=np.uint8).reshape(4, 4)
    passes = [
        array[0:1, 0:1],
        array[0:1, 0:0],
        array[0:0, 0:1],
        array[0:1, 2:3],
        array[2:3, ::2],
        array[::2, 1::2],
        array[1::2],
    ]
    rows = b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)
    path = tmp_path / "a.png"
    path.write_bytes(_png(width=4, height=4, bits=8, kind=0, rows=rows, interlace=1))
    np.testing.assert_array_equal(np.asarray(Image.open(path)), array)
    with open_image(path) as source:
        np.testing.assert_array_equal(pixels_of(source)[0], array)


def test_cmyk_jpeg_is_refused(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8)).save(tmp_path / "print.jpg")
    with pytest.raises(ImageError, match=r"print\.jpg is a JPEG in CMYK colours; convert it"):
        open_image(tmp_path / "print.jpg")


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_bmp_equals_pillow(tmp_path: Path, pixels_of: Pixels, noise: Noise, mode: str) -> None:
    array = noise((5, 6, 3) if mode == "RGB" else (5, 6), "bool" if mode == "1" else "uint8")
    Image.fromarray(array).save(tmp_path / "a.bmp")
    with open_image(tmp_path / "a.bmp") as source:
        expected = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
        np.testing.assert_array_equal(pixels_of(source), expected)
        assert source.dtype == array.dtype


def test_bmp_palette(tmp_path: Path, pixels_of: Pixels) -> None:
    image = Image.new("P", (3, 1))
    image.putdata([0, 1, 2])
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "a.bmp")
    with open_image(tmp_path / "a.bmp") as source:
        assert source.palette is not None
        np.testing.assert_array_equal(source.palette[:3], np.eye(3) * 255)
        np.testing.assert_array_equal(pixels_of(source), [[[0, 1, 2]]])


def test_region_may_be_written_to_and_reading_again_gives_the_file(tmp_path: Path, noise: Noise) -> None:
    array = noise((20, 30), "uint8")
    Image.fromarray(array).save(tmp_path / "a.png")
    region = Region(3, 11, 5, 17)
    with open_image(tmp_path / "a.png") as source:
        source.read(region)[:] = 0
        np.testing.assert_array_equal(source.read(region)[0], array[3:11, 5:17])


def test_threads_read_the_same(tmp_path: Path, noise: Noise) -> None:
    array = noise((64, 64), "uint8")
    Image.fromarray(array).save(tmp_path / "a.png")
    results: list[AnyArray] = []
    with open_image(tmp_path / "a.png") as source:
        threads = [Thread(target=lambda: results.append(source.read(Region(0, 64, 0, 64)))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 8
    assert all((result[0] == array).all() for result in results)


def test_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_png(width=200_000, height=200_000, bits=8, kind=2, rows=b""))
    with pytest.raises(ImageError, match=r"would take 111\.8 GiB when decoded"):
        open_image(path)


@pytest.mark.parametrize("keep", [9, 40, 0.5, -1])
def test_png_cut_short_is_refused_on_opening(tmp_path: Path, noise: Noise, keep: float) -> None:
    whole = imagecodecs.png_encode(noise((50, 50), "uint8"))
    path = tmp_path / "a.png"
    path.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(ImageError, match=r"a\.png is cut short"):
        open_image(path)


def test_damaged_png_pixels_are_one_line(tmp_path: Path, noise: Noise) -> None:
    whole = bytearray(imagecodecs.png_encode(noise((50, 50), "uint8")))
    start = whole.index(b"IDAT") + 4
    whole[start : start + 100] = bytes(100)
    (tmp_path / "a.png").write_bytes(whole)
    with open_image(tmp_path / "a.png") as source, pytest.raises(ImageError, match="damaged") as caught:
        source.read(Region(0, 50, 0, 50))
    assert "\n" not in str(caught.value)


def test_jpeg_cut_short_is_an_error_on_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with open_image(path) as source, pytest.raises(ImageError, match=r"a\.jpg cannot be read"):
        source.read(Region(0, 64, 0, 64))


@pytest.mark.parametrize("kind", [1, 9])
def test_png_of_an_unknown_kind_is_refused(tmp_path: Path, kind: int) -> None:
    (tmp_path / "a.png").write_bytes(_png(width=4, height=4, bits=8, kind=kind, rows=b""))
    with pytest.raises(ImageError, match="is damaged: its header declares"):
        open_image(tmp_path / "a.png")


def test_png_without_its_palette_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_png(width=1, height=1, bits=8, kind=3, rows=b"\0\0"))
    with pytest.raises(ImageError, match="palette is missing"):
        open_image(tmp_path / "a.png")


def _png(
    *, width: int, height: int, bits: int, kind: int, rows: bytes, palette: bytes = b"", interlace: int = 0
) -> bytes:
    """A PNG made by hand, so that its header may lie."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlace)
    colours = [(b"PLTE", palette)] if palette else []
    chunks = [(b"IHDR", header), *colours, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
