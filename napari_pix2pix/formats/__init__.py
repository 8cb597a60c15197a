"""The one door to image files: lazy sources by format, pairing of folders, writers."""

from napari_pix2pix.formats.image_files import image_stem, is_image_path
from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.registry import readable_suffixes, writable_formats
from napari_pix2pix.formats.source import ImageSource, describe_image, open_image
from napari_pix2pix.formats.writing import (
    OutputSpec,
    check_output,
    incompatibility,
    output_suffix,
    resolve_format,
    write_image,
)

__all__ = [
    "ImageMetadata",
    "ImageSource",
    "OutputSpec",
    "check_output",
    "describe_image",
    "image_stem",
    "incompatibility",
    "is_image_path",
    "open_image",
    "output_suffix",
    "readable_suffixes",
    "resolve_format",
    "writable_formats",
    "write_image",
]
