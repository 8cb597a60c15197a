"""Simulated cells, and the manifest entries that offer them to napari."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManifest

from napari_pix2pix.sample_data import simulate_cells

MANIFEST = Path(__file__).parents[2] / "napari_pix2pix" / "napari.yaml"


def test_cells_are_camera_images_of_the_size_asked_for() -> None:
    cells = simulate_cells(150, 220, seed=3)
    assert (cells.source.shape, cells.target.shape) == ((150, 220), (2, 150, 220))
    assert cells.source.dtype == cells.target.dtype == np.uint16
    assert cells.source.max() <= 4095
    assert cells.target.std(axis=(1, 2)).min() > 100


def test_equal_seeds_give_equal_cells() -> None:
    first, again, other = (simulate_cells(100, 100, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.source, again.source)
    assert not np.array_equal(first.source, other.source)


def test_target_follows_from_the_source() -> None:
    """Cells shine where the label-free image has structure, so there is something to learn."""
    cells = simulate_cells(300, 300, seed=0)
    structure = np.abs(np.diff(cells.source.astype(float), axis=1))[:, :299]
    bright = cells.target[1, :, :299] > np.median(cells.target[1])
    assert structure[bright].mean() > 1.2 * structure[~bright].mean()


@pytest.mark.parametrize("key", ["pair", "large"])
def test_manifest_entry_gives_layers(key: str) -> None:
    manifest = PluginManifest.from_file(MANIFEST)
    commands = {c.id: c.python_name for c in manifest.contributions.commands or []}
    entry = next(s for s in manifest.contributions.sample_data or [] if s.key == key)
    module, _, function = str(commands[entry.command]).partition(":")
    for pixels, attributes, kind in getattr(import_module(module), function)():
        assert kind == "image"
        assert pixels.ndim == 2
        assert attributes["scale"] == (0.325, 0.325)


def test_link_at_the_top_is_the_manifest() -> None:
    link = MANIFEST.parents[1] / "napari.yaml"
    if not link.is_symlink():
        pytest.skip("this checkout has no symbolic links")
    assert link.resolve() == MANIFEST.resolve()
