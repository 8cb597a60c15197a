"""What a pix2pix model is and how it learns. Knows no file format of images, no napari, no command line."""
