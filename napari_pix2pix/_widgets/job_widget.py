"""What both widgets do with their worker: one at a time, stopped when the widget goes away."""

from __future__ import annotations

from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QWidget

from napari_pix2pix._widgets.workers import CoreWorker, MakeEvents, start_worker
from pix2pix_training.cancel import Cancel


class JobWidget(QWidget):
    """A widget with at most one worker; subclasses say what happens at its events and its end."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self._worker: CoreWorker | None = None

    @property
    def is_running(self) -> bool:
        return self._worker is not None

    def run(self, make_events: MakeEvents, stop: Cancel | None = None) -> None:
        """Start the work; `on_events` and then `on_end` follow. For `stop` see `start_worker`."""
        self._worker = start_worker(
            make_events, on_events=self.on_events, on_error=self.on_error, on_end=self._on_worker_end, stop=stop
        )
        self.destroyed.connect(self._worker.stop.set)

    def stop(self) -> None:
        """Ask the work to end after the present step."""
        if self._worker is not None:
            self._worker.quit()

    def on_events(self, events: list[Any]) -> None:
        raise NotImplementedError

    def on_error(self, error: Exception) -> None:
        """Say what failed; napari shows its notification besides."""
        raise NotImplementedError

    def on_end(self) -> None:
        raise NotImplementedError

    def _on_worker_end(self) -> None:
        self._worker = None
        self.on_end()

    def on_closed(self) -> None:
        """The widget was removed from the window; subclasses let go of the viewer here."""
        self.stop()

    def event(self, event: QEvent) -> bool:
        handled = bool(super().event(event))
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.on_closed()
        return handled
