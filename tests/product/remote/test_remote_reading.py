"""Images that are read from servers, compared with the same files on the disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_pix2pix.cli.application import run
from napari_pix2pix.formats import open_image
from pix2pix_training.array_source import AnyArray
from pix2pix_training.errors import ImageError
from pix2pix_training.regions import Region
from tests.product.remote.conftest import SECRET, pixels_of, upload, write_pixels
from tests.product.remote.servers import WebServer

NAMES = {"tiff": "x.tif", "ome-tiff": "x.ome.tif", "geotiff": "x.tif", "ome-zarr": "x.ome.zarr", "png": "x.png"}


def read(place: str | Path, region: Region | None = None) -> AnyArray:
    with open_image(place) as image:
        return image.read(region or Region.whole(*image.shape[-2:]))


@pytest.mark.parametrize("file_format", NAMES)
def test_an_image_on_a_web_server_is_read_as_from_the_disk(file_format: str, served: Path, web: WebServer) -> None:
    pixels = pixels_of(300, 420, "uint16" if file_format != "png" else "uint8")
    local = write_pixels(served / NAMES[file_format], pixels, file_format)

    with open_image(f"{web.url}/{local.name}") as image, open_image(local) as expected:
        assert image.shape == expected.shape
        assert image.metadata == expected.metadata
    np.testing.assert_array_equal(read(f"{web.url}/{local.name}"), pixels)


@pytest.mark.parametrize("file_format", ["geotiff", "tiff", "ome-tiff"])
def test_a_region_takes_less_than_a_tenth_of_the_file(file_format: str, served: Path, web: WebServer) -> None:
    pixels = pixels_of(2600, 2600)
    local = write_pixels(served / NAMES[file_format], pixels, file_format)
    region = Region.at(1100, 1100, 200, 200)

    found = read(f"{web.url}/{local.name}", region)

    np.testing.assert_array_equal(found, pixels[:, 1100:1300, 1100:1300])
    assert 0 < web.sent < local.stat().st_size / 10


def test_rows_of_an_uncompressed_file_are_not_a_request_each(served: Path, web: WebServer) -> None:
    pixels = pixels_of(500, 500)[0]
    tifffile.imwrite(served / "x.tif", pixels)

    with open_image(f"{web.url}/x.tif") as image:
        before = web.requests
        np.testing.assert_array_equal(image.read(Region.at(50, 50, 400, 400))[0], pixels[50:450, 50:450])

    assert web.requests - before < 10


def test_a_region_of_a_zarr_takes_its_chunks(served: Path, web: WebServer) -> None:
    pixels = pixels_of(2600, 2600)
    local = write_pixels(served / "x.ome.zarr", pixels, "ome-zarr")

    found = read(f"{web.url}/x.ome.zarr", Region.at(300, 300, 100, 100))

    np.testing.assert_array_equal(found, pixels[:, 300:400, 300:400])
    assert web.sent < sum(file.stat().st_size for file in local.rglob("*") if file.is_file()) / 10


def test_zarr_of_version_2_is_read(served: Path, web: WebServer) -> None:
    pixels = pixels_of(200, 300)[0]
    array = zarr.create_array(served / "plain", data=pixels, chunks=(64, 64), zarr_format=2)
    array.attrs["_ARRAY_DIMENSIONS"] = ["y", "x"]

    np.testing.assert_array_equal(read(f"{web.url}/plain")[0], pixels)


def test_signed_and_protected_addresses_are_read(served: Path, web: WebServer) -> None:
    for file_format in ("geotiff", "ome-zarr"):
        pixels = pixels_of(300, 300)
        local = write_pixels(served / NAMES[file_format], pixels, file_format)
        web.signature, web.password = SECRET, ""
        np.testing.assert_array_equal(read(f"{web.url}/{local.name}?sig={SECRET}"), pixels)
        web.signature, web.password = "", SECRET
        address = web.url.replace("://", f"://me:{SECRET}@")
        np.testing.assert_array_equal(read(f"{address}/{local.name}"), pixels)


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "access is denied"), (404, "does not exist"), (500, "the server answers with the error 500")],
)
def test_what_a_server_refuses_is_one_line(
    status: int, words: str, served: Path, web: WebServer, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pixels(served / "x.tif", pixels_of(30, 30), "tiff")
    web.status = status

    assert run(["info", f"{web.url}/x.tif?sig={SECRET}", "--json"]) == 2

    said = capsys.readouterr()
    assert words in said.err
    assert f"{web.url}/x.tif" in said.err
    assert SECRET not in said.out + said.err
    assert said.err.count("\n") == 1


def test_a_server_that_cannot_be_reached_is_one_line(web: WebServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", "http://127.0.0.1:9/x.tif"]) == 2

    said = capsys.readouterr().err
    assert "http://127.0.0.1:9/x.tif cannot be read: its server cannot be reached" in said
    assert said.count("\n") == 1


def test_a_server_without_ranges_is_refused(served: Path, web: WebServer) -> None:
    write_pixels(served / "x.tif", pixels_of(300, 300), "tiff")
    web.ranges = False

    with pytest.raises(ImageError, match="gives files only as a whole; download it first"):
        open_image(f"{web.url}/x.tif")


def test_a_server_that_fails_midway_gives_an_error_and_no_pixels(
    served: Path, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    for file_format in ("geotiff", "tiff", "ome-zarr"):
        local = write_pixels(served / NAMES[file_format], pixels_of(1500, 1500), file_format)
        with open_image(f"{web.url}/{local.name}") as image:
            web.status = 503
            with pytest.raises(ImageError, match="cannot be read"):
                image.read(Region.at(600, 600, 800, 800))
        web.status = 0
        local.rename(served / f"{file_format}.done")


def test_files_beside_a_remote_image_are_told_of(
    served: Path, web: WebServer, caplog: pytest.LogCaptureFixture
) -> None:
    tifffile.imwrite(served / "x.tif", pixels_of(30, 30)[0])
    (served / "x.tfw").write_text("10\n0\n0\n-10\n500000\n5000000\n")

    open_image(f"{web.url}/x.tif").close()

    assert "x.tfw beside it, which may say where it lies, is not read" in caplog.text


@pytest.mark.parametrize("file_format", NAMES)
def test_an_image_in_a_bucket_is_read_as_from_the_disk(file_format: str, tmp_path: Path, bucket: str) -> None:
    pixels = pixels_of(300, 420)
    local = write_pixels(tmp_path / NAMES[file_format], pixels, file_format)
    upload(local, bucket)

    np.testing.assert_array_equal(read(f"{bucket}/{local.name}"), pixels)


def test_no_such_bucket_or_key_is_one_line(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    for address in (f"{bucket}/none.ome.zarr", f"{bucket}-none/x.tif"):
        assert run(["info", address, "--json"]) == 2
        said = capsys.readouterr()
        assert address in json.loads(said.out)["error"]
        assert "does not exist" in said.err
        assert said.err.count("\n") == 1


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "s3fs", None)

    assert run(["info", "s3://bucket/x.tif"]) == 2

    assert 'pip install "napari-pix2pix[remote]"' in capsys.readouterr().err
