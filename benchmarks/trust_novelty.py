"""How well images are told that are unlike those of training: AUROC of each change, and false alarms.

The network has no part in it, so none is trained: each data set is parted, by image, into what a model would be trained
on, what it would hold out, and what is asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from napari_pix2pix.formats import open_image
from napari_pix2pix.translation.novelty_map import WARNED_SHARE, novel_share
from pix2pix_training.array_source import MemorySource, whole_plane
from pix2pix_training.intensity import LinearMapping, dtype_mapping, fitted_mapping
from pix2pix_training.novelty import NoveltyMeasure
from pix2pix_training.novelty_survey import Cells, KnownImage, measured_novelty
from pix2pix_training.regions import Region

Pixels = NDArray[np.float32]
"""Shape (C, H, W), as the network sees them, in [-1, 1]."""
ASKED_PX = 256
DATA_SETS = ("facades", "em_membranes", "labelfree", "nuclei")
_FOLDERS = {"facades": "facades/label", "em_membranes": "em_membranes/image", "nuclei": "nuclei/image"}
_MOST = 200


@dataclass(frozen=True, kw_only=True)
class Parted:
    """Images of a data set, and images that are not of it, by what was done to them."""

    training: Sequence[Pixels]
    held_out: Sequence[Pixels]
    asked: Sequence[Pixels]
    others: Mapping[str, Sequence[Pixels]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of a change of a data set: AUROC of the novel share of images, and the share of images warned of."""

    data_set: str
    change: str
    auroc: float
    warned: float
    mean_share: float


def novelty_rows(data: Path, data_sets: Sequence[str], seed: int, most: int = _MOST) -> Iterator[Row]:
    """All rows; that of the change "none" has the false alarms.

    Parameters
    ----------
    data : folder of the data sets.
    seed : of which image goes where; of the single field of `labelfree`, of which quarter is asked about.
    most : images of a data set that are used.
    """
    for name in data_sets:
        parted = parted_data(data, name, seed, most)
        measure = measured_novelty(_known(parted.training), _known(parted.held_out))
        assert measure is not None
        usual = shares(measure, parted.asked)
        yield _row(name, "none", usual, usual)
        for change, images in {**_changed(parted.asked, seed), **parted.others}.items():
            yield _row(name, change, usual, shares(measure, images))


def _row(data_set: str, change: str, usual: NDArray[Any], found: NDArray[Any]) -> Row:
    return Row(
        data_set=data_set,
        change=change,
        auroc=auroc(usual, found),
        warned=float((found > WARNED_SHARE).mean()),
        mean_share=float(found.mean()),
    )


def auroc(usual: NDArray[Any], changed: NDArray[Any]) -> float:
    """How often a changed image has the greater value than a usual one, with half of the ties."""
    ranks = rankdata(np.concatenate([usual, changed]))[len(usual) :]
    return float((ranks.sum() - len(changed) * (len(changed) + 1) / 2) / (len(usual) * len(changed)))


def shares(measure: NoveltyMeasure, images: Sequence[Pixels]) -> NDArray[np.float64]:
    """The novel share of each image."""
    found = []
    for known in _known(images):
        cells = Cells(known.image, known.mapping)
        found.append(novel_share(measure.p_values(*cells.scores(measure, Region.whole(*cells.size), ()))))
    return np.array(found)


def _known(images: Sequence[Pixels]) -> list[KnownImage]:
    def mapping(channels: int) -> LinearMapping:
        low, high = (-1.0,) * channels, (1.0,) * channels
        return LinearMapping(dtype="float32", scope="training-set", channels=channels, low=low, high=high)

    return [KnownImage(image=MemorySource(each), planes=[()], mapping=mapping(len(each))) for each in images]


