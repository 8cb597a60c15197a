"""Tests of `napari_pix2pix.formats`."""
