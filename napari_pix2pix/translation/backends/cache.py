"""Compiled generators kept in the user's cache folder, so that each is compiled once per machine.

An engine is found again by everything that it depends on, its *key*. Files are sealed by a checksum, readable by their
owner only, written atomically and under a lock, and the least recently used ones go when the folder grows too large.
Whatever is wrong with the folder or a file costs time (the engine is built again), never correctness.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import filelock
import platformdirs
import torch

from pix2pix_training.errors import EngineFileError, OutputError, Pix2PixError
from pix2pix_training.networks import Generator, norm_layers
from pix2pix_trt.engine_file import SUFFIX, EngineFile, read_engine_file, write_engine_file

logger = logging.getLogger(__name__)

DEFAULT_LIMIT_BYTES = 8 * 2**30


def default_folder() -> Path:
    return Path(platformdirs.user_cache_dir("napari-pix2pix", appauthor=False)) / "engines"


class EngineCache:
    """A folder of engines.

    Parameters
    ----------
    folder : created when the first engine is stored; by default in the user's cache folder.
    limit_bytes : least recently used engines are removed until the rest takes no more; the newest always stays.
    """

    def __init__(self, folder: Path | None = None, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.folder = folder or default_folder()
        self.limit_bytes = limit_bytes

    def get_or_build(self, key: Mapping[str, Any], build: Callable[[], bytes]) -> bytes:
        """The compiled bytes for `key` (JSON values), from the folder or else from `build`, then kept.

        Of several processes that ask for the same key, one builds and the others wait for it. What `build` raises goes
        through, and nothing is kept then. A folder that cannot be used is a warning: the engine is not kept.
        """
        path = self.path(key)
        found = self._found(path, key)
        if found is not None:
            return found
        with self._locked(path):
            found = self._found(path, key)
            if found is not None:
                return found
            payload = build()
            self._keep(path, key, payload)
            return payload

    def path(self, key: Mapping[str, Any]) -> Path:
        """Where the engine for `key` lies once it is built."""
        return self.folder / (hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:40] + SUFFIX)

    def contains(self, key: Mapping[str, Any]) -> bool:
        """Whether there is a file for `key`; it may still turn out to be damaged."""
        return self.path(key).is_file()

    def discard(self, path: Path) -> None:
        """Forget an engine, where `path` gave it, that has turned out to be of no use."""
        with suppress(OSError):
            path.unlink()

    def _found(self, path: Path, key: Mapping[str, Any]) -> bytes | None:
        if not path.exists():
            return None
        try:
            _require_own(path.parent)
            file = read_engine_file(path)
        except Pix2PixError as error:
            logger.warning("an engine in the cache is not used: %s", error)
            return None
        if not _same_key(file, key):
            logger.warning("an engine in the cache is not used: %s was made for another purpose", path)
            return None
        with suppress(OSError):
            os.utime(path)
        return file.payload

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """Hold the lock of one engine, waiting for another process; an unusable folder has nothing to guard."""
        lock = filelock.FileLock(path.with_suffix(".lock"), mode=0o600)
        try:
            _make_own(self.folder)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                logger.warning("another process is compiling this model; waiting for it")
                lock.acquire()
        except (OSError, Pix2PixError) as error:
            logger.warning("%s cannot be used as cache for engines: %s", self.folder, error)
        try:
            yield
        finally:
            lock.release()

    def _keep(self, path: Path, key: Mapping[str, Any], payload: bytes) -> None:
        try:
            _require_own(self.folder)
            write_engine_file(path, key, payload)
        except Pix2PixError as error:
            logger.warning("the engine is used but not kept, so it will be compiled again next time: %s", error)
        else:
            self._evict(path)

    def _evict(self, newest: Path) -> None:
        """Remove engines, longest unused first, until the rest fits; `newest` stays."""
        others = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            with suppress(OSError):
                if path != newest:
                    facts = path.stat()
                    others.append((facts.st_mtime, facts.st_size, path))
        total = newest.stat().st_size + sum(size for _, size, _ in others)
        for _, size, path in sorted(others):
            if total <= self.limit_bytes:
                return
            with suppress(OSError):  # in use on Windows, or removed by another process
                path.unlink()
                path.with_suffix(".lock").unlink(missing_ok=True)
                total -= size


def _same_key(file: EngineFile, key: Mapping[str, Any]) -> bool:
    return json.dumps(file.key, sort_keys=True) == json.dumps(key, sort_keys=True)


def _make_own(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_own(folder)


def _require_own(folder: Path) -> None:
    """Only its owner, this user, may write to or read the folder: what lies in it is executed on the GPU."""
    if sys.platform == "win32":
        return  # the user's profile is private there
    try:
        facts = folder.stat()
    except OSError as error:
        raise OutputError(f"{folder} cannot be used: {error.strerror}") from error
    if facts.st_uid != os.getuid():
        raise EngineFileError(f"{folder} belongs to another user, so engines in it are not trusted")
    if facts.st_mode & 0o022:
        raise EngineFileError(f"{folder} can be written by other users, so engines in it are not trusted; delete it")
    if facts.st_mode & 0o055:
        with suppress(OSError):
            folder.chmod(0o700)


def model_key(network: Generator) -> dict[str, Any]:
    """What of a key is the same for all stages of a network, and in every package."""
    return {
        "weights": weights_digest(network),
        "generator": _as_json(asdict(network.config)),
        "statistics": sorted({norm.statistics for norm in norm_layers(network)}),
    }


def weights_digest(network: Generator) -> str:
    """SHA-256 of names, shapes and values of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _as_json(values: dict[str, Any]) -> dict[str, Any]:
    """As it will be read again: tuples are lists."""
    return cast(dict[str, Any], json.loads(json.dumps(values)))
