"""How well the sizes of errors are known: coverage of intervals, and the order of errors, on images never used before.

Each data set is parted, by image, into what a small model is trained on, what calibrates its error map, and what is
asked about. Controls are the deviation of dropout samples of the same generator, and a constant.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.trust_novelty import read_pixels
from napari_pix2pix import Pix2Pix
from pix2pix_training.array_source import MemorySource, whole_plane
from pix2pix_training.intensity import LinearMapping
from pix2pix_training.model_file import Model, load_model
from pix2pix_training.pairs import Pair, Split
from pix2pix_training.presets import preset, usual_depth
from pix2pix_training.regions import Region
from pix2pix_training.training import TrainingData, train

WIDTH, PATCH_PX, STEPS = 16, 128, 1000
SAMPLES = 8
"""Of dropout."""
_MOST_IMAGES = 120
_SQUARE_PX = 256
_MOST_PIXELS = 1 << 14
_DRAWINGS = 200
_FOLDERS = {
    "facades": ("label", "photo"),
    "em_membranes": ("image", "membrane"),
    "nuclei": ("image", "label"),
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of one model.

    Attributes
    ----------
    coverage : mean of the images, and `of_images` each of them.
    drawn, drawn_deviation : mean and standard deviation of the coverage over drawings of the images that calibrate, out
        of these and those that are asked about; the network stays the same.
    claimed : what the model's card says of coverage, of held-out images by factors of the others.
    factors : conformal factor of each channel.
    half_width : mean, as a share of the range of the target; `constant_half_width` one with the same coverage of the
        images that are asked about.
    rank : rank correlation (Spearman) of predicted with true error of pixels; `rank_of_images` of the means of images.
    ause : area between the sparsification curve and that of an oracle.
    """

    data_set: str
    seed: int
    coverage: float
    of_images: list[float]
    drawn: float
    drawn_deviation: float
    claimed: float | None
    factors: list[float]
    half_width: float
    constant_half_width: float
    rank: float
    dropout_rank: float
    rank_of_images: float
    ause: float
    dropout_ause: float
    constant_ause: float


def coverage_runs(data: Path, data_sets: Sequence[str], seeds: int, out: Path, steps: int = STEPS) -> Iterator[Found]:
    """A model for each data set and seed; those whose result lies in `out` are not made again."""
    out.mkdir(parents=True, exist_ok=True)
    for name in data_sets:
        for seed in range(seeds):
            path = out / f"{name}-{seed}.json"
            if not path.exists():
                found = _found(name, seed, _parted(data, name, seed), out / f"{name}-{seed}", steps)
                path.write_text(json.dumps(asdict(found), indent=1))
            yield Found(**json.loads(path.read_text()))


@dataclass(frozen=True, kw_only=True)
class Parted:
    """Pairs that a model is trained on, those that calibrate it, and those that are asked about."""

    training: Sequence[Pair]
    calibrating: Sequence[Pair]
    asked: Sequence[Pair]


def _found(name: str, seed: int, parted: Parted, run: Path, steps: int) -> Found:
    config = preset("seamless")
    config = replace(
        config,
        generator=replace(config.generator, base_width=WIDTH, depth=usual_depth("seamless", PATCH_PX), dropout="paper"),
        discriminator=replace(config.discriminator, base_width=WIDTH),
        target_values="dtype" if name != "labelfree" else "auto",
        patch_size=PATCH_PX,
        steps=steps,
        checkpoint_every=250,
        validate_every=steps,
        keep="last",  # so that what calibrates does not choose the model
        seed=seed,
    )
    split = Split(tuple(parted.training), tuple(parted.calibrating))
    for _ in train(config, TrainingData(split=split), run, device="cpu", resume=True):
        pass
    return judged(name, seed, load_model(run / "model.safetensors"), parted.calibrating, parted.asked)


