"""Files of Micro-Manager, as its two storage formats lay them out."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_pix2pix.formats.image_files import files_in
from napari_pix2pix.formats.source import open_image
from pix2pix_training.array_source import ArraySource
from pix2pix_training.errors import ImageError

AnyArray = NDArray[Any]
Pixels = Callable[[ArraySource], AnyArray]
Noise = Callable[[tuple[int, ...], str], AnyArray]

_SUMMARY: dict[str, Any] = {
    "MicroManagerVersion": "1.4", "Prefix": "run", "PixelSize_um": 0.5, "z-step_um": 2.0, "Interval_ms": 1500,
    "ChNames": ["DAPI", "GFP"],
}  # fmt: skip
_DIRECTORY_BYTES = 2 + 13 * 12 + 4


def _mmstack(path: Path, planes: dict[tuple[int, int, int, int], AnyArray], **summary: Any) -> Path:
    """A stack of planes by channel, slice, frame and position; each lies behind its directory of 13 tags."""
    text = json.dumps(_SUMMARY | summary).encode()
    first = 40 + len(text) + len(text) % 2
    height, width = next(iter(planes.values())).shape
    step = _DIRECTORY_BYTES + 2 * height * width
    content, index = b"", b""
    for number, (position, plane) in enumerate(planes.items()):
        offset = first + number * step
        following = offset + step if number + 1 < len(planes) else 0
        content += _directory(offset, height, width, following, (40, len(text))) + plane.astype("<u2").tobytes()
        index += struct.pack("<5I", *position, offset)
    end = first + len(content)
    header = struct.pack("<2sHI", b"II", 42, first) + struct.pack("<2I", 54773648, end)
    header += struct.pack("<6I", 483765892, 0, 99384722, 0, 2355492, len(text)) + text
    path.write_bytes(header.ljust(first, b"\0") + content + struct.pack("<2I", 3453623, len(planes)) + index)
    return path


def _directory(offset: int, height: int, width: int, following: int, text: tuple[int, int]) -> bytes:
    """`text` is the place and the length of JSON."""
    size = 2 * height * width
    tags = [
        (254, 4, 1, 0), (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, offset + _DIRECTORY_BYTES), (277, 3, 1, 1), (278, 3, 1, height), (279, 4, 1, size), (284, 3, 1, 1),
        (296, 3, 1, 1), (51123, 2, text[1], text[0]),
    ]  # fmt: skip
    return (
        struct.pack("<H", len(tags))
        + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        + struct.pack("<I", following)
    )


def _planes(array: AnyArray) -> dict[tuple[int, int, int, int], AnyArray]:
    """Shape (positions, frames, slices, channels, Y, X)."""
    return {(c, z, t, p): array[p, t, z, c] for p, t, z, c in np.ndindex(array.shape[:4])}


def test_stack(tmp_path: Path, noise: Noise, pixels_of: Pixels) -> None:
    array = noise((1, 2, 3, 2, 8, 9), "uint16")
    path = _mmstack(tmp_path / "run_MMStack_Pos0.ome.tif", _planes(array), Channels=2, Slices=3, Frames=2, Positions=1)
    with open_image(path) as source:
        assert (source.axes, source.shape) == ("TZCYX", (2, 3, 2, 8, 9))
        np.testing.assert_array_equal(pixels_of(source), array[0])
        found = source.metadata
    assert (found.pixel_size, found.unit, found.z_spacing, found.time_step_s) == ((0.5, 0.5), "µm", 2.0, 1.5)
    assert found.channel_names == ("DAPI", "GFP")


def test_files_of_an_acquisition_are_one_image(tmp_path: Path, noise: Noise, pixels_of: Pixels) -> None:
    array = noise((2, 1, 1, 2, 8, 9), "uint16")
    lengths = {"Channels": 2, "Slices": 1, "Frames": 1, "Positions": 2}
    for position in range(2):
        planes = {key: plane for key, plane in _planes(array).items() if key[3] == position}
        _mmstack(tmp_path / f"run_MMStack_Pos{position}.ome.tif", planes, **lengths)
    assert [path.name for path in files_in(tmp_path)] == ["run_MMStack_Pos0.ome.tif"]
    with open_image(tmp_path / "run_MMStack_Pos0.ome.tif") as source:
        assert (source.axes, len(source.files)) == ("RCYX", 2)
        np.testing.assert_array_equal(pixels_of(source), array[:, 0, 0])


@pytest.mark.parametrize("name", ["Channels", "Slices", "Frames", "Positions"])
def test_absurd_numbers_of_planes(tmp_path: Path, noise: Noise, name: str) -> None:
    planes = _planes(noise((1, 1, 1, 1, 8, 9), "uint16"))
    lengths = {"Channels": 1, "Slices": 1, "Frames": 1, "Positions": 1, name: 1_000_000_000}
    with pytest.raises(ImageError, match="declares 1000000000 planes; at most 1000000 are allowed"):
        open_image(_mmstack(tmp_path / "run_MMStack.ome.tif", planes, **lengths))
    far = {(0, 0, 0, 900_000_000): planes[0, 0, 0, 0]}
    with pytest.raises(ImageError, match="declares 900000001 planes"):
        open_image(_mmstack(tmp_path / "far_MMStack.ome.tif", far, Frames=1))


def _ndtiff(folder: Path, planes: list[tuple[dict[str, Any], str]]) -> Path:
    """An index of planes, each described by its axes and the name of its file."""
    entries = b""
    for axes, name in planes:
        described = json.dumps(axes).encode()
        entries += struct.pack("<I", len(described)) + described + struct.pack("<I", len(name)) + name.encode()
        entries += struct.pack("<IiiiiIii", 8, 9, 8, 1, 0, 0, 0, 0)
    (folder / "NDTiff.index").write_bytes(entries)
    path = folder / "NDTiffStack.tif"
    text = b'{"axes": {}}'
    header = (
        struct.pack("<2sHI", b"II", 42, 40) + struct.pack("<4I", 483729, 3, 0, 2355492) + struct.pack("<I", len(text))
    )
    place = len(header), len(text)
    path.write_bytes((header + text).ljust(40, b"\0") + _directory(40, 8, 9, 0, place) + bytes(2 * 8 * 9))
    return path


def test_ndtiff(tmp_path: Path) -> None:
    path = _ndtiff(tmp_path, [({"time": 0, "channel": "DAPI"}, "NDTiffStack.tif")])
    with open_image(path) as source:
        assert source.shape == (1, 8, 9)


@pytest.mark.parametrize(
    ("planes", "message"),
    [
        ([({"z": 0}, "NDTiffStack.tif"), ({"z": 2_000_000_000}, "NDTiffStack.tif")], "declares 2000000001 planes"),
        ([({"z": 0}, "../../elsewhere.tif")], "outside its own folder"),
        ([({"z": 0}, "NDTiffStack.tif"), ({"z": 1}, "NDTiffStack_1.tif")], "NDTiffStack_1.tif is missing beside it"),
    ],
)
def test_ndtiff_that_would_cost_memory_or_lead_elsewhere(
    tmp_path: Path, planes: list[tuple[dict[str, Any], str]], message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        open_image(_ndtiff(tmp_path, planes))
