"""A command that torchrun has started in several processes: only the first one is heard, but for the line of an error.

That is said by the process that ends first, as others then only notice that one is missing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from napari_pix2pix.cli import interrupts
from pix2pix_training.errors import InputError

if TYPE_CHECKING:
    from pix2pix_training.distributed import Group

_SECONDS_TO_STOP = 20.0
"""torchrun kills 30 seconds after it has asked."""
_SECONDS_TO_ASK = 3
_STDOUT, _STDERR = 1, 2

_kept: dict[int, int] = {}
"""Of a process that is not heard: stdout and stderr as they were."""


def has_started() -> bool:
    """Whether this is one of several processes."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def is_first() -> bool:
    """Whether this process writes, speaks and decides, as one alone does."""
    return not has_started() or os.environ["RANK"] == "0"


def begin() -> None:
    """Be quiet unless this is the first process."""
    if not has_started():
        return
    interrupts.ends_within(_SECONDS_TO_STOP, is_first_to_end)
    if not is_first() and not _kept:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (_STDOUT, _STDERR):
            _kept[stream] = os.dup(stream)
            os.dup2(nowhere, stream)


def require_use(arguments: Sequence[str]) -> None:
    """Refuse what several processes cannot share."""
    if not has_started():
        return
    if arguments[:1] != ["train"]:
        raise InputError("only `train` works in several processes; run this command without torchrun")
    if any(argument.partition("=")[0] == "--compare-presets" for argument in arguments):
        raise InputError("--compare-presets trains in one process; run it without torchrun")


@contextmanager
def joined(device: str) -> Iterator[tuple[Group, str]]:
    """The processes of the run, and the device of this one."""
    from pix2pix_training import distributed

    if not has_started():
        yield distributed.ALONE, device
        return
    with distributed.joined(device) as group_and_device:
        yield group_and_device


def has_last_word(code: int) -> bool:
    """Whether this process says why it ends with `code`; it is heard from now on then."""
    if not has_started():
        return True
    if is_first():
        return is_first_to_end() or code == interrupts.EXIT_INTERRUPTED
    if code == interrupts.EXIT_INTERRUPTED or not is_first_to_end():
        return False
    for stream, kept in _kept.items():
        os.dup2(kept, stream)
    return True


def is_first_to_end() -> bool:
    """Whether no process of the run has asked this before; torchrun keeps the count, beside the processes."""
    if "torch" not in sys.modules:  # wrong use, which each process finds by itself
        return is_first()
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    place, port, restarts = (os.environ[f] for f in ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT"))
    try:
        store = TCPStore(place, int(port), is_master=False, timeout=timedelta(seconds=_SECONDS_TO_ASK))
        return bool(store.add(f"napari-pix2pix-ended-{restarts}", 1) == 1)
    except RuntimeError:  # it has ended too
        return True
