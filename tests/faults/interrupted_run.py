"""The command line with signals to itself at a chosen moment: ``interrupted_run.py MOMENT SIGNALS ARGUMENT...``.

MOMENT is ``import MODULE`` (when that is first imported), ``call MODULE:NAME`` (when that function is first called), or
``after SECONDS``. SIGNALS are names such as ``SIGINT,SIGINT``, sent at once one after the other.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial, reduce
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def send(names: str) -> None:
    for name in names.split(","):
        os.kill(os.getpid(), signal.Signals[name])
        time.sleep(0.02)  # two signals that come together may count as one


class AtImport(importlib.abc.MetaPathFinder):
    """Sends the signals when `module` is first imported; where a function of it is named, when that is first called."""

    def __init__(self, module: str, function: str, signals: str) -> None:
        self.module = module
        self.function = function
        self.signals = signals

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if fullname != self.module:
            return None
        sys.meta_path.remove(self)
        if not self.function:
            send(self.signals)
            return None
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module = partial(self.execute, spec.loader.exec_module)  # type: ignore[method-assign]
        return spec

    def execute(self, execute: Callable[[ModuleType], None], module: ModuleType) -> None:
        execute(module)
        *owners, name = self.function.split(".")
        owner = reduce(getattr, owners, module)
        function = getattr(owner, name)

        def signalling(*arguments: Any, **options: Any) -> Any:
            setattr(owner, name, function)
            send(self.signals)
            return function(*arguments, **options)

        setattr(owner, name, signalling)


def later(seconds: float, signals: str) -> None:
    timer = threading.Timer(seconds, send, [signals])
    timer.daemon = True
    timer.start()


def main(moment: str, signals: str, *arguments: str) -> None:
    kind, _, place = moment.partition(" ")
    match kind:
        case "import" | "call":
            module, _, function = place.partition(":")
            sys.meta_path.insert(0, AtImport(module, function, signals))
        case "after":
            later(float(place), signals)
    sys.argv[1:] = arguments
    from napari_pix2pix.cli import main as command

    command()


if __name__ == "__main__":
    main(*sys.argv[1:])
