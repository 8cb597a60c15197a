"""The napari widgets; the only modules that import napari, magicgui and Qt."""
