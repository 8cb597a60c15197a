"""Names of image files: which endings are images, and what a file is called without its ending."""

from __future__ import annotations

from pathlib import Path

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".tf2")
OME_TIFF_SUFFIXES = tuple(f".ome{suffix}" for suffix in TIFF_SUFFIXES)
COMPANION_SUFFIX = ".companion.ome"
PNG_SUFFIXES = (".png",)
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe")
OME_ZARR_SUFFIXES = (".ome.zarr", ".zarr")
SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")
BIOIO_SUFFIXES = (".czi", ".nd2", ".lif")
READABLE_SUFFIXES = (
    *TIFF_SUFFIXES, *PNG_SUFFIXES, *JPEG_SUFFIXES, ".bmp", ".zarr", *SLIDE_SUFFIXES, *BIOIO_SUFFIXES
)  # fmt: skip
"""Lower-case endings of the files (and of the OME-Zarr folders) that `open_image` reads."""


def is_image_path(path: Path) -> bool:
    """Whether a name ends like an image that `open_image` can read; hidden files are not images."""
    return path.suffix.lower() in READABLE_SUFFIXES and not path.name.startswith(".")


def image_stem(path: Path) -> str:
    """A name without its image ending: "scan" for scan.ome.tif, scan.tif and scan.png."""
    stem = path.name[: -len(COMPANION_SUFFIX)] if path.name.lower().endswith(COMPANION_SUFFIX) else path.stem
    return stem[:-4] if stem.lower().endswith(".ome") else stem
