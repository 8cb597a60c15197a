"""One page about how good a model is, for somebody who was not there. Knows no napari and no command line."""
