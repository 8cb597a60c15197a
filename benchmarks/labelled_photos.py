"""Photos with colour-coded label images: the palette, the class of each pixel, and a split for the ablations.

Label images are stored with lossy compression and have been resized, so that their colours scatter around those of the
classes and mix at borders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from napari_pix2pix.formats.pairing import pairs_from_paths
from napari_pix2pix.formats.resampling import ResampledSource
from pix2pix_training.array_source import MemorySource, channel_count, whole_plane
from pix2pix_training.atomic import atomic_write
from pix2pix_training.errors import ImageError
from pix2pix_training.pairs import Pair

Bytes = NDArray[np.uint8]

MAX_CLASSES = 255
_BIN = 4  # levels of a channel that share a bin of the colour histogram
_SCATTER = 32  # levels of a channel around the colour of a class that still are that class
_FLAT_WINDOW = 5
_FLAT_SPREAD = 12  # levels of a channel within a window that is of one class, in spite of compression
_AREA_PX = 3
_NEARBY_PX = 33
_MIN_SHARE = 5e-4  # of the flat pixels; rarer colours are taken for mixtures
_SURVEYED = 100  # images that the palette is found in
_SPLIT_SEED = 0


@dataclass(frozen=True, kw_only=True)
class LabelledPhotos:
    """Images of equal size in memory, those to train on first.

    photos : (N, 3, S, S) uint8; classes : (N, S, S) uint8, indices into palette : (classes, 3) uint8; the last
    `held_out` images are never trained on.
    """

    names: tuple[str, ...]
    photos: Bytes
    classes: Bytes
    palette: Bytes
    held_out: int

    @property
    def training(self) -> slice:
        return slice(0, len(self.names) - self.held_out)

    @property
    def evaluation(self) -> slice:
        return slice(len(self.names) - self.held_out, len(self.names))

    def label_images(self, part: slice) -> Bytes:
        """The classes in their colours, (N, 3, S, S): what a generator translates."""
        return colored(self.classes[part], self.palette)


def colored(classes: Bytes, palette: Bytes) -> Bytes:
    """(N, Y, X) class indices -> (N, 3, Y, X) colours."""
    return np.ascontiguousarray(np.moveaxis(palette[classes], -1, 1))


def recovered_palette(labels: Sequence[Bytes]) -> Bytes:
    """Colours of the classes, commonest first, from label images (3, Y, X) that were compressed and resized.

    Only pixels in the middle of flat areas are counted, as those at borders are mixtures. The commonest colour takes
    all that lie within its scatter, then the next, until what is left is rare.

    Returns
    -------
    ndarray
        Shape (classes, 3); the median colour of the pixels of each class.

    Raises
    ------
    ImageError
        The images have a single colour, or too many: photos, not labels.
    """
    flat = np.concatenate([_flat_pixels(label) for label in labels])
    bins, members, counts = np.unique(flat // _BIN, axis=0, return_inverse=True, return_counts=True)
    middles = bins.astype(np.int16) * _BIN + _BIN // 2
    free = np.ones(len(bins), bool)
    palette: list[NDArray[np.float64]] = []
    while free.any():
        commonest = int(np.argmax(np.where(free, counts, 0)))
        near = free & (np.abs(middles - middles[commonest]).max(axis=1) < _SCATTER)
        if counts[near].sum() < _MIN_SHARE * len(flat):
            break
        palette.append(np.median(flat[near[members.reshape(-1)]], axis=0))
        free &= ~near
    if not 2 <= len(palette) <= MAX_CLASSES:
        raise ImageError(
            f"the label images have {len(palette)} separate colours, and labels have 2 to {MAX_CLASSES}; check that "
            "the folder holds colour-coded label maps"
        )
    return np.rint(palette).astype(np.uint8)


def _flat_pixels(label: Bytes) -> Bytes:
    """Colours (pixels, 3) of the pixels around which nothing changes."""
    window = (1, _FLAT_WINDOW, _FLAT_WINDOW)
    low, high = minimum_filter(label, size=window), maximum_filter(label, size=window)
    return label[:, ((high - low) <= _FLAT_SPREAD).all(axis=0)].T


def nearest_classes(images: Bytes, palette: Bytes) -> Bytes:
    """(N, 3, Y, X) colours -> the class with the nearest colour, (N, Y, X)."""
    colors = palette.astype(np.float32)[:, :, None, None]
    nearest = [((image[None] - colors) ** 2).sum(axis=1).argmin(axis=0) for image in images]
    return np.stack(nearest).astype(np.uint8)


def class_map(label: Bytes, palette: Bytes) -> Bytes:
    """Class of each pixel of a label image (3, Y, X), as (Y, X) indices into `palette`.

    The nearest colour, but only among classes that have an area of their own nearby, because a mixture at a border may
    look like a class that is not there.
    """
    difference = label[None].astype(np.float32) - palette[:, :, None, None]
    area = minimum_filter(np.abs(difference).max(axis=1) < _SCATTER, size=(1, _AREA_PX, _AREA_PX))
    if not area.any():
        raise ImageError("a label image has no area in a colour of the classes; check that it is a label map")
    nearby = maximum_filter(area, size=(1, _NEARBY_PX, _NEARBY_PX))
    distance = (difference**2).sum(axis=1)
    likely = np.where(nearby | ~nearby.any(axis=0), distance, np.inf)
    classes: Bytes = likely.argmin(axis=0).astype(np.uint8)
    return classes


def read_labelled_photos(folder: Path, *, size: int, held_out: int) -> LabelledPhotos:
    """Read ``folder/photo`` and ``folder/label`` (same names) at `size` x `size` pixels.

    Photos are averaged down (or interpolated up), classes are found at the stored size and take the nearest pixel. The
    same `held_out` images are chosen at random every time.

    Raises
    ------
    ImageError
        Images are not RGB of 8 bits, cannot be read, or are too few.
    """
    pairs = pairs_from_paths([folder / "label"], [folder / "photo"])
    if not 0 < held_out < len(pairs):
        raise ImageError(f"{folder}: {held_out} of {len(pairs)} pairs cannot be held out; choose 1 to {len(pairs) - 1}")
    for image in (image for pair in pairs for image in (pair.source, pair.target)):
        if channel_count(image) != 3 or image.dtype != np.uint8 or len(image.shape) != 3:
            raise ImageError(f"{image.name}: the ablation needs RGB images of 8 bits")
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(pairs))
    return labelled_photos([pairs[i] for i in order], size=size, held_out=held_out)


def labelled_photos(pairs: Sequence[Pair], *, size: int, held_out: int) -> LabelledPhotos:
    """Pairs of a label image and its photo, RGB of 8 bits, in this order; see `read_labelled_photos`."""
    labels = [pair.source.read(whole_plane(pair.source)) for pair in pairs]
    palette = recovered_palette(labels[:_SURVEYED])
    photos = [resized(pair.target.read(whole_plane(pair.target)), size) for pair in pairs]
    classes = [resized(class_map(label, palette)[None], size, nearest=True)[0] for label in labels]
    return LabelledPhotos(
        names=tuple(pair.name for pair in pairs),
        photos=np.stack(photos),
        classes=np.stack(classes),
        palette=palette,
        held_out=held_out,
    )


def resized(pixels: Bytes, size: int, *, nearest: bool = False) -> Bytes:
    """(C, Y, X) -> (C, size, size), averaged down or interpolated up, or the nearest pixels."""
    resampled = ResampledSource(MemorySource(pixels), (size, size), nearest=nearest)
    result: Bytes = resampled.read(whole_plane(resampled))
    return result


def save_labelled_photos(data: LabelledPhotos, path: Path) -> None:
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            names=np.array(data.names),
            photos=data.photos,
            classes=data.classes,
            palette=data.palette,
            held_out=np.array(data.held_out),
        )


def load_labelled_photos(path: Path) -> LabelledPhotos:
    with np.load(path, allow_pickle=False) as stored:
        return LabelledPhotos(
            names=tuple(stored["names"].tolist()),
            photos=stored["photos"],
            classes=stored["classes"],
            palette=stored["palette"],
            held_out=int(stored["held_out"]),
        )
