"""How long napari's event loop waits while the widgets train, and while they translate a large layer.

    xvfb-run -a -s "-screen 0 1920x1080x24" python -m benchmarks.event_loop [--size 8192] [--steps 80] [--out FOLDER]

Each job has a process and a viewer of its own. A timer in the main thread should beat every 5 ms; what is between two
beats is a gap, which counts everything that napari, Qt and the operating system do there. Besides, every slot of the
widgets is timed, without what napari's own `add_image` takes in it. Other processes lengthen both: so the load of the
machine is printed, and of the slots the processor time too, which is theirs alone. A second thread looks where the main
thread stands in gaps of more than 50 ms. With --out writes FOLDER/event_loop.json and FOLDER/event_loop.md.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import give_results

BEAT_MS = 5
LIMIT_SECONDS = 0.05
PLUGIN = "napari-pix2pix"
MODEL_FILE = "tiny.safetensors"
_SLOTS = ("on_", "refresh", "look", "event")
"""How names of slots begin, underscores left out."""
SHOWN = 8
"""Slots and places that are printed of each job."""


@dataclass
class Measured:
    """One job. Gaps and times in seconds; of each slot the longest time of the clock and of the processor.

    `slot_in_longest_gap` is the slot that took most of the longest gap, empty where none ran in it. `places` counts
    where the main thread was seen in gaps over the limit.
    """

    job: str
    beats: int = 0
    longest_gap: float = 0.0
    gap_99_percent: float = 0.0
    gaps_over_limit: int = 0
    slot_in_longest_gap: str = ""
    slots: dict[str, tuple[float, float]] = field(default_factory=dict)
    add_image: float = 0.0
    places: dict[str, int] = field(default_factory=dict)
    load: tuple[float, float] = (0.0, 0.0)


class Stopwatch:
    """Beats of a timer, and calls of slots, in the main thread."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.beats: list[float] = []
        self.calls: list[tuple[str, float, float, float]] = []
        """Slot, its start and end on the clock without what is set apart, and its processor time."""
        self.apart: list[float] = []
        self.places: Counter[str] = Counter()
        self._depth = 0
        self._apart_now = np.zeros(2)
        self._main_thread = threading.get_ident()
        self._timer = QTimer()
        self._timer.setInterval(BEAT_MS)
        self._timer.timeout.connect(lambda: self.beats.append(time.perf_counter()))

    def start(self) -> None:
        self.calls.clear()
        self.apart.clear()
        self.beats.append(time.perf_counter())
        self._timer.start()
        threading.Thread(target=self._look, daemon=True).start()

    def stop(self) -> None:
        self._timer.stop()

    def _look(self) -> None:
        while self._timer.isActive():
            time.sleep(LIMIT_SECONDS / 4)
            if time.perf_counter() - self.beats[-1] > LIMIT_SECONDS:
                stack = traceback.extract_stack(sys._current_frames()[self._main_thread])
                self.places[" < ".join(f"{Path(frame.filename).stem}.{frame.name}" for frame in stack[:-4:-1])] += 1

    def slot(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed where no other slot has called it."""
        accepted = _positional_parameters(function)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            started, self._apart_now = _now(), self._apart_now * (self._depth > 1)
            try:
                return function(*args[:accepted], **kwargs)
            finally:
                self._depth -= 1
                if self._depth == 0 and threading.get_ident() == self._main_thread:
                    wall, processor = _now() - started - self._apart_now
                    self.calls.append((name, started[0], started[0] + wall, processor))

        return timed

    def set_apart(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time kept out of that of the slot that calls it."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = _now()
            try:
                return function(*args, **kwargs)
            finally:
                self._apart_now = self._apart_now + (_now() - started)
                self.apart.append(time.perf_counter() - started[0])

        return timed

    def measured(self, job: str) -> Measured:
        beats = np.array(self.beats)
        gaps = np.diff(beats)
        longest = int(gaps.argmax())
        slots: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
        for name, start, end, processor in self.calls:
            slots[name] = max(slots[name][0], end - start), max(slots[name][1], processor)
        return Measured(
            job=job,
            beats=len(beats),
            longest_gap=float(gaps.max()),
            gap_99_percent=float(np.percentile(gaps, 99)),
            gaps_over_limit=int((gaps > LIMIT_SECONDS).sum()),
            slot_in_longest_gap=self._slot_between(beats[longest], beats[longest + 1]),
            slots=dict(slots),
            add_image=max(self.apart, default=0.0),
            places=dict(self.places),
        )

    def _slot_between(self, start: float, end: float) -> str:
        shares: Counter[str] = Counter()
        for name, first, last, _ in self.calls:
            if (share := min(last, end) - max(first, start)) > 0:
                shares[name] += round(share * 1e6)
        return shares.most_common(1)[0][0] if shares else ""


def _now() -> Any:
    """Seconds of the clock, and of the processor in this thread."""
    return np.array([time.perf_counter(), time.thread_time()])


def _positional_parameters(function: Callable[..., Any]) -> int | None:
    """How many arguments a signal may pass on; None for any number."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    return sum(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) for parameter in parameters
    )


