"""What both widgets do with their worker: one at a time, stopped when the widget goes away, with words about it."""

from __future__ import annotations

from typing import Any

from napari.settings import get_settings
from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QSize, QTimer
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QScrollArea, QWidget

from napari_pix2pix._widgets.messages import Message, Remarks
from napari_pix2pix._widgets.workers import CoreWorker, MakeEvents, make_worker
from pix2pix_training.cancel import Cancel

_TITLE = "{} (pix2pix)"
"""As napari names what its Plugins menu opens, so that the menu finds it."""


class JobWidget(QWidget):
    """A widget with at most one worker; subclasses say what happens at its events and its end.

    `state` and `remarks` are words about the last job. They go when the choice is another one than it was for, which
    is `said_about`. The fields in `inputs` decide what a job does, and can be changed when there is none. `area` is
    what of it is scrolled.
    """

    least_width = 330
    """In pixels; it is wider where a large font asks for it."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.state = Message()
        self.remarks = Remarks()
        self.inputs: list[QWidget] = []
        self.area: QScrollArea
        self._font_size: int | None = None
        self._follow_font()
        self._worker: CoreWorker | None = None
        self.said_about: object = None
        self._docked = QTimer(self)  # which goes with the widget, unlike a single shot
        self._docked.setSingleShot(True)
        self._docked.setInterval(0)
        self._docked.timeout.connect(self._share_place)
        self._ended = QTimer(self)
        self._ended.setSingleShot(True)
        self._ended.setInterval(0)
        self._ended.timeout.connect(self._show_outcome)

    def minimumSizeHint(self) -> QSize:
        return super().minimumSizeHint().expandedTo(QSize(self.least_width, 0))

    @property
    def is_running(self) -> bool:
        return self._worker is not None

    def run(self, make_events: MakeEvents, stop: Cancel | None = None) -> None:
        """Start the work; `on_events` and then `on_end` follow. For `stop` see `make_worker`.

        It begins when all is said about it: from then on both threads want the interpreter.
        """
        self.remarks.forget()
        self._worker = make_worker(
            make_events,
            on_events=self.on_events,
            on_error=self.on_error,
            on_remark=self.on_remark,
            on_end=self._on_worker_end,
            stop=stop,
        )
        self.destroyed.connect(self._worker.stop.set)
        self.refresh()
        self._worker.start()

    def stop(self) -> None:
        """Ask the work to end after the present step."""
        if self._worker is not None:
            self._worker.quit()

    def lock_inputs(self) -> None:
        """Let the fields be changed, or not while a job runs; for whenever that may have begun or ended."""
        for field in self.inputs:
            field.setEnabled(not self.is_running)

    def refresh(self, *_: Any) -> None:
        """Say and offer what fits the choice, and whether a job runs."""
        raise NotImplementedError

    def look_again(self) -> None:
        """Files may be others than they were; for when the user comes back to the form, or begins a job."""
        if not self.is_running:
            self.refresh()

    def choice(self) -> object:
        """What is chosen, to be compared: words about a job are stale when it has changed."""
        raise NotImplementedError

    def forget_stale_words(self) -> None:
        """Take words away that are about another choice; for whenever something may have changed."""
        choice = self.choice()
        if self.is_running or choice == self.said_about:
            return
        self.said_about = choice
        self.state.say("")
        self.remarks.forget()
        for words in (self.state, self.remarks):
            words.keep_room(False)

    def on_events(self, events: list[Any]) -> None:
        raise NotImplementedError

    def on_error(self, error: Exception) -> None:
        """Say what failed; napari shows its notification besides."""
        raise NotImplementedError

    def on_remark(self, line: str) -> None:
        """Show what was decided about an image; a line that stands in the form already is not said again."""
        if not any(line in message.text() for message in self.findChildren(Message)):
            self.remarks.add(line)

    def on_end(self) -> None:
        raise NotImplementedError

    def _on_worker_end(self) -> None:
        self._worker = None
        self.said_about = self.choice()
        self.on_end()
        self._ended.start()  # looks once they have their place

    def outcome(self) -> list[QWidget]:
        """What a job has to say, in the part of the form that is scrolled."""
        return [self.remarks]

    def _show_outcome(self) -> None:
        """Scroll to what a job has to say, however much of the form is folded out."""
        for part in self.outcome():
            if part.isVisible():
                self.area.ensureWidgetVisible(part)

    def copy_command(self, command: str, *words: str) -> None:
        """Put a command on the clipboard and say so, with words about it."""
        QApplication.clipboard().setText(command)
        show_info(" ".join(["The command is on the clipboard.", *words]))

    def on_closed(self) -> None:
        """The widget was removed from the window; subclasses let go of the viewer here."""
        self.stop()

    def _follow_font(self) -> None:
        """napari gives its font size to all fields but these."""
        if (size := get_settings().appearance.font_size) != self._font_size:  # a style sheet is costly
            self._font_size = size
            self.setStyleSheet(f"QLineEdit, QTextBrowser {{ font-size: {size}pt; }}")

    def event(self, event: QEvent) -> bool:
        handled = bool(super().event(event))
        if event.type() == QEvent.Type.StyleChange:
            self._follow_font()
        if event.type() in (QEvent.Type.Show, QEvent.Type.WindowActivate):
            self.look_again()
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is None:
                self.on_closed()
            elif isinstance(self.parent(), QDockWidget):
                self._docked.start()  # looks once the dock is in the window
        return handled

    def _share_place(self) -> None:
        """Become a tab beside the other widget of this plugin, where that lies in the same area of the window."""
        dock, window = self.parent(), self.window()
        if not isinstance(dock, QDockWidget) or not isinstance(window, QMainWindow) or dock.isFloating():
            return
        area = window.dockWidgetArea(dock)
        for other in window.findChildren(QDockWidget):
            is_near = not other.isFloating() and window.dockWidgetArea(other) == area
            if other is not dock and is_near and isinstance(other.widget(), JobWidget):
                window.tabifyDockWidget(other, dock)
                dock.raise_()


def opened(viewer: Viewer, name: str, kind: type[Any]) -> Any:
    """The widget of `kind` in the viewer's window, brought to the front; opened where it is not.

    Parameters
    ----------
    name : of the widget in the manifest.
    """
    for widget in viewer.window.dock_widgets.values():
        if isinstance(widget, kind):
            dock = widget.parent()
            dock.show()
            dock.raise_()
            return widget
    widget = kind(viewer)
    viewer.window.add_dock_widget(widget, name=_TITLE.format(name), tabify=True)
    return widget
