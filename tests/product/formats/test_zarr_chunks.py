"""Chunks that claim more than their shape has room for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from napari_pix2pix.formats import open_image
from napari_pix2pix.formats.zarr_chunks import with_checked_chunks
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region

_PIXELS = np.random.default_rng(0).integers(0, 9, (3, 100, 130)).astype(np.uint16)
_KINDS: dict[str, tuple[Any, Any, Any]] = {
    "2 blosc": (2, numcodecs.Blosc(), None),
    "2 zstd": (2, numcodecs.Zstd(1), None),
    "2 lz4": (2, numcodecs.LZ4(), None),
    "2 zlib": (2, numcodecs.Zlib(1), None),
    "2 none": (2, None, None),
    "3 zstd": (3, ZstdCodec(checksum=True), None),
    "3 zstd in shards": (3, ZstdCodec(checksum=True), (3, 128, 192)),
    "3 blosc": (3, BloscCodec(), None),
    "3 gzip": (3, GzipCodec(), None),
}


def _saved(path: Path, kind: str) -> Path:
    version, compressor, shards = _KINDS[kind]
    options: dict[str, Any] = {} if shards is None else {"shards": shards}
    array = zarr.create_array(
        path, shape=_PIXELS.shape, dtype=_PIXELS.dtype, chunks=(1, 64, 64), compressors=compressor, zarr_format=version,
        **options,
    )  # fmt: skip
    array[:] = _PIXELS  # zarr 3.1.1 loses chunks of shards that are given at once with `data`
    return path


@pytest.mark.parametrize("kind", _KINDS)
def test_checked_chunks_hold_what_was_written(kind: str, tmp_path: Path) -> None:
    array = with_checked_chunks(zarr.open_array(_saved(tmp_path / "a.zarr", kind), mode="r"))
    np.testing.assert_array_equal(array[:], _PIXELS)
    np.testing.assert_array_equal(array[1, 10:80, 70:99], _PIXELS[1, 10:80, 70:99])


def _claim_of_blosc(chunk: bytes) -> bytes:
    return chunk[:4] + (1 << 30).to_bytes(4, "little") + chunk[8:]


def _claim_of_lz4(chunk: bytes) -> bytes:
    return (1 << 30).to_bytes(4, "little") + chunk[4:]


def _claim_of_zstd(chunk: bytes) -> bytes:
    """A frame that says its length in eight bytes."""
    return chunk[:4] + bytes([0b1110_0000]) + (1 << 40).to_bytes(8, "little") + chunk[13:]


@pytest.mark.parametrize(
    "kind, damaged",
    [
        ("2 blosc", _claim_of_blosc),
        ("2 zstd", _claim_of_zstd),
        ("2 lz4", _claim_of_lz4),
        ("3 zstd", _claim_of_zstd),
        ("3 zstd in shards", _claim_of_zstd),
        ("3 blosc", _claim_of_blosc),
    ],
)
def test_a_claim_is_refused_before_memory_is_asked_for(
    kind: str, damaged: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = _saved(tmp_path / "a.zarr", kind)
    chunk = path / ("c/0/0/0" if kind[0] == "3" else "0.0.0")
    chunk.write_bytes(damaged(chunk.read_bytes()))
    with open_image(path) as image, pytest.raises(ImageError, match="claims to hold"):
        image.read(Region(0, 64, 0, 64), (0,) * (len(image.shape) - 3))


def test_the_frames_of_zstd_are_read_at_all_lengths(tmp_path: Path) -> None:
    for length in (10, 300, 70_000, 200_000):  # one, two, and four bytes say the length
        pixels = np.zeros((length, 2), np.uint8)
        path = tmp_path / "a.zarr"
        zarr.create_array(path, data=pixels + 1, chunks=pixels.shape, compressors=numcodecs.Zstd(), zarr_format=2)
        np.testing.assert_array_equal(with_checked_chunks(zarr.open_array(path, mode="r"))[:], 1)
        shutil.rmtree(path)
