"""Every format says what it is in its own module, and is found by its name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from napari_pix2pix.formats.registry import format_named, formats, readable_suffixes, writable_formats


def test_formats_have_names_of_their_own_and_are_read_or_written() -> None:
    names = [entry.name for entry in formats()]

    assert len(set(names)) == len(names)
    for entry in formats():
        assert entry.open_source or entry.write
        assert all(suffix == suffix.lower() for suffix in (*entry.suffixes, *entry.read_suffixes))
        assert format_named(entry.name) is entry


def test_what_is_not_written_is_written_as_a_format_that_is() -> None:
    assert {entry.written_as for entry in formats()} <= set(writable_formats())


def test_endings_of_readable_files() -> None:
    assert {".tif", ".tiff", ".png", ".jpg", ".bmp", ".zarr", ".svs", ".czi"} <= readable_suffixes()


@pytest.mark.parametrize(
    ("code", "packages"),
    [
        ("import sys, napari_pix2pix.formats", ("zarr", "yaozarrs", "tifffile", "PIL")),
        ("import sys; from napari_pix2pix.formats.registry import formats; formats()", ("zarr", "rasterio")),
    ],
    ids=["names of the package", "list of formats"],
)
def test_packages_of_formats_are_loaded_when_they_are_needed(code: str, packages: tuple[str, ...]) -> None:
    listing = f"{code}; print([name for name in {packages} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
