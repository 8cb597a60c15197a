"""The command line ``napari-pix2pix``. Importing it loads neither torch nor napari; commands load what they need."""

from __future__ import annotations

import sys
import warnings

from napari_pix2pix.cli import interrupts

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed midway, 2 wrong use or unusable input, 130 interrupted."""
    with interrupts.heard():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")  # those of libraries are not for users; ours are logged
        from napari_pix2pix.cli.application import run  # here, where an interrupt has its line already

        code = run(sys.argv[1:])
    interrupts.leave(code)