def watch_slots(watch: Stopwatch) -> None:
    """Time whatever signals, timers and workers call in the widgets, in all classes of the plugin."""
    import napari_pix2pix._widgets as package

    for module in pkgutil.iter_modules(package.__path__):
        for kind in vars(import_module(f"{package.__name__}.{module.name}")).values():
            if inspect.isclass(kind) and kind.__module__.startswith(package.__name__):
                for name, member in list(vars(kind).items()):
                    if inspect.isfunction(member) and name.lstrip("_").startswith(_SLOTS):
                        setattr(kind, name, watch.slot(f"{kind.__name__}.{name}", member))


def train(viewer: Any, watch: Stopwatch, options: argparse.Namespace) -> None:
    """Train on the paired sample, with a preview and a validation at every fifth of the steps."""
    viewer.open_sample(PLUGIN, "pair")
    widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")[1]
    settings = widget.settings
    _wait(lambda: settings.base_width.value() != 64 or settings.device.value != "auto", seconds=20)
    widget.out.set_path(options.scratch / "run")
    settings.base_width.setValue(8)
    settings.patch_size.setValue(128)
    settings.form.native("validate_every").setValue(max(1, options.steps // 5))
    settings.unit.choose("steps")
    settings.length.setValue(options.steps)
    _wait(widget.train_button.isEnabled, seconds=20)
    _wait_until_drawn()
    watch.start()
    widget.train_button.click()
    _wait(lambda: not widget.is_running)
    assert widget.state.text().startswith("done"), widget.state.text()


def translate(viewer: Any, watch: Stopwatch, options: argparse.Namespace, out: Path | None = None) -> None:
    """Translate a large 8-bit layer with a tiny model, into memory, or into a file whose layer fills."""
    tile = np.random.default_rng(0).integers(0, 256, (1024, 1024), np.uint8)
    pixels = np.tile(tile, (-(-options.size // 1024),) * 2)[: options.size, : options.size]
    layer = viewer.add_image(pixels, name="large", contrast_limits=(0, 255))
    widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Translate")[1]
    widget.set_model(options.scratch / MODEL_FILE)
    widget.picker.choose([layer])
    if out is not None:
        widget.destination.choose(True)
        widget.out.set_path(out)
    _wait(widget.translate_button.isEnabled)
    _wait_until_drawn()
    watch.start()
    widget.translate_button.click()
    _wait(lambda: not widget.is_running)
    assert widget.state.text().startswith("done"), widget.state.text()


def translate_into_file(viewer: Any, watch: Stopwatch, options: argparse.Namespace) -> None:
    translate(viewer, watch, options, options.scratch / "large.ome.zarr")


JOBS: dict[str, Callable[..., None]] = {
    "training": train,
    "translation": translate,
    "translation into OME-Zarr": translate_into_file,
}


def _wait_until_drawn() -> None:
    """Everything has been drawn, and read, before the measurement begins."""
    end = time.perf_counter() + 3
    _wait(lambda: time.perf_counter() > end)


def _wait(condition: Callable[[], bool], *, seconds: float = 3600) -> None:
    """Let the event loop run, as it does for a user, until `condition` holds."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, timer, end = QEventLoop(), QTimer(), time.perf_counter() + seconds
    timer.timeout.connect(lambda: loop.quit() if condition() or time.perf_counter() > end else None)
    timer.start(20)
    loop.exec()
    timer.stop()
    if not condition():
        raise TimeoutError("what was waited for did not happen")


def measure(options: argparse.Namespace) -> Measured:
    """Run one job in a viewer of this process."""
    import napari

    from napari_pix2pix._widgets import preferences

    preferences._shared = preferences.RecentModels(options.scratch / "recent.json")
    watch = Stopwatch()
    watch_slots(watch)
    viewer = napari.Viewer(show=True)
    viewer_class = type(viewer)
    viewer_class.add_image = watch.set_apart(viewer_class.add_image)
    before = os.getloadavg()[0]
    JOBS[options.job](viewer, watch, options)
    end = time.perf_counter() + 1
    _wait(lambda: time.perf_counter() > end)  # what the last slot has set off is drawn
    watch.stop()
    result = watch.measured(options.job)
    result.load = before, os.getloadavg()[0]
    viewer.close()
    return result


def make_tiny_model(path: Path) -> None:
    from benchmarks.contenders import randomized_model
    from pix2pix_training.model_file import save_model
    from pix2pix_training.network_config import GeneratorConfig

    save_model(randomized_model(GeneratorConfig(source_channels=1, target_channels=1, base_width=4, depth=5)), path)


def measured_in_child(job: str, options: argparse.Namespace) -> Measured:
    with tempfile.TemporaryDirectory() as scratch:
        make_tiny_model(Path(scratch) / MODEL_FILE)  # here, so that the child has napari before PyTorch, as users do
        result = Path(scratch) / "measured.json"
        sizes = ["--size", str(options.size), "--steps", str(options.steps)]
        words = [
            sys.executable,
            "-m",
            "benchmarks.event_loop",
            "--job",
            job,
            "--scratch",
            scratch,
            "--json",
            str(result),
            *sizes,
        ]
        subprocess.run(words, check=True)
        return Measured(**json.loads(result.read_text(encoding="utf-8")))


def report(measured: Measured) -> None:
    where = measured.slot_in_longest_gap or "no slot of the widgets"
    print(f"{measured.job}: {measured.beats} beats, load {measured.load[0]:.1f} to {measured.load[1]:.1f}")
    print(
        f"  longest gap {1000 * measured.longest_gap:.0f} ms ({where}), 99 % below "
        f"{1000 * measured.gap_99_percent:.0f} ms, {measured.gaps_over_limit} over {1000 * LIMIT_SECONDS:.0f} ms"
    )
    print(f"  napari's add_image: {1000 * measured.add_image:.0f} ms")
    for name, (wall, processor) in sorted(measured.slots.items(), key=lambda item: -item[1][0])[:SHOWN]:
        print(f"  {name:45s} {1000 * wall:7.1f} ms, of the processor {1000 * processor:7.1f} ms")
    for place, times in Counter(measured.places).most_common(SHOWN):
        print(f"  seen in a long gap {times} times: {place}")


def table(measured: Sequence[Measured]) -> Iterator[str]:
    yield "| | longest gap between beats | 99 % of the gaps are shorter than | napari's `add_image` | longest slot |"
    yield "|---|---|---|---|---|"
    for one in measured:
        slot = max((wall for wall, _ in one.slots.values()), default=0.0)
        figures = (one.longest_gap, one.gap_99_percent, one.add_image, slot)
        yield f"| {one.job} | {' | '.join(f'{1000 * seconds:.0f} ms' for seconds in figures)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=8192, help="side of the layer to translate, in pixels")
    parser.add_argument("--steps", type=int, default=80, help="length of the training")
    parser.add_argument("--job", choices=JOBS, help="only this one, in this process")
    parser.add_argument("--scratch", type=Path, help="folder for a single job")
    parser.add_argument("--json", type=Path, help="where a single job leaves its figures")
    parser.add_argument("--out", type=Path, help="for the results")
    options = parser.parse_args()
    if options.job is not None:
        options.json.write_text(json.dumps(asdict(measure(options))), encoding="utf-8")
        return
    print(f"{os.cpu_count()} cores, priority {os.getpriority(os.PRIO_PROCESS, 0)}", flush=True)
    results = [measured_in_child(job, options) for job in JOBS]
    for result in results:
        report(result)
    give_results(options.out, "event_loop", [asdict(result) for result in results], "\n".join(table(results)))


if __name__ == "__main__":
    main()
