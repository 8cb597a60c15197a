"""Sample images that need no download: simulated cells of any size, and a real section of tissue.

Of the cells there is a label-free image, and the fluorescence that belongs to it.

The source imitates differential interference contrast: the slope of the optical thickness along one direction, with
uneven illumination and noise. The target has two channels, nuclei and cytoplasm. It is a simulation, good for trying
the tools and for tests; it says nothing about how well real cells are predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

TARGET_CHANNELS = ("nuclei", "cytoplasm")
PIXEL_SIZE_UM = 0.325
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Of red, green and blue (ITU-R BT.709)."""
_SPACING = 44
_STAMP = 52  # half width of the square in which one cell is drawn

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class SimulatedCells:
    """`source` (Y, X) and `target` (2, Y, X), both uint16 with 12 significant bits, as a camera gives them."""

    source: NDArray[np.uint16]
    target: NDArray[np.uint16]


def simulate_cells(height: int, width: int, *, seed: int = 0) -> SimulatedCells:
    """A field of cells; the same `seed` and size give the same field."""
    rng = np.random.default_rng(seed)
    thickness = np.zeros((height, width), np.float32)
    nuclei = np.zeros((height, width), np.float32)
    cytoplasm = np.zeros((height, width), np.float32)
    for y, x in _positions(rng, height, width):
        _draw_cell(rng, y, x, thickness, nuclei, cytoplasm)
    grain = _smooth_noise(rng, height, width, 2.5)
    source = _interference_contrast(rng, thickness * (1 + 0.12 * grain))
    target = np.stack([_fluorescence(rng, nuclei, 2600), _fluorescence(rng, cytoplasm * (1 + 0.25 * grain), 1500)])
    return SimulatedCells(source, target)


def _positions(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    """Centres on a jittered grid with gaps, shape (n, 2)."""
    rows, columns = np.meshgrid(np.arange(0, height + 1, _SPACING), np.arange(0, width + 1, _SPACING), indexing="ij")
    centres = np.stack([rows.ravel(), columns.ravel()], 1) + rng.uniform(-15, 15, (rows.size, 2))
    density = np.abs(np.sin(centres[:, 0] / 310) + np.cos(centres[:, 1] / 270)) / 2
    kept: NDArray[np.float64] = centres[rng.random(rows.size) < 0.35 + 0.6 * density]
    return kept


def _draw_cell(rng: np.random.Generator, y: float, x: float, thickness: Plane, nuclei: Plane, cytoplasm: Plane) -> None:
    """Add one cell to the three planes, clipped at their border."""
    top, left = int(y) - _STAMP, int(x) - _STAMP
    rows = slice(max(0, top), min(thickness.shape[0], top + 2 * _STAMP + 1))
    columns = slice(max(0, left), min(thickness.shape[1], left + 2 * _STAMP + 1))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    dy = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(y)
    dx = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] - np.float32(x)
    body = _blob(rng, dy, dx, radius=rng.uniform(18, 27), elongation=rng.uniform(1.0, 1.5), waviness=0.16)
    nucleus = _blob(rng, dy, dx, radius=rng.uniform(7.5, 11), elongation=rng.uniform(1.0, 1.35), waviness=0.05)
    nucleoli = sum((_nucleolus(rng, dy, dx) for _ in range(rng.integers(1, 4))), np.zeros_like(nucleus)) * nucleus
    brightness = np.float32(rng.uniform(0.55, 1.0))
    thickness[rows, columns] += 0.55 * body**0.6 * 0.8 + 0.5 * nucleus + 0.55 * nucleoli
    nuclei[rows, columns] = np.maximum(nuclei[rows, columns], brightness * nucleus * (1 - 0.55 * nucleoli))
    shown = body**0.7 * (1 - 0.75 * nucleus) * np.float32(rng.uniform(0.6, 1.0))
    cytoplasm[rows, columns] = np.maximum(cytoplasm[rows, columns], shown)


def _blob(
    rng: np.random.Generator, dy: Plane, dx: Plane, *, radius: float, elongation: float, waviness: float
) -> Plane:
    """A soft-edged ellipse with a wavy outline; 1 inside, 0 outside."""
    angle = rng.uniform(0, np.pi)
    along = (dx * np.cos(angle) + dy * np.sin(angle)) / elongation
    across = (dy * np.cos(angle) - dx * np.sin(angle)) * elongation**0.5
    direction = np.arctan2(across, along)
    outline = 1 + waviness * sum(np.sin(k * direction + rng.uniform(0, 6.3)) / k for k in (2, 3, 5))
    distance = np.hypot(along, across) / (radius * outline)
    soft = 1 / (1 + np.exp(np.clip((distance - 1) * 14, -30, 30))) * np.clip(1.25 - 0.45 * distance, 0, 1)
    shape: Plane = soft.astype(np.float32)
    return shape


