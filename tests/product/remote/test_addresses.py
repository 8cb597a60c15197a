"""Addresses as paths, and what is never shown of them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from napari_pix2pix.formats.remote import RemotePath, as_path
from napari_pix2pix.formats.remote_servers import redacted
from pix2pix_training.errors import InputError


@pytest.mark.parametrize("address", ["s3://bucket/a/b.tif", "gs://bucket/b.tif", "https://host:8080/a/b.ome.zarr"])
def test_an_address_stays_what_it_is_through_paths(address: str) -> None:
    path = as_path(address)

    assert isinstance(path, RemotePath)
    assert str(path) == address
    assert as_path(Path(address)) == path
    assert str(as_path(Path(address))) == address
    assert str(path.parent / path.name) == address
    assert pickle.loads(pickle.dumps(path)) == path
    assert (path / "0" / "c").relative_to(path).as_posix() == "0/c"


@pytest.mark.parametrize("path", ["a/b.tif", "/a/b.tif", "C:\\b.tif", "ftp://host/b.tif", "s3/b.tif"])
def test_other_paths_stay_paths(path: str) -> None:
    assert not isinstance(as_path(path), RemotePath)


def test_secrets_of_an_address_are_not_shown() -> None:
    path = as_path("https://me:swordfish@host/a.tif?X-Amz-Signature=0123abcd%2Fef&X-Amz-Expires=60#x")

    assert str(path) == "https://host/a.tif"
    assert "swordfish" not in repr(path)
    said = redacted("GET https://me:swordfish@host/a.tif?X-Amz-Signature=0123abcd%2Fef: 0123abcd/ef")
    assert "swordfish" not in said
    assert "0123abcd" not in said


def test_credentials_in_the_address_of_a_bucket_are_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="credentials do not belong into an address") as error:
        as_path("s3://AKID:swordfish@bucket/a.tif")
    assert "swordfish" not in str(error.value)


def test_an_address_without_a_host_is_refused() -> None:
    with pytest.raises(InputError, match="give the bucket or host too"):
        as_path("s3:///")
