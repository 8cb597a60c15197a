"""Tries loaders with damaged files, in a process of its own: ``fuzzing.py FOLDER COUNT SEED LOADER...``.

The process may take little memory more than it has after its imports, and tells of every file or socket outside FOLDER
that a loader opens. One line of JSON for each loader goes to stdout: how many inputs were tried, the slowest, and the
first violation. The input at hand lies in FOLDER.input, for one that ends the process.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import resource
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from napari_pix2pix.formats import raster, source
from pix2pix_training.errors import Pix2PixError
from tests.fuzz.loaders import LOADERS
from tests.fuzz.loading import Loader, clear

BUDGET_BYTES = 1 << 30
_DECODE_BUDGET_BYTES = 1 << 28
LONGEST_S = 5.0

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_READABLE = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), "/proc", "/sys", "/dev", "/usr", "/etc")


class Watch:
    """Notes what is opened outside of a folder while a loader is at work."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.seen: list[str] = []
        self.is_on = False
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100
            writes = bool(arguments[2] & _WRITES)
            if not path.startswith(self.folder) and (writes or not path.startswith(_READABLE)):
                self.seen.append(f"{'wrote' if writes else 'read'} {path}")
        elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
            path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100
            if event in ("os.remove", "os.rmdir") and arguments[1] >= 0:  # within an open folder
                path = f"{Path(f'/proc/self/fd/{arguments[1]}').readlink()}/{os.fsdecode(arguments[0])}"
            if not path.startswith(self.folder):
                self.seen.append(f"{event} {path}")
        elif event in ("subprocess.Popen", "os.system", "socket.connect"):
            self.seen.append(f"{event} {arguments[0]}")


class Violation(Exception):  # noqa: N818
    """A loader did what none may do."""


def try_loader(name: str, loader: Loader, folder: Path, count: int, number: int, watch: Watch) -> dict[str, Any]:
    found: dict[str, Any] = {"loader": name, "inputs": 0, "refused": 0, "slowest_s": 0.0, "violation": None}
    place = folder.with_name(folder.name + ".input")

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(loader.damage)
    def run(damage: Any) -> None:
        clear(folder)
        place.write_text(f"{name}: {damage!r}", encoding="utf-8", errors="backslashreplace")
        watch.seen.clear()
        started = time.process_time()
        watch.is_on = True
        try:
            loader.load(folder, damage)
        except Pix2PixError as error:
            found["refused"] += 1
            _require_right_error(error)
        finally:
            watch.is_on = False
        took = time.process_time() - started
        found["inputs"] += 1
        found["slowest_s"] = max(found["slowest_s"], round(took, 3))
        if took > LONGEST_S:
            raise Violation(f"took {took:.1f} s")
        if watch.seen:
            raise Violation("; ".join(watch.seen[:3]))

    try:
        run()
    except BaseException as error:
        notes = " ".join(getattr(error, "__notes__", ()))
        lines = traceback.format_exception(error)
        found["violation"] = f"{type(error).__name__}: {str(error)[:500]} {notes[:3000]}"
        found["traceback"] = "".join(lines)[-3000:]
    return found


def _require_right_error(error: Pix2PixError) -> None:
    """One line; and no lack of memory that was hidden behind it."""
    if "\n" in str(error) or not str(error):
        raise Violation(f"not one line: {error!r}")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            raise Violation("asked for more memory than its budget") from error
        cause = cause.__cause__ or cause.__context__


def limit_memory() -> None:
    """What the process has now, and the budget."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + BUDGET_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main(place: str, count: str, number: str, *names: str) -> None:
    folder = Path(place).resolve()
    folder.mkdir(exist_ok=True)
    warnings.simplefilter("ignore")
    logging.disable()
    for module in (source, raster):
        vars(module)["DECODE_BUDGET_BYTES"] = _DECODE_BUDGET_BYTES
    watch = Watch(folder)
    for name in names:
        loader = LOADERS[name]
        loader.damage.validate()  # draws up what it damages, outside of the limits
        try_loader(name, loader, folder, 3, 0, watch)  # imports what is imported when it is first needed
    limit_memory()
    for name in names:
        sys.stdout.write(json.dumps(try_loader(name, LOADERS[name], folder, int(count), int(number), watch)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
