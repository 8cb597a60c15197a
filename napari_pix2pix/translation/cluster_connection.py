"""Connections to Dask clusters: to a scheduler, or to processes of this machine that are started for it."""

from __future__ import annotations

import logging
import re
import signal
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pix2pix_training.errors import ClusterError, InputError, SettingsError
from pix2pix_training.machine import available_memory_bytes

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

_CONNECT_S = 8


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A connection to a cluster; the limits of each worker's process are None where the worker knows them."""

    client: Client
    memory_limit: int | None = None
    threads: int | None = None


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """A cluster: one of this machine for "local:N", with N processes, else that of a scheduler.

    Raises
    ------
    InputError
        `distributed` is not installed, or no scheduler answers.
    """
    try:
        import distributed
    except ImportError as error:
        raise SettingsError('--dask needs the package distributed; pip install "napari-pix2pix[dask]"') from error
    _quiet()
    with ExitStack() as stack:
        local = re.fullmatch(r"local:(\d+)", address)
        limits: dict[str, int] = {}
        if local is not None:
            limits, address = _started_here(int(local[1]), stack)
        elif address.split(":")[0] == "local":
            raise SettingsError(f"dask {address!r} is not understood; give the address of a scheduler, or local:N")
        with warnings.catch_warnings(record=True) as said:
            try:
                client = stack.enter_context(
                    distributed.Client(address, timeout=_CONNECT_S, set_as_default=False, name="napari-pix2pix")
                )
            except (OSError, ValueError, TimeoutError) as error:
                raise InputError(
                    f"no Dask scheduler answers at {address} within {_CONNECT_S} s; start one (dask scheduler), or "
                    "give its address, such as tcp://10.0.0.1:8786"
                ) from error
        for warning in said:
            if issubclass(warning.category, distributed.versions.VersionMismatchWarning):
                logger.warning("%s", " ".join(str(warning.message).split()))
        yield Cluster(client=client, **limits)


def _started_here(count: int, stack: ExitStack) -> tuple[dict[str, int], str]:
    """Start a cluster of processes of this machine, which share its threads and memory: their limits, its address."""
    import torch
    from distributed import LocalCluster

    if not count:
        raise SettingsError("dask local:0 has no workers; give at least local:1")
    try:
        with _deaf_children():
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    dashboard_address=None,
                    memory_limit=None,
                    silence_logs=logging.CRITICAL,
                )
            )
    except (OSError, RuntimeError) as error:
        raise ClusterError(f"the {count} processes of --dask local:{count} did not start: {error}") from error
    threads = max(1, torch.get_num_threads() // count)
    return {"memory_limit": available_memory_bytes() // count, "threads": threads}, cluster.scheduler_address


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Threads that are begun within it, and processes that these begin later, do not hear a terminal's signals.

    They end with this process, which hears them.
    """
    signals = [number for name in ("SIGINT", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # which else lets signals through again when the first process is begun
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _quiet() -> None:
    """What goes wrong becomes one line of ours."""
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] in ("distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