def _nucleolus(rng: np.random.Generator, dy: Plane, dx: Plane) -> Plane:
    cy, cx = rng.uniform(-4.5, 4.5, 2)
    size = rng.uniform(1.3, 2.2)
    spot: Plane = np.exp(-((dy - cy) ** 2 + (dx - cx) ** 2) / (2 * size**2)).astype(np.float32)
    return spot


def _interference_contrast(rng: np.random.Generator, thickness: Plane) -> NDArray[np.uint16]:
    """Slope of the thickness from upper left to lower right, as a 12-bit camera sees it."""
    sharp = gaussian_filter(thickness, 0.9)
    slope = np.zeros_like(sharp)
    slope[1:, 1:] = sharp[1:, 1:] - sharp[:-1, :-1]
    shading = 1 + 0.12 * _smooth_noise(rng, thickness.shape[0], thickness.shape[1], 180)
    signal = (1500 + 3800 * slope) * shading
    return _camera(rng, signal, read_noise=11)


def _fluorescence(rng: np.random.Generator, plane: Plane, peak: float) -> NDArray[np.uint16]:
    """A plane blurred by the optics, with background and photon noise."""
    return _camera(rng, 110 + peak * gaussian_filter(plane, 1.1), read_noise=6)


def _camera(rng: np.random.Generator, signal: Plane, *, read_noise: float) -> NDArray[np.uint16]:
    noise = rng.standard_normal(signal.shape, np.float32)
    seen = signal + noise * np.sqrt(np.maximum(signal, 0) * 0.18 + read_noise**2)
    clipped: NDArray[np.uint16] = np.clip(np.round(seen), 0, 4095).astype(np.uint16)
    return clipped


def _smooth_noise(rng: np.random.Generator, height: int, width: int, scale: float) -> Plane:
    """Noise of unit standard deviation with structures of `scale` pixels, shape (height, width)."""
    step = max(1.0, scale / 2)
    coarse = rng.standard_normal((int(height / step) + 4, int(width / step) + 4), np.float32)
    coarse = gaussian_filter(coarse, scale / step)
    fine: Plane = zoom(coarse, step, order=1)[:height, :width] if step > 1 else coarse[:height, :width]
    return fine / max(float(fine.std()), 1e-6)


Layer = tuple[NDArray[np.uint16], dict[str, Any], str]


def paired_layers() -> list[Layer]:
    """A source and its two target channels, 1024 x 1024, as napari layers."""
    cells = simulate_cells(1024, 1024, seed=0)
    nuclei, cytoplasm = cells.target
    return [
        (cells.source, _shown("label-free", "gray"), "image"),
        (nuclei, _shown("nuclei", "cyan"), "image"),
        (cytoplasm, _shown("cytoplasm", "magenta"), "image"),
    ]


def large_layer() -> list[Layer]:
    """A label-free image of 4096 x 4096 to translate with a model trained on `paired_layers`."""
    return [(simulate_cells(4096, 4096, seed=1).source, _shown("large label-free", "gray"), "image")]


def tissue_layers() -> list[tuple[NDArray[np.uint8], dict[str, Any], str]]:
    """A real section, (512, 512) uint8 without its colours as source and (512, 512, 3) with them as target.

    Needs scikit-image, which comes with napari.
    """
    from skimage.data import immunohistochemistry

    colours: NDArray[np.uint8] = immunohistochemistry()  # type: ignore[no-untyped-call]
    grey = (colours @ _LUMINANCE).round().astype(np.uint8)
    about = {
        "title": "colonic glands, FHL2 stained with DAB, counterstained with haematoxylin",
        "author": "Center for Microscopy and Molecular Imaging (CMMI); packaged with scikit-image",
        "license": "no known copyright restrictions",
    }
    return [
        (grey, {"name": "tissue, grey", "metadata": about}, "image"),
        (colours, {"name": "tissue, in colours", "rgb": True, "metadata": about}, "image"),
    ]


def _shown(name: str, colormap: str) -> dict[str, Any]:
    return {
        "name": name,
        "colormap": colormap,
        "scale": (PIXEL_SIZE_UM, PIXEL_SIZE_UM),
        "units": ("um", "um"),
        "blending": "translucent" if colormap == "gray" else "additive",
    }
