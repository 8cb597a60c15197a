"""What `info` says of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_pix2pix.formats import describe_image, open_image
from napari_pix2pix.formats.georeference import GDAL_NODATA, Georeference, georeference_tags, web_mercator


def _described(path: Path, place: Georeference | None = None, **options: Any) -> dict[str, Any]:
    tags = [] if place is None else [(*tag, False) for tag in georeference_tags(place)]
    tifffile.imwrite(path, np.zeros((30, 40), np.int16), extratags=[*tags, *options.pop("extratags", [])], **options)
    with open_image(path) as image:
        facts = describe_image(image)
    assert json.loads(json.dumps(facts)).keys() == facts.keys()
    return facts


def test_only_what_is_known(tmp_path: Path) -> None:
    facts = _described(tmp_path / "a.tif", metadata=None, software="")
    assert facts == {
        "path": str(tmp_path / "a.tif"), "format": "tiff", "axes": "CYX", "shape": [1, 30, 40], "dtype": "int16",
        "rgb": False, "orientation": 1,
    }  # fmt: skip


def test_place_of_a_geotiff(tmp_path: Path) -> None:
    place = web_mercator(pixel_size_m=10, left_m=-500, top_m=7000)
    facts = _described(tmp_path / "a.tif", place, extratags=[(GDAL_NODATA, "s", 0, "-9999", False)])
    assert (facts["format"], facts["nodata"], facts["crs"]) == ("geotiff", -9999.0, "EPSG:3857")
    assert (facts["pixel_size"], facts["unit"]) == ((10.0, 10.0), "m")
    assert facts["transform"] == (10, 0, -500, 0, -10, 7000)
    assert facts["bounds"] == (-500, 6700, -100, 7000)


def test_degrees_are_no_length(tmp_path: Path) -> None:
    place = Georeference(crs="EPSG:4326", transform=(0.1, 0, -180, 0, -0.1, 60))
    facts = _described(tmp_path / "a.tif", place)
    assert facts["crs"] == "EPSG:4326"
    assert "pixel_size" not in facts
    assert facts["bounds"] == pytest.approx((-180, 57, -176, 60))


@pytest.mark.parametrize("scale", [0.0, float("nan"), float("inf")])
def test_absurd_scales_are_unknown(tmp_path: Path, scale: float) -> None:
    tags = georeference_tags(web_mercator(pixel_size_m=1, left_m=0, top_m=0))
    absurd = [(33550, "d", 3, (scale, scale, 0.0), False), *((*tag, False) for tag in tags if tag[0] != 33550)]
    facts = _described(tmp_path / "a.tif", extratags=absurd)
    assert "pixel_size" not in facts
    assert facts["crs"] == "EPSG:3857"
