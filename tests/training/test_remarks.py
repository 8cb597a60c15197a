"""Warnings of this project are collected, each once, from all threads, and only within the block."""

from __future__ import annotations

import logging
import threading

from pix2pix_training.remarks import remarks

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
