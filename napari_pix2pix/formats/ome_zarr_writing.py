"""OME-Zarr 0.5: Zarr version 3, sharded, compressed by zstd with checksums, with a pyramid."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from napari_pix2pix.formats.ome_zarr_layout import layout_of
from napari_pix2pix.formats.ome_zarr_store import OmeZarrStore, create_store
from napari_pix2pix.formats.unit_grid import UnitGrid
from napari_pix2pix.formats.writing import OutputSpec, Tile


def write(path: Path, spec: OutputSpec, tiles: Iterable[Tile], file_format: str) -> None:
    """Write a group that does not exist yet; `spec` has been checked to fit the format."""
    layout, name = layout_of(spec), image_name(path)
    create_store(path, layout, name)
    store = OmeZarrStore(path, layout)
    grid = UnitGrid(layout)
    for tile in tiles:
        for unit, pixels in grid.add(tile):
            store.write_unit(unit, pixels)
    store.finish(name)


def image_name(path: Path) -> str:
    """What the image is called within the file: the name of the output without its endings."""
    return path.name.removesuffix(".zarr").removesuffix(".ome")
