"""Outputs in buckets, where nothing can be renamed: what may be written, and who writes it.

An OME-Zarr is written below its final name. Its own metadata come last, in one step, so that it is an image when it is
complete and nothing before. What is known of it meanwhile (see `OutputState`) lies on a disk of this machine. An object
below the name says which run is at work; it stays when that is killed, since nobody can tell that from a slow one.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import platformdirs

from napari_pix2pix.formats.remote import RemotePath, reported
from napari_pix2pix.formats.source import is_zarr
from pix2pix_training.errors import OutputError

CLAIM = ".pix2pix-writing.json"
STATE_VARIABLE = "NAPARI_PIX2PIX_STATE"

_NAMES_SHOWN = 3


def state_folder(path: RemotePath) -> Path:
    """Where the state of an output lies: in the user's folder for such things, or one that the environment names."""
    named = os.environ.get(STATE_VARIABLE)
    base = Path(named) if named else platformdirs.user_state_path("napari-pix2pix", appauthor=False) / "outputs"
    return base / f"{path.name}-{blake2b(str(path).encode(), digest_size=8).hexdigest()}"


def check_remote_target(path: RemotePath, file_format: str, overwrite: bool) -> None:
    """Refuse an output that could not be written; see `atomic.check_writable_target`.

    Raises
    ------
    OutputError
        It is on a web server, no OME-Zarr, there already, within another one, or nothing may be seen there.
    """
    if not path.is_bucket:
        raise OutputError(f"{path}: a web server can only be read; give a path, or an address s3://... or gs://...")
    if len(path.parts) <= 2:
        raise OutputError(f"{path} is a bucket; give the name of an output in it")
    if file_format != "ome-zarr":
        raise OutputError(f"{path}: outputs in buckets are OME-Zarr; give a name ending in .ome.zarr, or that --format")
    try:
        if path.exists() and (path.is_file() or (not overwrite and is_zarr(path))):
            raise OutputError(f"{path} exists already; choose another name or allow overwriting (--overwrite)")
        store = next((parent for parent in path.parents if len(parent.parts) > 2 and is_zarr(parent)), None)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    if store is not None:
        raise OutputError(f"{path} lies inside {store}, which is a Zarr store; give a place outside it")


def claim(path: RemotePath, run: str, former: str | None) -> None:
    """Be the run that writes an output; `former` is one of this state which it takes the place of.

    Raises
    ------
    OutputError
        Another run writes there, or has not ended, as far as can be told; objects of somebody else lie there; or
        nothing may be written.
    """
    note = {
        "run": run,
        "by": f"{_user()} on {socket.gethostname()}",
        "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    }
    content, place = json.dumps(note).encode(), path / CLAIM
    try:
        with reported(path):
            if place.create(content):
                _require_no_strangers(path, place)
                return
            held = _read(place)
            if held.get("run") == former:
                place.write(content)
            elif held.get("run") != run:
                raise OutputError(
                    f"{path} is being written by {held.get('by')} since {held.get('since')}; go on with it there, by "
                    f"--resume; or give another name, or remove what lies below {path}, {CLAIM} last"
                )
    except FileNotFoundError as error:
        raise OutputError(f"{path} cannot be written: its bucket does not exist") from error
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def _require_no_strangers(path: RemotePath, place: RemotePath) -> None:
    """What lies below the name, but is no image that was to be replaced, is somebody's."""
    others = [entry.name for entry in path.iterdir() if entry.name != CLAIM]
    if others and not is_zarr(path):
        place.unlink()
        names = ", ".join(others[:_NAMES_SHOWN])
        raise OutputError(
            f"{path} is no image, but objects lie below that name ({names}), and nothing is known of them here; remove "
            "them, or give another name"
        )


def release(path: RemotePath, run: str) -> None:
    """Let others write, if it is this run that does."""
    with suppress(FileNotFoundError):
        if _read(path / CLAIM).get("run") == run:
            (path / CLAIM).unlink()


def _read(place: RemotePath) -> dict[str, Any]:
    with place.open("rb") as file, suppress(ValueError):
        note: Any = json.loads(file.read())
        return note if isinstance(note, dict) else {}
    return {}


def _user() -> str:
    with suppress(Exception):  # no name is known in some containers
        return getpass.getuser()
    return "somebody"
