"""Tests of `napari_pix2pix.images`."""