def judged(name: str, seed: int, model: Model, calibrating: Sequence[Pair], asked: Sequence[Pair]) -> Found:
    """A model with an error map, judged on pairs that it does not know.

    With another draw of the pairs that calibrate, the factors would have been others: how much depends on that is found
    with all pairs that did not train it.
    """
    assert model.error is not None
    assert isinstance(model.target.mapping, LinearMapping)
    used = Pix2Pix(model)
    spans = np.subtract(model.target.mapping.high, model.target.mapping.low)[:, None]
    errors: list[NDArray[Any]] = []
    half_widths: list[NDArray[Any]] = []
    deviations: list[NDArray[Any]] = []
    for number, pair in enumerate(asked):
        source, target = (image.read(whole_plane(image)) for image in pair.images)
        output = used.translate(source).reshape(target.shape)
        samples = used.translate(source, dropout="seeded", dropout_samples=SAMPLES)
        error = np.abs(target.astype(np.float64) - output)
        pixels = np.random.default_rng(number).permutation(error[0].size)[:_MOST_PIXELS]
        wanted = (error, used.error_map(source).reshape(target.shape), samples[len(target) :])
        for kept, values in zip((errors, half_widths, deviations), wanted, strict=True):
            kept.append(values.reshape(len(target), -1)[:, pixels] / spans)
    within = [float((e <= w).mean()) for e, w in zip(errors, half_widths, strict=True)]
    error, half_width, deviation = (np.concatenate(each, 1) for each in (errors, half_widths, deviations))
    of_images = [np.array([each.mean() for each in values]) for values in (half_widths, errors)]
    traits = model.error.traits
    factors_of_images = [_factors_within(model, pair) for pair in (*calibrating, *asked)]
    anew = covered(factors_of_images, len(calibrating), traits.coverage)
    return Found(
        data_set=name,
        seed=seed,
        coverage=float(np.mean(within)),
        of_images=[round(each, 4) for each in within],
        drawn=float(np.mean(anew)),
        drawn_deviation=float(np.std(anew)),
        claimed=traits.measured,
        factors=list(traits.factors),
        half_width=float(half_width.mean()),
        constant_half_width=float(np.quantile(error, traits.coverage, axis=1).mean()),
        rank=_of_channels(rank_correlation, half_width, error),
        dropout_rank=_of_channels(rank_correlation, deviation, error),
        rank_of_images=rank_correlation(*of_images),
        ause=_of_channels(ause, half_width, error),
        dropout_ause=_of_channels(ause, deviation, error),
        constant_ause=_of_channels(ause, np.zeros_like(error), error),
    )


def _factors_within(model: Model, pair: Pair) -> NDArray[np.float64]:
    """Of each channel (C, n): by how much the half-widths of some pixels would have to be larger to be their errors."""
    assert isinstance(model.target.mapping, LinearMapping)
    # In floats, as half-widths of less than a grey level would be rounded to none.
    unrounded = Pix2Pix(
        replace(model, target=replace(model.target, mapping=replace(model.target.mapping, dtype="float32")))
    )
    source, target = (image.read(whole_plane(image)) for image in pair.images)
    error = np.abs(target.astype(np.float64) - unrounded.translate(source).reshape(target.shape))
    factors: NDArray[np.float64] = error / unrounded.error_map(source).reshape(target.shape)
    factors = factors.reshape(len(target), -1)
    return factors[:, np.random.default_rng(0).permutation(factors.shape[1])[:_MOST_PIXELS]]


def covered(factors: Sequence[NDArray[np.float64]], calibrating: int, coverage: float) -> list[float]:
    """Mean coverage of the images that do not calibrate, for each drawing of `calibrating` of them that do.

    `factors` are those of each image (C, n) with which pixels would lie just within.
    """
    found = []
    for drawing in range(_DRAWINGS):
        order = np.random.default_rng(drawing).permutation(len(factors))
        drawn = np.concatenate([factors[number] for number in order[:calibrating]], axis=1)
        least = np.quantile(drawn, coverage, axis=1, method="higher")[:, None]
        found.append(float(np.mean([(factors[number] <= least).mean() for number in order[calibrating:]])))
    return found


def _of_channels(measure: Callable[[Any, Any], float], predicted: NDArray[Any], true: NDArray[Any]) -> float:
    return float(np.mean([measure(*each) for each in zip(predicted, true, strict=True)]))


def rank_correlation(predicted: NDArray[Any], true: NDArray[Any]) -> float:
    """Spearman's, with means of ranks for ties; 0 where one of them is constant."""
    ranks = [rankdata(values) for values in (predicted, true)]
    return 0.0 if any(np.ptp(each) == 0 for each in ranks) else float(np.corrcoef(*ranks)[0, 1])


