"""Units: every spelling that files use, every name that OME-Zarr knows, and exact conversion."""

from __future__ import annotations

from typing import get_args

import pytest
from yaozarrs._axis import ValidSpaceUnit, ValidTimeUnit

from napari_pix2pix.formats.units import convert_length, in_seconds, ome_zarr_name, standard_unit


@pytest.mark.parametrize("name", get_args(ValidSpaceUnit))
def test_every_unit_of_length_of_ome_zarr_is_known(name: str) -> None:
    symbol = standard_unit(name)
    assert symbol is not None and symbol != name
    assert ome_zarr_name(symbol) == name
    assert convert_length(1, symbol, "m") is not None


@pytest.mark.parametrize("name", get_args(ValidTimeUnit))
def test_every_unit_of_time_of_ome_zarr_is_known(name: str) -> None:
    symbol = standard_unit(name)
    assert symbol is not None and symbol != name
    assert ome_zarr_name(symbol) == name
    assert in_seconds(1, symbol) is not None


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ("micron", "µm"), ("Microns", "µm"), ("um", "µm"), ("μm", "µm"), ("\\u00B5m", "µm"), ("micrometre", "µm"),
        ("mm", "mm"), ("Mm", "Mm"), ("feet", "ft"), ("inches", "in"), ("Å", "Å"), ("sec", "s"), ("pixel", None),
        (" ", None), (None, None), ("smoot", "smoot"), ("US survey ft", "US survey ft"),
    ],
)  # fmt: skip
def test_one_spelling_of_each_unit(spelling: str | None, expected: str | None) -> None:
    assert standard_unit(spelling) == expected


def test_conversion_is_rounded_once() -> None:
    assert convert_length(500, "nm", "µm") == 0.5
    assert convert_length(1, "ft", "cm") == 30.48
    assert convert_length(3937, "US survey ft", "m") == 1200
    assert convert_length(2, "smoot", "smoot") == 2
    assert convert_length(2, "smoot", "m") is None
    assert convert_length(2, "s", "m") is None
    assert in_seconds(250, "ms") == 0.25
