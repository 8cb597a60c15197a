"""How work is asked to stop: an event that it looks at between its steps."""

from __future__ import annotations

import threading


class Interrupted(Exception):  # noqa: N818 (it was asked for, so it is no error)
    """The work ends because it was asked to."""


class Cancel(threading.Event):
    """Set by whoever wants some work to end, from any thread; the work calls `check` between its steps."""

    def check(self) -> None:
        """Raise `Interrupted` where the work is to end."""
        if self.is_set():
            raise Interrupted