def ause(predicted: NDArray[Any], true: NDArray[Any]) -> float:
    """Area between two sparsification curves: mean error of what is left, relative to that of all.

    Pixels are removed in the order of the predicted error (those of one value evenly), and in that of the true error.
    """
    if not true.any():
        return 0.0
    return float((_left_over(predicted, true) - _left_over(true, true)).mean() / true.mean())


def _left_over(order: NDArray[Any], true: NDArray[Any]) -> NDArray[np.float64]:
    """Mean of the n least by order, for each n."""
    values, place, counts = np.unique(order, return_inverse=True, return_counts=True)
    of_ties = np.bincount(place, true, len(values)) / counts
    return np.cumsum(of_ties[np.sort(place)]) / np.arange(1, len(true) + 1)


def _parted(data: Path, name: str, seed: int) -> Parted:
    """Half of the images for training, a quarter each for the others; of the single field, bands with gaps."""
    if name == "labelfree":
        return _field(data / name, seed)
    sources, targets = (sorted((data / name / side).iterdir()) for side in _FOLDERS[name])
    order = np.random.default_rng(seed).permutation(len(sources))[:_MOST_IMAGES]
    pairs = [_pair(name, sources[number], targets[number]) for number in order]
    half, quarter = len(pairs) // 2, len(pairs) // 4
    return Parted(training=pairs[:half], calibrating=pairs[half : half + quarter], asked=pairs[half + quarter :])


def _pair(name: str, source: Path, target: Path) -> Pair:
    assert source.stem == target.stem
    pixels = read_pixels(source), read_pixels(target)
    if name == "nuclei":  # of grey images in colours one channel; of objects what is one, as membranes are
        middle = tuple(slice((side - _SQUARE_PX) // 2, (side + _SQUARE_PX) // 2) for side in pixels[0].shape[1:])
        pixels = pixels[0][:1, *middle], np.where(pixels[1][:1, *middle] > 0, np.uint8(255), np.uint8(0))
    return Pair(MemorySource(pixels[0]), MemorySource(pixels[1]), source.stem)


def _field(folder: Path, seed: int) -> Parted:
    """The stains of a field from its focal planes, turned for each seed.

    A half is for training; of the other half squares are drawn to calibrate, and to be asked about.
    """
    sides = [
        np.rot90(np.concatenate([read_pixels(path) for path in paths]), seed, axes=(1, 2)).copy()
        for paths in (sorted(folder.glob("phase_z*.png")), [folder / f"{n}.png" for n in ("DAPI", "MAP2", "NFH")])
    ]

    def part(region: Region) -> Pair:
        source, target = (MemorySource(side[:, *region.slices]) for side in sides)
        return Pair(source, target, str(region))

    squares = list(Region(0, 1024, 512, 1024).tiles(_SQUARE_PX))
    drawn = [part(squares[number]) for number in np.random.default_rng(seed).permutation(len(squares))]
    half = len(drawn) // 2
    training = [part(Region(0, 1024, 0, 480))]
    return Parted(training=training, calibrating=drawn[:half], asked=drawn[half:])


def coverage_table(found: Sequence[Found]) -> list[str]:
    """A line for each model."""
    lines = [
        "| data set | seed | coverage | of images | drawn anew | card | factor | half-width (constant) | "
        "rank (dropout) | of images | AUSE | dropout | constant |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        claimed = "-" if each.claimed is None else f"{100 * each.claimed:.1f} %"
        cells = [
            each.data_set,
            str(each.seed),
            f"{100 * each.coverage:.1f} %",
            f"{100 * min(each.of_images):.0f} to {100 * max(each.of_images):.0f} %",
            f"{100 * each.drawn:.1f} ± {100 * each.drawn_deviation:.1f} %",
            claimed,
            " ".join(f"{factor:.2f}" for factor in each.factors),
            f"{100 * each.half_width:.1f} % ({100 * each.constant_half_width:.1f} %)",
            f"{each.rank:.2f} ({each.dropout_rank:.2f})",
            f"{each.rank_of_images:.2f}",
            f"{each.ause:.2f}",
            f"{each.dropout_ause:.2f}",
            f"{each.constant_ause:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
