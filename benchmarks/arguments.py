"""Values of command-line options that several benchmarks take."""

from __future__ import annotations

import argparse

from napari_pix2pix.translation.settings import bytes_from


def size_argument(text: str) -> int:
    """`bytes_from` as a type for `argparse`, which says in one line what is wrong."""
    try:
        return bytes_from(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"size {error}") from error
