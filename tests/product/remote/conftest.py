"""Servers, and images to read from them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_pix2pix.formats import OutputSpec, write_image
from napari_pix2pix.formats.georeference import Georeference
from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.remote import RemotePath, as_path
from pix2pix_training.array_source import AnyArray
from pix2pix_training.regions import Region
from tests.product.remote.servers import WebServer, web_server

SECRET = "never-to-be-shown-7f3a91"


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """What the web server serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


@pytest.fixture
def web(served: Path) -> Iterator[WebServer]:
    pytest.importorskip("aiohttp", reason="needs the extra 'remote'")
    with web_server(served) as server:
        yield server


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    pytest.importorskip("s3fs", reason="needs the extra 'remote'")
    server: Any = pytest.importorskip("moto.server", reason="needs moto, flask and flask-cors")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The address of an empty bucket, to which the environment has access."""
    import s3fs

    from napari_pix2pix.formats import remote_servers

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "AKIDFORTESTS",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "NAPARI_PIX2PIX_STATE": str(tmp_path / "state"),
    }.items():
        monkeypatch.setenv(name, value)
    remote_servers._is_anonymous.cache_clear()
    name = f"bucket-{tmp_path.name.replace('_', '-').lower()}"[:60].rstrip("-")
    s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True).mkdir(name)
    return f"s3://{name}"


def pixels_of(height: int, width: int, dtype: str = "uint8", seed: int = 0) -> AnyArray:
    """Noise, which does not compress."""
    return np.random.default_rng(seed).integers(0, 256, (1, height, width)).astype(dtype)


def write_pixels(path: Path, pixels: AnyArray, file_format: str) -> Path:
    """An image with or without a place."""
    place = Georeference(crs="EPSG:32633", transform=(10.0, 0.0, 5e5, 0.0, -10.0, 5e6))
    metadata = ImageMetadata(georeference=place if file_format == "geotiff" else None)
    spec = OutputSpec(axes="CYX", shape=pixels.shape, dtype=pixels.dtype, metadata=metadata)
    whole = Region.whole(*pixels.shape[-2:])
    return write_image(path, spec, iter([((), whole, pixels)]), file_format=file_format)


def upload(local: Path, folder: str) -> None:
    """Put a file, or a folder, below an address."""
    for file in [local] if local.is_file() else local.rglob("*"):
        if file.is_file():
            place = as_path(f"{folder}/{file.relative_to(local.parent).as_posix()}")
            assert isinstance(place, RemotePath)
            place.write(file.read_bytes())
