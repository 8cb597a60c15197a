"""Settings for all tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A busy machine may be slow at any moment; a test fails for what it finds, not for when.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """A command that a test runs in this process keeps what the packages log from `caplog` of later tests."""
    loggers = [logging.getLogger(name) for name in ("napari_pix2pix", "pix2pix_training", "pix2pix_trt")]
    before = [logger.propagate for logger in loggers]
    yield
    for logger, propagate in zip(loggers, before, strict=True):
        logger.propagate = propagate
