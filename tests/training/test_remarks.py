"""Warnings of this project are collected, each once, from all threads, and only within the block."""

from __future__ import annotations

import logging
import threading

from pix2pix_training.remarks import heard_alike, remarks

logger = logging.getLogger("pix2pix_training.test_remarks")


def test_each_message_is_collected_and_shown_once() -> None:
    shown: list[str] = []
    with remarks(shown.append) as said:
        logger.warning("a.tif: %d values\nare clipped", 3)
        logger.warning("a.tif: 3 values are clipped")
        logger.info("not for users")
        worker = threading.Thread(target=logger.warning, args=("b.tif has an alpha channel",))
        worker.start()
        worker.join()
    logger.warning("too late")
    assert said == shown == ["a.tif: 3 values are clipped", "b.tif has an alpha channel"]


def test_other_packages_are_not_collected() -> None:
    with remarks() as said:
        logging.getLogger("tifffile").warning("odd tag")
    assert said == []


def test_two_jobs_at_once_hear_their_own() -> None:
    both = threading.Barrier(2)
    heard: dict[str, list[str]] = {}

    def job(name: str) -> None:
        with remarks() as said:
            both.wait(10)
            logger.warning("%s is clipped", name)
            reader = threading.Thread(target=heard_alike(lambda: logger.warning("%s has an alpha channel", name)))
            reader.start()
            reader.join()
            both.wait(10)
        heard[name] = said

    threads = [threading.Thread(target=job, args=(name,)) for name in ("a.tif", "b.tif")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == {name: [f"{name} is clipped", f"{name} has an alpha channel"] for name in ("a.tif", "b.tif")}


def test_what_is_collected_within_is_heard_around() -> None:
    with remarks() as outer:
        with remarks() as inner:
            logger.warning("a")
        logger.warning("b")
    assert (inner, outer) == (["a"], ["a", "b"])
