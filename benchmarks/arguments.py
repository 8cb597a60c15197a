"""Values of command-line options that several benchmarks take."""

from __future__ import annotations

import argparse

from napari_pix2pix.cli.console import parse_size
from pix2pix_training.errors import SettingsError


def size_argument(text: str) -> int:
    """`parse_size` as a type for `argparse`, which says in one line what is wrong."""
    try:
        size = parse_size(text)
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    assert size is not None
    return size
