"""Web tiles that are transparent in places: no data on the way in, transparent again on the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from napari_pix2pix.formats.source import ImageSource, open_image
from napari_pix2pix.formats.writing import OutputSpec, Tile, check_output, write_image
from pix2pix_training.array_source import ArraySource, whole_plane
from pix2pix_training.errors import OutputError
from pix2pix_training.regions import Region

AnyArray = NDArray[Any]
Pixels = Callable[[ArraySource], AnyArray]
Noise = Callable[[tuple[int, ...], str], AnyArray]
Tiles = Callable[[AnyArray, int], Iterator[Tile]]

_SIZE = 16


@pytest.fixture
def alpha(noise: Noise) -> AnyArray:
    """Of 32 x 32 pixels: a transparent wedge, a half-transparent pixel, the rest opaque."""
    opacity = np.full((32, 32), 255, np.uint8)
    opacity[np.tri(32, k=-20, dtype=bool)] = 0
    opacity[3, 4] = 128
    return opacity


def _save(folder: Path, raster: AnyArray) -> None:
    """2 x 2 tiles of shape (Y, X, samples) at zoom 5, and one of zoom 4."""
    for row, column in np.ndindex(2, 2):
        path = folder / "5" / str(column + 8) / f"{row + 6}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(imagecodecs.png_encode(raster[row * _SIZE :, column * _SIZE :][:_SIZE, :_SIZE].copy()))
    parent = folder / "4" / "4" / "3.png"
    parent.parent.mkdir(parents=True)
    parent.write_bytes(imagecodecs.png_encode(raster[:_SIZE, :_SIZE].copy()))


def _opacity_of(source: ImageSource) -> AnyArray:
    opacity = source.read_with_opacity(whole_plane(source))[1]
    assert opacity is not None
    return opacity


def _with_alpha(output: AnyArray, alpha: AnyArray) -> AnyArray:
    """Output and alpha in the range of its type, as the tiles of a masked output have them."""
    scale = np.iinfo(output.dtype).max // 255
    return np.concatenate([output, alpha[None].astype(output.dtype) * np.array(scale, output.dtype)])


def _spec(source: ImageSource, channels: int, **changes: Any) -> OutputSpec:
    usual: dict[str, Any] = {"dtype": np.dtype("uint8"), "metadata": source.metadata, "masked": True}
    return OutputSpec(axes="CYX", shape=(channels, *source.shape[1:]), **(usual | changes))


def _written(folder: Path, zoom: int) -> AnyArray:
    """What Pillow sees of the tiles of a zoom, as RGBA, shape (Y, X, 4)."""
    columns = sorted((folder / str(zoom)).iterdir(), key=lambda path: int(path.name))
    rows = [np.concatenate([np.asarray(Image.open(p).convert("RGBA")) for p in sorted(c.iterdir())]) for c in columns]
    return np.concatenate(rows, axis=1)


@pytest.mark.parametrize(("samples", "dtype"), [(1, "uint8"), (3, "uint8"), (3, "uint16")])
def test_transparent_pixels_are_invalid(
    tmp_path: Path, noise: Noise, alpha: AnyArray, pixels_of: Pixels, caplog: pytest.LogCaptureFixture,
    samples: int, dtype: str,
) -> None:  # fmt: skip
    raster = noise((32, 32, samples), dtype)
    opacity = alpha.astype(dtype) * (np.iinfo(dtype).max // 255)
    _save(tmp_path, np.dstack([raster, opacity]))
    with open_image(tmp_path) as source:
        assert (source.shape, source.dtype.name, source.masked) == ((samples, 32, 32), dtype, True)
        pixels = pixels_of(source)
        np.testing.assert_array_equal(_opacity_of(source), alpha)
    valid = alpha > 0
    np.testing.assert_array_equal(pixels[:, valid], np.moveaxis(raster, -1, 0)[:, valid])
    assert "transparent" not in caplog.text


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("tile_px", [10, 32])
def test_alpha_comes_back(
    tmp_path: Path, noise: Noise, alpha: AnyArray, tiles_of: Tiles, channels: int, tile_px: int
) -> None:
    _save(tmp_path / "in", np.dstack([noise((32, 32, 3), "uint8"), alpha]))
    output = noise((channels, 32, 32), "uint8")
    with open_image(tmp_path / "in") as source:
        tiles = tiles_of(_with_alpha(output, alpha), tile_px)
        write_image(tmp_path / "out", _spec(source, channels), tiles, file_format="tiles")
    pixels = _written(tmp_path / "out", 5)
    np.testing.assert_array_equal(pixels[..., 3], alpha)
    np.testing.assert_array_equal(pixels[..., :3], np.broadcast_to(np.moveaxis(output, 0, -1), (32, 32, 3)))


def test_means_are_weighed_by_opacity(tmp_path: Path, noise: Noise, alpha: AnyArray, tiles_of: Tiles) -> None:
    _save(tmp_path / "in", np.dstack([noise((32, 32, 3), "uint8"), alpha]))
    (tmp_path / "in" / "5" / "9" / "7.png").unlink()
    with open_image(tmp_path / "in") as source:
        output = np.where(alpha == 0, 0, 200).astype(np.uint8)[None]
        tiles = tiles_of(_with_alpha(output, alpha), 16)
        write_image(tmp_path / "out", _spec(source, 1), tiles, file_format="tiles")
    assert not (tmp_path / "out" / "5" / "9" / "7.png").exists()
    pixels = _written(tmp_path / "out", 4)
    alpha[16:, 16:] = 0
    opacity = alpha.reshape(16, 2, 16, 2).mean((1, 3))
    np.testing.assert_array_equal(pixels[..., 3], np.rint(opacity))
    np.testing.assert_array_equal(pixels[..., 0], np.where(opacity > 0, 200, 0))


def test_sixteen_bits_get_the_alpha_of_eight(
    tmp_path: Path, noise: Noise, alpha: AnyArray, pixels_of: Pixels, tiles_of: Tiles
) -> None:
    _save(tmp_path / "in", np.dstack([noise((32, 32, 1), "uint8"), alpha]))
    output = noise((1, 32, 32), "uint16")
    with open_image(tmp_path / "in") as source:
        spec = _spec(source, 1, dtype=output.dtype)
    write_image(tmp_path / "out", spec, tiles_of(_with_alpha(output, alpha), 32), file_format="tiles")
    with open_image(tmp_path / "out") as source:
        np.testing.assert_array_equal(pixels_of(source)[0][alpha > 0], output[0][alpha > 0])
        np.testing.assert_array_equal(_opacity_of(source), alpha)
    assert imagecodecs.png_decode((tmp_path / "out" / "5" / "8" / "6.png").read_bytes())[3, 4, 1] == 128 * 257


def test_palette_with_a_transparent_colour(tmp_path: Path, noise: Noise, pixels_of: Pixels, tiles_of: Tiles) -> None:
    indices = noise((32, 32), "uint8") % 5
    colours = noise((5, 3), "uint8")
    for row, column in np.ndindex(2, 2):
        tile = Image.fromarray(indices[row * _SIZE :, column * _SIZE :][:_SIZE, :_SIZE]).convert("P")
        tile.putdata(indices[row * _SIZE :, column * _SIZE :][:_SIZE, :_SIZE].ravel().tolist())
        tile.putpalette(colours.tobytes())
        path = tmp_path / "in" / "5" / str(column + 8) / f"{row + 6}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        tile.save(path, transparency=2)
    with open_image(tmp_path / "in") as source:
        np.testing.assert_array_equal(pixels_of(source)[0][indices != 2], indices[indices != 2])
        np.testing.assert_array_equal(_opacity_of(source), np.where(indices == 2, 0, 255))
        assert source.palette is not None
        spec = _spec(source, 1, palette=source.palette, categories=True)
    output = (indices + 1) % 5
    tiles = tiles_of(_with_alpha(output[None], np.where(indices == 2, 0, 255)), 32)
    write_image(tmp_path / "out", spec, tiles, file_format="tiles")
    pixels = _written(tmp_path / "out", 5)
    np.testing.assert_array_equal(pixels[..., 3], np.where(indices == 2, 0, 255))
    np.testing.assert_array_equal(pixels[indices != 2][:, :3], colours[output][indices != 2])
    with open_image(tmp_path / "out") as source:
        np.testing.assert_array_equal(_opacity_of(source), np.where(indices == 2, 0, 255))
        np.testing.assert_array_equal(pixels_of(source)[0][indices != 2], output[indices != 2])


def test_opaque_tiles_among_transparent_ones(
    tmp_path: Path, noise: Noise, alpha: AnyArray, pixels_of: Pixels, tiles_of: Tiles
) -> None:
    raster = noise((32, 32, 3), "uint8")
    alpha[:16] = 255
    _save(tmp_path / "in", np.dstack([raster, alpha]))
    for column in (8, 9):
        path = tmp_path / "in" / "5" / str(column) / "6.png"
        Image.open(path).convert("RGB").save(path)
    with open_image(tmp_path / "in") as source:
        np.testing.assert_array_equal(_opacity_of(source), alpha)
        tiles = tiles_of(_with_alpha(np.moveaxis(raster, -1, 0), alpha), 32)
        write_image(tmp_path / "out", _spec(source, 3), tiles, file_format="tiles")
    np.testing.assert_array_equal(_written(tmp_path / "out", 5)[..., 3], alpha)


def test_outputs_without_room_for_transparency(tmp_path: Path, noise: Noise, alpha: AnyArray) -> None:
    _save(tmp_path / "in", np.dstack([noise((32, 32, 1), "uint8"), alpha]))
    palette = np.zeros((256, 3), np.uint8)
    with (
        open_image(tmp_path / "in") as source,
        pytest.raises(OutputError, match="cannot say which pixels hold no data"),
    ):
        check_output(tmp_path / "out", _spec(source, 1, palette=palette), file_format="tiles", overwrite=False)


def test_black_and_white_with_alpha_becomes_grey(
    tmp_path: Path, noise: Noise, alpha: AnyArray, tiles_of: Tiles
) -> None:
    _save(tmp_path / "in", np.dstack([noise((32, 32, 1), "uint8"), alpha]))
    output = noise((1, 32, 32), "uint8") > 100
    with open_image(tmp_path / "in") as source:
        spec = _spec(source, 1, dtype=np.dtype(bool))
    tiles = tiles_of(np.concatenate([output, alpha[None] > 0]), 32)
    write_image(tmp_path / "out", spec, tiles, file_format="tiles")
    pixels = _written(tmp_path / "out", 5)
    np.testing.assert_array_equal(pixels[..., 3], np.where(alpha > 0, 255, 0))
    np.testing.assert_array_equal(pixels[..., 0] > 0, output[0])


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_transparent_colour_of_a_png(tmp_path: Path, noise: Noise, mode: str) -> None:
    levels = (noise((9, 7), "uint8") % 4).astype("uint16" if mode == "I;16" else "uint8")
    image = np.dstack([levels] * 3) if mode == "RGB" else levels
    Image.fromarray(image).save(tmp_path / "a.png", transparency=(2, 2, 2) if mode == "RGB" else 2)
    with open_image(tmp_path / "a.png") as source:
        pixels, opacity = source.read_with_opacity(Region(1, 9, 2, 7))
    np.testing.assert_array_equal(pixels[0], levels[1:, 2:])
    assert opacity is not None
    np.testing.assert_array_equal(opacity == 0, levels[1:, 2:] == 2)
