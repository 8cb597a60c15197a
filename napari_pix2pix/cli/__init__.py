"""The command line ``napari-pix2pix``. Importing it loads neither torch nor napari; commands load what they need."""

from napari_pix2pix.cli.application import main

__all__ = ["main"]
