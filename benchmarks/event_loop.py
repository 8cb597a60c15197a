"""How long the widgets keep napari's event loop waiting, while they train and while they translate a large layer.

    xvfb-run -a -s "-screen 0 1920x1080x24" python benchmarks/event_loop.py [--size 8192] [--steps 200] [--json FILE]

For each: the longest time between two beats of a 5 ms timer in the main thread, which counts everything that napari,
Qt and the operating system do there; and the longest time that a slot of this plugin took, with napari's own
`add_image` apart. Other processes lengthen both, so the load of the machine is printed, and the processor time of the
slots, which is their own.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_pix2pix._widgets import recent_models, workers
from napari_pix2pix.sample_data import simulate_cells

_BEAT_MS = 5
_PLUGIN = "napari-pix2pix"
_Seconds = dict[str, tuple[float, float]]
"""Wall-clock and processor time, by what took it."""


class Clock:
    """Longest times, by what took them, in the main thread."""

    def __init__(self) -> None:
        self.longest: _Seconds = defaultdict(lambda: (0.0, 0.0))
        self._apart = np.zeros(2)
        self._last_beat = _now()
        self._timer = QTimer()
        self._timer.setInterval(_BEAT_MS)
        self._timer.timeout.connect(self._beat)

    def _beat(self) -> None:
        now = _now()
        self._note("event loop", now - self._last_beat)
        self._last_beat = now

    def _note(self, name: str, seconds: Any) -> None:
        wall, processor = self.longest[name]
        self.longest[name] = max(wall, float(seconds[0])), max(processor, float(seconds[1]))

    @contextmanager
    def running(self) -> Iterator[None]:
        self.longest.clear()
        self._last_beat = _now()
        self._timer.start()
        yield
        self._timer.stop()

    def slot(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed without what is set apart within it."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            started, apart = _now(), self._apart
            try:
                return function(*args, **kwargs)
            finally:
                self._note(f"slot {_name_of(function)}", _now() - started - (self._apart - apart))

        return timed

    def apart(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The function, with its time kept out of that of the slot that calls it."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = _now()
            try:
                return function(*args, **kwargs)
            finally:
                seconds = _now() - started
                self._apart = self._apart + seconds
                self._note(name, seconds)

        return timed


def _now() -> Any:
    """Seconds of the clock, and of the processor in this thread."""
    return np.array([time.perf_counter(), time.thread_time()])


def _name_of(function: Any) -> str:
    inner = getattr(function, "func", function)
    return str(getattr(inner, "__qualname__", inner))


def watch_workers(clock: Clock) -> None:
    """Time every callback that a worker of the widgets calls in the main thread."""
    start_worker = workers.start_worker

    def watched(make_events: Any, *, on_events: Any, on_error: Any, on_end: Any) -> Any:
        return start_worker(
            make_events, on_events=clock.slot(on_events), on_error=clock.slot(on_error), on_end=clock.slot(on_end)
        )

    from napari_pix2pix._widgets import job_widget, live_view, train_widget, training_images, translate_widget

    for module in (job_widget, live_view, train_widget, training_images, translate_widget):
        module.start_worker = watched  # type: ignore[attr-defined]


def measure_training(viewer: Any, clock: Clock, scratch: Path, steps: int) -> _Seconds:
    cells = simulate_cells(1024, 1024)
    viewer.add_image(cells.source, name="source")
    viewer.add_image(cells.target[0], name="target")
    _wait(lambda: bool(viewer.window._qt_window.isVisible()))
    _settle(5)  # everything has been drawn once, as before any user opens a widget
    widget = viewer.window.add_plugin_dock_widget(_PLUGIN, "Train")[1]
    widget.out.set_path(scratch / "run")
    widget.settings.base_width.setValue(8)
    widget.settings.patch_size.setValue(128)
    widget.settings.preview_every.setValue(max(1, steps // 4))
    widget.settings.unit.choose("steps")
    widget.settings.length.setValue(steps)
    _settle(1)
    with clock.running():
        clock.slot(widget._on_train)()
        _wait(lambda: not widget.is_running)
        _settle(0.5)
    return dict(clock.longest)


def measure_translation(viewer: Any, clock: Clock, model: Path, size: int) -> _Seconds:
    viewer.layers.clear()
    tile = simulate_cells(1024, 1024, seed=1).source
    layer = viewer.add_image(np.tile(tile, (-(-size // 1024),) * 2)[:size, :size], name="large")
    widget = viewer.window.add_plugin_dock_widget(_PLUGIN, "Translate")[1]
    widget.set_model(model)
    widget.picker.choose([layer])
    _wait(lambda: bool(widget.translate_button.isEnabled()))
    _settle(1)
    with clock.running():
        clock.slot(widget._on_translate)()
        _wait(lambda: not widget.is_running)
        _settle(0.5)
    assert len(viewer.layers) == 2, "the translation failed"
    return dict(clock.longest)


def _wait(condition: Callable[[], bool]) -> None:
    while not condition():
        _settle(0.02)


def _settle(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        QApplication.processEvents()
        time.sleep(0.001)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=8192, help="side of the layer to translate, in pixels")
    parser.add_argument("--steps", type=int, default=200, help="length of the training")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    viewer = napari.Viewer(show=True)
    clock = Clock()
    watch_workers(clock)
    viewer_add = type(viewer).add_image
    type(viewer).add_image = clock.apart(viewer_add, "napari's add_image")
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        recent_models._shared = recent_models.RecentModels(Path(scratch) / "recent.json")
        results = {"training": measure_training(viewer, clock, Path(scratch), options.steps)}
        results["translation"] = measure_translation(
            viewer, clock, Path(scratch) / "run" / "model.safetensors", options.size
        )
    viewer.close()
    load = {"before": load_before, "after": os.getloadavg()[0], "cores": os.cpu_count()}
    for job, longest in results.items():
        print(job)
        for name, (wall, processor) in sorted(longest.items(), key=lambda item: -item[1][0]):
            print(f"  {name:60s} {1000 * wall:8.1f} ms, of the processor {1000 * processor:8.1f} ms")
    print("load", load)
    if options.json:
        options.json.write_text(json.dumps({"seconds": results, "load": load}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
