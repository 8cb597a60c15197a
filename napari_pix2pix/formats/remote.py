"""Addresses in the place of paths: ``s3://``, ``gs://`` and ``https://``, read by parts through fsspec.

A `RemotePath` does not have what is secret of an address, and neither has whatever is said, logged or written of it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from io import BufferedReader, RawIOBase
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any
from urllib.parse import unquote, urlsplit

from napari_pix2pix.formats.remote_servers import (
    SCHEMES,
    TRIES,
    Secret,
    credentials_in_words,
    filesystem,
    gdal_settings,
    keep_secret,
    trouble_with,
    with_secret,
)
from pix2pix_training.errors import InputError, Pix2PixError

if sys.platform == "win32":
    from pathlib import WindowsPath as _NativePath
else:
    from pathlib import PosixPath as _NativePath

ZARR_FILES = ("zarr.json", ".zattrs", ".zgroup", ".zarray")

_ADDRESS = re.compile(r"(s3|gs|https?):/+(.*)", re.DOTALL)
"""A path has one slash of the two."""
_BUCKETS = ("s3", "gs")
_BLOCK_BYTES = 1 << 16
_DIGEST_BYTES = 16
_VERSIONS = ("etag", "last-modified", "lastmodified", "updated")


def as_path(place: str | Path) -> Path:
    """A path as it is; an address, also one that was taken for a path, as a `RemotePath` without its secrets.

    Raises
    ------
    InputError
        An address without a host or bucket, or with credentials that do not belong there.
    """
    if isinstance(place, RemotePath):
        return place
    found = _ADDRESS.match(place if isinstance(place, str) else place.as_posix())
    if found is None:
        return Path(place)
    scheme, rest = found.groups()
    if scheme in _BUCKETS:
        bucket = rest.split("/")[0]
        if "@" in bucket:
            raise InputError(
                f"{scheme}://...@{bucket.rpartition('@')[2]}: credentials do not belong into an address; "
                f"{credentials_in_words(scheme + '://')} are used"
            )
        return _of_address(scheme, rest)
    parts = urlsplit(f"{scheme}://{rest}")
    host = parts.netloc.rpartition("@")[2]
    path = _of_address(scheme, host + parts.path)
    if parts.query or parts.username is not None:
        secret = Secret(
            None if parts.username is None else unquote(parts.username),
            None if parts.password is None else unquote(parts.password),
            parts.query,
        )
        keep_secret(str(path), secret)
    return path


def _of_address(scheme: str, rest: str) -> RemotePath:
    if not rest.strip("/"):
        raise InputError(f"{scheme}:// is no address; give the bucket or host too")
    return RemotePath(f"{scheme}://{rest}")


class RemotePath(_NativePath):
    """A file, or what lies below a prefix like a folder, at an address; `str` gives that without secrets.

    What is asked of it raises `OSError` with one line of what is wrong, and `InputError` where a package is missing.
    """

    def __str__(self) -> str:
        parts = self.parts
        is_address = len(parts) > 1 and parts[0].rstrip(":") in SCHEMES
        return f"{parts[0]}//{'/'.join(parts[1:])}" if is_address else super().__str__()

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __fspath__(self) -> str:
        return str(self)

    @property
    def scheme(self) -> str:
        return self.parts[0].rstrip(":")

    @property
    def is_bucket(self) -> bool:
        """Of a kind that can be written and listed."""
        return self.scheme in _BUCKETS

    # --- what `Path` does with a disk

    def absolute(self) -> RemotePath:
        return self

    def resolve(self, strict: bool = False) -> RemotePath:
        return self

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        info = self.info()
        kind = stat.S_IFDIR if info["type"] == "directory" else stat.S_IFREG
        size = int(info.get("size") or 0)
        return os.stat_result((kind, _number(_version(info)), 0, 1, 0, 0, size, 0, 0, 0), {"st_mtime_ns": 0})

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self._type() is not None

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._type() == "directory"

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Also False where access is denied, which some servers say of whatever is not there."""
        with suppress(PermissionError):
            return len(self.parts) > 2 and self._type() == "file"
        return False

    def is_symlink(self) -> bool:
        return False

    def samefile(self, other_path: str | os.PathLike[str]) -> bool:
        return str(self) == os.fspath(other_path)

    def iterdir(self) -> Iterator[RemotePath]:  # type: ignore[override]
        if not self.is_bucket:
            raise OSError(errno.ENOTSUP, "a web server does not say which files it has; name them", str(self))
        with reported(self):
            listed = filesystem(str(self)).ls(str(self), detail=False)
        names = sorted({PurePosixPath(entry).name for entry in listed} - {"", self.name})
        return (self / name for name in names)

    def open(self, mode: str = "r", buffering: int = -1, *options: Any, **named_options: Any) -> Any:
        """For reading bytes, by requests for parts; unbuffered with `buffering` 0."""
        if mode != "rb":
            raise OSError(errno.ENOTSUP, "a file at an address is read only", str(self))
        raw = RangeFile(self)
        return raw if buffering == 0 else BufferedReader(raw, _BLOCK_BYTES)

    def unlink(self, missing_ok: bool = False) -> None:
        with reported(self), suppress(FileNotFoundError):
            filesystem(str(self)).rm_file(str(self))

    # --- what only it does

    def info(self) -> dict[str, Any]:
        """Type ("file" or "directory"), size, and what else the server says; `FileNotFoundError` where nothing is."""
        if len(self.parts) < 2:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        may_be_folder = not self.is_bucket and self.suffix.lower() in ("", ".zarr") and self.name not in ZARR_FILES
        if may_be_folder and _holds_zarr(self):
            return {"type": "directory"}
        with reported(self):
            found: dict[str, Any] = filesystem(str(self)).info(str(self))
            return found

    def _type(self) -> str | None:
        with suppress(FileNotFoundError):
            return str(self.info()["type"])
        return None

    def version(self) -> str:
        """Changes whenever the content does, as far as the server says (its ETag)."""
        return _version(self.info())

    def write(self, content: bytes) -> None:
        """Make or replace an object, in one step."""
        with reported(self):
            filesystem(str(self)).pipe_file(str(self), content)

    def create(self, content: bytes) -> bool:
        """Make an object where there is none, as far as the server can tell; whether that was so."""
        if self.is_file():
            return False
        with reported(self):
            try:
                filesystem(str(self)).pipe_file(str(self), content, mode="create")
            except FileExistsError:
                return False
        return True

    def remove_below(self, *, but: str = "") -> None:
        """Remove all objects of which the names begin with this one and "/", except the one called `but`."""
        with reported(self):
            files = filesystem(str(self))
            found = [name for name in files.find(str(self)) if PurePosixPath(name).name != but]
            if found:
                files.rm(found)

    def _below(self) -> dict[str, Any]:
        """What is known of all objects below this name, by their names there."""
        with reported(self):
            found = filesystem(str(self)).find(str(self), detail=True)
        start = len(str(self).split("://")[1]) + 1
        return {name[start:]: entry for name, entry in found.items()}

    def versions_below(self) -> dict[str, str]:
        """The `version` of all objects below this name, by their names there."""
        return {name: _version(entry) for name, entry in self._below().items()}

    def identity(self) -> list[Any]:
        """Tells what is read from something else, ready for JSON: name, size, and versions of all that is known of it.

        Of an OME-Zarr on a web server, which lists nothing, only of what describes it.
        """
        info = self.info()
        if info["type"] == "file":
            versions = {self.name: info}
        elif self.is_bucket:
            versions = self._below()
        else:
            documents = [self / inner / name for inner in ("", "0") for name in ZARR_FILES]
            versions = {str(file): file.info() for file in documents if file.is_file()}
        digest = blake2b(digest_size=_DIGEST_BYTES)
        for name, entry in sorted(versions.items()):
            digest.update(f"{name} {entry.get('size')} {_version(entry)}\n".encode())
        total = sum(int(entry.get("size") or 0) for entry in versions.values())
        return [self.name, total, digest.hexdigest()]


