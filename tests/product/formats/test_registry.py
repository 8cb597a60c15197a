"""Every format says what it is in its own module, and is found by its name."""

from __future__ import annotations

import subprocess
import sys

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


def test_names_of_the_package_import_no_format() -> None:
    code = "import sys, napari_pix2pix.formats; print([n for n in ('zarr', 'tifffile', 'PIL') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
