"""pix2pix for large images: a napari plugin and a command line."""