def _holds_zarr(path: Path) -> bool:
    return any((path / name).is_file() for name in ZARR_FILES)


def _version(info: dict[str, Any]) -> str:
    """An ETag, or the time of change."""
    known = {name.lower(): value for name, value in info.items()}
    return str(next((known[name] for name in _VERSIONS if name in known), ""))


def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest())


class RangeFile(RawIOBase):
    """A file at an address, of which only the parts that are read are asked for."""

    def __init__(self, path: RemotePath) -> None:
        self.name = str(path)
        self._path = path
        self._lock = Lock()
        with reported(path):
            self._file: Any = filesystem(str(path)).open(self.name, "rb", cache_type="none")
        if not self._file.seekable() or self._file.size is None:
            raise OSError(errno.ENOTSUP, "its server gives files only as a whole; download it first", self.name)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._position = offset + (0, self._position, int(self._file.size))[whence]
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        target = memoryview(buffer).cast("B")
        content = self._read(len(target))
        target[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _read(self, length: int) -> bytes:
        for number in range(1, TRIES + 1):
            try:
                with self._lock, reported(self._path):
                    self._file.seek(min(self._position, self._file.size))
                    return bytes(self._file.read(length))
            except (TimeoutError, ConnectionError):
                if number == TRIES:
                    raise
                time.sleep(number)
        raise AssertionError


def opened_tiff(path: Path, **options: Any) -> Any:
    """A `tifffile.TiffFile`, wherever the file lies."""
    import tifffile

    return tifffile.TiffFile(path.open("rb") if isinstance(path, RemotePath) else path, **options)


def zarr_place(path: Path, *, writable: bool = False) -> Any:
    """What zarr opens in the place of a path."""
    if not isinstance(path, RemotePath):
        return path
    from zarr.storage import FsspecStore

    files = filesystem(str(path), asynchronous=True)
    with reported(path):
        return FsspecStore(files, path=files._strip_protocol(str(path)), read_only=not writable)


@contextmanager
def gdal_name(path: Path) -> Iterator[str | Path]:
    """What GDAL opens in the place of a path; what it knows of servers comes from the environment too.

    It does not look for files beside those at addresses.
    """
    if not isinstance(path, RemotePath):
        yield path.absolute()
        return
    import rasterio

    for name, value in gdal_settings(str(path)).items():
        os.environ.setdefault(name, value)
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        if path.is_bucket:
            yield f"/vsi{path.scheme}/{'/'.join(path.parts[1:])}"
        else:
            yield f"/vsicurl/{with_secret(str(path))}"


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn what goes wrong between here and a server into an `OSError` of one line; of local paths as it is."""
    try:
        yield
    except Pix2PixError:
        raise
    except Exception as error:
        told = trouble(path, error)
        if told is None or told is error:
            raise
        raise told from error


def trouble(path: Path, error: BaseException) -> OSError | None:
    """What a server, or the way there, did wrong; None where an error is of another kind, or a path is local."""
    return trouble_with(str(path), error) if isinstance(path, RemotePath) else None