def parted_data(data: Path, name: str, seed: int, most: int = _MOST) -> Parted:
    """A data set in parts, with images of the others brought to its channels."""
    if name == "labelfree":
        training, held_out, asked, wrong = _field(data, seed)
        others = {"wrong channel": wrong}
    else:
        images = _images(data / _FOLDERS[name], most)
        order = np.random.default_rng(seed).permutation(len(images))
        held = max(3, len(images) // 8)
        training, held_out, asked = (
            [images[n] for n in part] for part in (order[2 * held :], order[held : 2 * held], order[:held])
        )
        others = {"wrong channel": [image[::-1] for image in asked]} if len(images[0]) > 1 else {}
    channels = len(training[0])
    for other in DATA_SETS:
        if other != name:
            found = [_field(data, seed)[0][0]] if other == "labelfree" else _images(data / _FOLDERS[other], 20)
            parts = [part for image in found for part in _parts(image)][:40]
            others[f"data set {other}"] = [_with_channels(part, channels) for part in parts]
    if name == "em_membranes":  # of one channel: the other image of its pairs is the wrong one
        masks = _images(data / "em_membranes/membrane", 8)
        others["wrong channel"] = [part for image in masks for part in _parts(image)]
    if name == "nuclei":
        field = read_pixels(data / "labelfree/MAP2.png")
        others["wrong channel"] = _parts(_mapped([field], fitted_mapping([MemorySource(field)]))[0])
    return Parted(training=training, held_out=held_out, asked=asked, others=others)


def _changed(images: Sequence[Pixels], seed: int) -> dict[str, list[Pixels]]:
    rng = np.random.default_rng([seed, 1])
    changes: dict[str, Callable[[Pixels], Any]] = {
        "blur 2 px": lambda image: gaussian_filter(image, (0, 2, 2)),
        "blur 4 px": lambda image: gaussian_filter(image, (0, 4, 4)),
        "noise of 10 % of the range": lambda image: image + rng.normal(0, 0.2, image.shape),
        "noise of 20 % of the range": lambda image: image + rng.normal(0, 0.4, image.shape),
        "brighter by half the range": lambda image: image + 1,
        "darker by half the range": lambda image: image - 1,
        "half as bright": lambda image: (image + 1) / 2 - 1,
        "half the contrast": lambda image: (image - image.mean()) / 2 + image.mean(),
        "inverted": lambda image: -image,
    }
    return {
        name: [np.clip(change(image), -1, 1).astype(np.float32) for image in images] for name, change in changes.items()
    }


def _field(data: Path, seed: int) -> tuple[list[Pixels], list[Pixels], list[Pixels], list[Pixels]]:
    """Training, held-out and asked parts of the single field, and the asked part of its stains."""
    stack = np.concatenate([read_pixels(path) for path in sorted((data / "labelfree").glob("phase_z*.png"))])
    mapping = fitted_mapping([MemorySource(stack)])
    field = _mapped([stack], mapping)[0]
    turned = np.rot90(field, seed, axes=(1, 2)).copy()
    asked = turned[:, 768:]
    stains = [read_pixels(data / "labelfree" / f"{name}.png") for name in ("DAPI", "MAP2", "NFH")]
    wrong = [_mapped([np.repeat(stain[:, 768:], len(stack), 0)], mapping)[0] for stain in stains]
    return [turned[:, :480]], [turned[:, 512:736]], _parts(asked), [part for image in wrong for part in _parts(image)]


def _images(folder: Path, most: int) -> list[Pixels]:
    images = [read_pixels(path) for path in sorted(folder.iterdir())[:most]]
    least = min(len(image) for image in images)
    images = [image[:least] for image in images]  # grey images that are stored in colours
    return _mapped(images, dtype_mapping(images[0].dtype, least))


def _mapped(images: Sequence[NDArray[Any]], mapping: LinearMapping) -> list[Pixels]:
    ends = (np.array(each, np.float32)[:, None, None] for each in (mapping.low, mapping.high))
    low, high = ends
    return [np.clip((image - low) * (2 / (high - low)) - 1, -1, 1).astype(np.float32) for image in images]


def read_pixels(path: Path) -> NDArray[Any]:
    """Shape (C, H, W), as stored; without an alpha channel."""
    with open_image(path, alpha="drop") as image:
        return image.read(whole_plane(image))


def _parts(image: Pixels) -> list[Pixels]:
    """The whole squares of `ASKED_PX` of an image."""
    regions = Region.whole(*image.shape[1:]).tiles(ASKED_PX)
    return [image[:, *region.slices] for region in regions if region.size == (ASKED_PX, ASKED_PX)]


def _with_channels(image: Pixels, channels: int) -> Pixels:
    return image if len(image) == channels else np.repeat(image.mean(0, keepdims=True), channels, 0)
