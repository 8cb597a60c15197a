"""Reading ahead in a thread that always ends."""

from __future__ import annotations

import threading
import time

import pytest

from napari_pix2pix.translation.prefetch import current_cancel, prefetched
from pix2pix_training.cancel import Cancel, Interrupted


def no_thread_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_items_come_in_order() -> None:
    assert list(prefetched(lambda n: n * n, range(50), ahead=3)) == [n * n for n in range(50)]
    assert no_thread_left()


def test_no_more_is_prepared_than_allowed() -> None:
    prepared: list[int] = []
    items = prefetched(prepared.append, range(100), ahead=2)
    next(items)
    time.sleep(0.2)
    assert len(prepared) <= 1 + 2 + 1
    items.close()
    assert no_thread_left()


def test_an_error_arrives_where_its_item_was_due() -> None:
    items = prefetched(lambda n: 6 // n, [3, 2, 0, 1])
    assert [next(items), next(items)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(items)
    assert no_thread_left()


def test_closing_early_ends_a_waiting_thread() -> None:
    items = prefetched(lambda n: n, range(1000))
    next(items)
    items.close()
    assert no_thread_left()


def test_work_that_takes_long_is_told_to_stop() -> None:
    started, stopped = threading.Event(), threading.Event()

    def prepare(number: int) -> int:
        cancel = current_cancel()
        while number == 1 and not cancel.is_set():
            started.set()
            time.sleep(0.001)
        if number == 1:
            stopped.set()
        return number

    items = prefetched(prepare, [0, 1])
    assert next(items) == 0
    assert started.wait(10)
    items.close()
    assert stopped.is_set()
    assert no_thread_left()
    assert not current_cancel().is_set()


def test_a_wait_for_an_item_ends_when_it_is_cancelled() -> None:
    cancel = Cancel()

    def prepare(number: int) -> int:
        if number == 1:
            cancel.set()
            assert current_cancel().wait(10)
        return number

    with pytest.raises(Interrupted):
        list(prefetched(prepare, [0, 1], cancel=cancel))
    assert no_thread_left()
