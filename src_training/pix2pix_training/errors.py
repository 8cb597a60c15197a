"""The one error tree. Messages are a single line: what is wrong with which value or file, and what to do.

No error here derives from ``RuntimeError``: a napari worker swallows those.
"""


class Pix2PixError(Exception):
    """Base of every error that this project raises on purpose: work that failed midway."""


class InputError(Pix2PixError):
    """The request or the data cannot be used as given; nothing was started."""


class SettingsError(InputError):
    """A setting has a value that is not allowed."""


class ImageError(InputError):
    """An image cannot be read, or its content is unsuitable."""


class NoValidPixelError(ImageError):
    """All pixels of a plane are NaN, infinite, nodata or transparent."""


class ModelFileError(InputError):
    """A model file cannot be used: damaged, of a newer version, or not a model at all."""


class CheckpointError(InputError):
    """A training checkpoint cannot be resumed from."""


class OutputError(InputError):
    """An output exists already or cannot be written."""


class BackendError(InputError):
    """A compiled backend that was asked for cannot build or run here."""


class EngineFileError(InputError):
    """A file with a compiled generator cannot be used: damaged, altered, or made for something else."""


class EngineError(Pix2PixError):
    """Compiling a generator failed midway, or its result is not the generator's."""


class TrainingError(Pix2PixError):
    """Training failed midway, for example because the losses are no longer finite."""


class ClusterError(Pix2PixError):
    """A cluster, or one of its workers, cannot do its part of the work."""
