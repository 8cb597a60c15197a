"""Answers of worker threads that come when nobody waits for them any more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.widgets.conftest import WaitUntil


@pytest.mark.parametrize("outcome", ["answer", "error"])
def test_late_answers_leave_deleted_widgets_alone(qtbot: Any, wait_until: WaitUntil, outcome: str) -> None:
    from qtpy.compat import isalive
    from qtpy.QtCore import QEvent
    from qtpy.QtWidgets import QApplication, QWidget

    from napari_pix2pix._widgets.messages import Message
    from napari_pix2pix._widgets.workers import make_worker
    from pix2pix_training.errors import ImageError

    class Asking(QWidget):  # type: ignore[misc]  # Qt is not seen by the checker
        def __init__(self) -> None:
            super().__init__()
            self.message = Message()
            self.message.setParent(self)

        def told(self, about: str, answers: list[Any]) -> None:
            self.message.say(f"{about}: {answers}")

        def failed(self, about: str, error: Exception) -> None:
            self.message.say(f"{about}: {error}")

    deleted = threading.Event()
    called: list[str] = []

    def answers() -> Iterator[str]:
        deleted.wait(20)
        if outcome == "error":
            raise ImageError("too late")
        yield "too late"

    asking = Asking()
    worker = make_worker(
        answers,
        on_events=partial(asking.told, "values"),
        on_error=partial(asking.failed, "values"),
        on_end=partial(called.append, "end"),
    )
    worker.start()
    asking.deleteLater()
    QApplication.sendPostedEvents(asking, QEvent.Type.DeferredDelete.value)
    assert not isalive(asking)
    deleted.set()
    wait_until(lambda: called == ["end"])  # pytest-qt fails the test for an exception in a slot
    wait_until(lambda: not worker.is_running)
