"""Fixtures for the training house."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

_REFERENCE = Path(__file__).parents[3] / "shared" / "reference"


@pytest.fixture
def reference_folder() -> Path:
    """Vectors of the reference implementation, beside a developer's checkout."""
    if not _REFERENCE.is_dir():
        pytest.skip("the vectors of the reference implementation are not on this machine")
    return _REFERENCE


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are faster on one thread, and sums do not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
