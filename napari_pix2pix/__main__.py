"""``python -m napari_pix2pix`` and the console script ``napari-pix2pix``."""

from napari_pix2pix.cli import main

if __name__ == "__main__":
    main()
