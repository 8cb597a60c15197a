"""Zarr arrays of which a damaged chunk takes no memory: the length that it claims is held against its shape."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import zarr
from numcodecs.abc import Codec
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import ShardingCodec

_HEADER_BYTES = 32
_OVERHEAD_BYTES = 1 << 16
"""What checksums and the index of a shard may add to pixels."""


def with_checked_chunks(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """The same array, for reading only.

    What Blosc, Zstandard or LZ4 compress begins with its length, and they ask for that much memory before they look
    further. Where a chunk claims more than twice what its shape takes, reading it raises `ValueError`.
    """
    metadata: Any = array.metadata
    if metadata.zarr_format == 2:
        size = prod(array.chunks) * np.dtype(array.dtype).itemsize
        compressor = metadata.compressor and _CheckedCompressor(metadata.compressor, size)
        checked: Any = replace(metadata, compressor=compressor)
    else:
        checked = replace(metadata, codecs=_checked(metadata.codecs))
    return zarr.Array(zarr.AsyncArray(metadata=checked, store_path=array.store_path))


def _checked(codecs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Codecs of Zarr version 3; a check behind each compressor comes before it in reading."""
    found: list[Any] = []
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            found.append(
                ShardingCodec(
                    chunk_shape=codec.chunk_shape,
                    codecs=_checked(codec.codecs),
                    index_codecs=codec.index_codecs,
                    index_location=codec.index_location,
                )
            )
        elif isinstance(codec, BytesBytesCodec):
            found += [codec, _Check(str(codec.to_dict()["name"]).removeprefix("numcodecs."))]
        else:
            found.append(codec)
    return tuple(found)


@dataclass(frozen=True)
class _Check(BytesBytesCodec):
    compressor: str

    is_fixed_size = True

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        size = prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize
        _require_length(self.compressor, chunk_bytes.as_numpy_array()[:_HEADER_BYTES].tobytes(), size)
        return chunk_bytes

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: Any) -> int:
        return input_byte_length


class _CheckedCompressor(Codec):  # type: ignore[misc]
    """A compressor of Zarr version 2, for chunks of `size` bytes."""

    codec_id = "checked"

    def __init__(self, compressor: Any, size: int) -> None:
        self._compressor = compressor
        self._size = size

    def decode(self, buf: Any, out: Any = None) -> Any:
        _require_length(str(self._compressor.codec_id), bytes(memoryview(buf)[:_HEADER_BYTES]), self._size)
        return self._compressor.decode(buf, out)

    def encode(self, buf: Any) -> Any:
        return self._compressor.encode(buf)


def _require_length(compressor: str, header: bytes, size: int) -> None:
    length = _claimed_length(compressor, header)
    if length > 2 * size + _OVERHEAD_BYTES:
        raise ValueError(f"a chunk of {size} bytes claims to hold {length}; it is damaged")


def _claimed_length(compressor: str, header: bytes) -> int:
    """Bytes that a compressed chunk says it holds; 0 where it says nothing."""
    if compressor == "blosc":
        return int.from_bytes(header[4:8], "little")
    if compressor == "lz4":
        return int.from_bytes(header[:4], "little")
    if compressor == "zstd" and len(header) > 5:  # RFC 8878, 3.1.1.1
        descriptor = header[4]
        is_single_segment = descriptor >> 5 & 1
        width = (is_single_segment, 2, 4, 8)[descriptor >> 6]
        start = 6 - is_single_segment + (0, 1, 2, 4)[descriptor & 3]
        return int.from_bytes(header[start : start + width], "little") + (256 if width == 2 else 0)
    return 0
