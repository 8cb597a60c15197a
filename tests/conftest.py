"""Settings for all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine may be slow at any moment; a test fails for what it finds, not for when.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
