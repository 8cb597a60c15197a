"""How well `train --align` finds where targets lie, what it believes of swapped pairs, and what it is worth.

    python -m benchmarks.registration found --data FOLDER [--data-sets facades ...] [--most 40] [--seeds 2]
    python -m benchmarks.registration trained --data FOLDER [--data-sets facades ...] [--steps 800] [--seeds 2]
    python -m benchmarks.registration tolerated --data FOLDER [--data-sets facades ...] [--steps 800] [--seeds 2]

Targets are moved by known random shifts of up to 6 px along each axis and turns of up to 1 degree. `found` compares
what is found with that, and gives some or all sources the target of another image. `trained` scores small models of
the preset `faithful` of registered pairs, of moved ones, and of moved ones with `--align`, on registered images that
none was trained on. `tolerated` does so of targets moved by shifts of up to 3 px alone, with `--tolerance 3` instead.
A table in Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from napari_pix2pix import Pix2Pix
from napari_pix2pix.formats import open_image
from pix2pix_training.aligned_source import AlignedSource, Transform
from pix2pix_training.alignment import Estimate, estimates
from pix2pix_training.array_source import AnyArray, MemorySource, whole_plane
from pix2pix_training.choices import Align
from pix2pix_training.image_survey import result_of
from pix2pix_training.pairs import Pair
from pix2pix_training.regions import Region

_SHIFT_PX, _TURN_DEGREES = 6.0, 1.0
_TOLERATED_PX = 3
_MARGIN_PX = 12
_SIDE_PX = 256
_STAY = Transform(shift=(0.0, 0.0))
Images = list[tuple[AnyArray, AnyArray]]
"""Source and target (C, H, W) of each pair."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """How pairs are read; `of_classes` where pixels of moved targets may not be mixed."""

    read: Callable[[Path, int], Images]
    of_classes: bool


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was found of a pair: whether its images belong together, how far apart they lay, and lie then, in pixels."""

    belongs: bool
    before_px: float
    after_px: float
    estimate: Estimate


def _read(path: Path) -> AnyArray:
    with open_image(path, alpha="drop") as image:
        return image.read(whole_plane(image))


def _facades(data: Path, most: int) -> Images:
    names = [path.name for path in sorted((data / "facades/label").iterdir())[:most]]
    return [(_read(data / "facades/label" / name), _read(data / "facades/photo" / name)) for name in names]


def _membranes(data: Path, most: int) -> Images:
    names = [path.name for path in sorted((data / "em_membranes/image").iterdir())[:most]]
    return [(_read(data / "em_membranes/image" / name), _read(data / "em_membranes/membrane" / name)) for name in names]


def _nuclei(data: Path, most: int) -> Images:
    """The upper left part of each image, with nuclei 255 and all else 0."""
    pairs = []
    for path in sorted((data / "nuclei/image").iterdir())[:most]:
        image, label = _read(path)[:1], _read(next((data / "nuclei/label").glob(f"{path.stem}.*")))
        pairs.append((image[:, :_SIDE_PX, :_SIDE_PX], np.where(label > 0, 255, 0)[:, :_SIDE_PX, :_SIDE_PX]))
    return [(image, label.astype(np.uint8)) for image, label in pairs]


def _labelfree(data: Path, most: int) -> Images:
    """Parts of the single field: three focal planes, and a stain of neurites."""
    phase = np.concatenate([_read(data / "labelfree" / f"phase_z{z}.png") for z in ("00", "06", "12")])
    stain = _read(data / "labelfree/MAP2.png")
    parts = Region.whole(*stain.shape[1:]).tiles(_SIDE_PX)
    return [(phase[:, *part.slices], stain[:, *part.slices]) for part in list(parts)[:most]]


DATA_SETS = {
    "facades": DataSet(read=_facades, of_classes=False),
    "em_membranes": DataSet(read=_membranes, of_classes=True),
    "labelfree": DataSet(read=_labelfree, of_classes=False),
    "nuclei": DataSet(read=_nuclei, of_classes=True),
}


def random_move(
    rng: np.random.Generator, shift_px: float = _SHIFT_PX, turn_degrees: float = _TURN_DEGREES
) -> Transform:
    down, right = rng.uniform(-shift_px, shift_px, 2)
    turn = np.radians(rng.uniform(-turn_degrees, turn_degrees))
    same, across = float(np.cos(turn) - 1), float(np.sin(turn))
    return Transform(shift=(float(down), float(right)), stretch=(same, -across, across, same))


def moved(target: AnyArray, move: Transform, *, of_classes: bool) -> AnyArray:
    """The inner part of a target (C, H, W) that was moved; beyond its edges it is read where there is something."""
    image = AlignedSource(MemorySource(target), move, nearest=of_classes)
    return image.read(whole_plane(image))[:, _MARGIN_PX:-_MARGIN_PX, _MARGIN_PX:-_MARGIN_PX]


def distance_px(move: Transform, found: Transform, size: tuple[int, int]) -> float:
    """How far pixels of a target that was moved lie from their sources where it was `found`, root mean square."""
    y, x = np.linspace(0, size[0] - 1, 17)[:, None], np.linspace(0, size[1] - 1, 17)[None]
    rows, columns = move.places(*found.places(y, x, size), size)
    return float(np.sqrt(((rows - y) ** 2 + (columns - x) ** 2).mean()))


def trial(
    images: Images, data_set: DataSet, align: Align, moves: Sequence[Transform], partners: Sequence[int]
) -> list[Found]:
    """What is found of pairs whose targets were moved, each the target of the image of number `partners`."""
    inner = (slice(None), *(slice(_MARGIN_PX, -_MARGIN_PX),) * 2)
    pairs = [
        Pair(
            MemorySource(np.ascontiguousarray(images[number][0][inner])),
            MemorySource(moved(images[partner][1], move, of_classes=data_set.of_classes)),
            f"{number:03d}",
        )
        for number, (partner, move) in enumerate(zip(partners, moves, strict=True))
    ]
    rows = []
    for number, each in enumerate(result_of(estimates([[pair] for pair in pairs], align))):
        size = images[number][0].shape[1] - 2 * _MARGIN_PX, images[number][0].shape[2] - 2 * _MARGIN_PX
        found = each.transform if each.has_moved else _STAY
        rows.append(
            Found(
                belongs=partners[number] == number,
                before_px=distance_px(moves[number], _STAY, size),
                after_px=distance_px(moves[number], found, size),
                estimate=each,
            )
        )
    return rows


def trials(images: Images, data_set: DataSet, align: Align, seed: int) -> Iterator[tuple[str, list[Found]]]:
    """Every case: as they are, moved, a quarter swapped, all swapped with their neighbours, and with any other."""
    rng = np.random.default_rng(seed)
    own = list(range(len(images)))
    stay, moves = [_STAY] * len(own), [random_move(rng) for _ in own]
    some = own.copy()
    chosen = sorted(rng.permutation(len(own))[: max(2, len(own) // 4)].tolist())
    for here, there in zip(chosen, [*chosen[1:], chosen[0]], strict=True):
        some[here] = there
    yield "registered", trial(images, data_set, align, stay, own)
    yield "moved", trial(images, data_set, align, moves, own)
    yield "moved, a quarter swapped", trial(images, data_set, align, moves, some)
    yield "all swapped with the next", trial(images, data_set, align, moves, [*own[1:], 0])
    yield "all swapped with any", trial(images, data_set, align, moves, _derangement(len(own), rng))


def _derangement(count: int, rng: np.random.Generator) -> list[int]:
    order = rng.permutation(count)
    result = np.empty(count, int)
    result[order] = np.roll(order, 1)
    return result.tolist()


def found_lines(data: Path, names: Sequence[str], align: Align, most: int, seeds: int) -> Iterator[str]:
    yield "| data set | case | pairs | apart | then, median and 90 % | of those moved | moved | swapped, moved |"
    yield "|---|---|---|---|---|---|---|---|"
    for name in names:
        data_set = DATA_SETS[name]
        images = data_set.read(data, most)
        together = dict[str, list[Found]]()
        for seed in range(seeds):
            for case, rows in trials(images, data_set, align, seed):
                together.setdefault(case, []).extend(rows)
        for case, rows in together.items():
            yield f"| {name} | {case} | {len(rows)} | " + " | ".join(_cells(rows)) + " |"


def _cells(rows: Sequence[Found]) -> Iterator[str]:
    right, wrong = ([row for row in rows if row.belongs == belongs] for belongs in (True, False))
    there = [row for row in right if row.estimate.has_moved]
    yield f"{np.median([row.before_px for row in right]):.1f} px" if right else "-"
    for some in (right, there):
        after = [row.after_px for row in some]
        yield f"{np.median(after):.1f} and {np.percentile(after, 90):.1f} px" if some else "-"
    for some in (right, wrong):
        yield f"{sum(row.estimate.has_moved for row in some)} of {len(some)}" if some else "-"


def trained_lines(
    data: Path, names: Sequence[str], align: Align, most: int, seeds: int, steps: int, *, tolerated: bool
) -> Iterator[str]:
    mended = "tolerated" if tolerated else "aligned"
    yield f"| data set | seed | score | registered | moved | moved, {mended} | won back |"
    yield "|---|---|---|---|---|---|---|"
    for name in names:
        data_set = DATA_SETS[name]
        images = data_set.read(data, most)
        for seed in range(seeds):
            scores = trained(images, data_set, align, seed, steps, tolerated=tolerated)
            for score in ("pearson", "ssim"):
                good, bad, won = (each.get(score, np.nan) for each in scores)
                share = 100 * (won - bad) / (good - bad)
                yield f"| {name} | {seed} | {score} | {good:.3f} | {bad:.3f} | {won:.3f} | {share:.0f} % |"


def trained(
    images: Images, data_set: DataSet, align: Align, seed: int, steps: int, *, tolerated: bool
) -> list[dict[str, float]]:
    """Scores on held-out registered images of models of registered pairs, of moved ones, and of these with a remedy."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images)).tolist()
    held, learnt = ([images[n] for n in part] for part in (order[: len(order) // 4], order[len(order) // 4 :]))
    moves = [random_move(rng, *((_TOLERATED_PX, 0.0) if tolerated else ())) for _ in learnt]
    inner = (slice(None), *(slice(_MARGIN_PX, -_MARGIN_PX),) * 2)
    sources = [np.ascontiguousarray(source[inner]) for source, _ in learnt]
    scores = []
    remedy: dict[str, Any] = {"objective": {"tolerance": _TOLERATED_PX}} if tolerated else {"align": align}
    for places, further in (([_STAY] * len(learnt), {}), (moves, {}), (moves, remedy)):
        targets = [
            moved(target, move, of_classes=data_set.of_classes)
            for (_, target), move in zip(learnt, places, strict=True)
        ]
        with TemporaryDirectory() as folder:
            model = Pix2Pix.train(
                sources,
                targets,
                out=Path(folder, "run"),
                axes="CYX",
                validation=0.0,
                preset="faithful",
                steps=steps,
                generator={"base_width": 16},
                patch_size=128,
                batch_size=4,
                target_values="training-set",
                coverage=0.0,
                seed=seed,
                device="cpu",
                **further,
            )
            found = model.evaluate([source for source, _ in held], [target for _, target in held], axes="CYX")
        scores.append({name: value for name in ("pearson", "ssim") if (value := getattr(found.mean, name)) is not None})
    return scores


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["found", "trained", "tolerated"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--data-sets", nargs="+", choices=DATA_SETS, default=list(DATA_SETS))
    parser.add_argument("--align", choices=["shift", "affine"], default="affine")
    parser.add_argument("--most", type=int, default=40, help="images of a data set")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=800)
    chosen = parser.parse_args(arguments)
    common = chosen.data, chosen.data_sets, chosen.align, chosen.most, chosen.seeds
    tolerated = chosen.part == "tolerated"
    trains = trained_lines(*common, chosen.steps, tolerated=tolerated)
    for line in found_lines(*common) if chosen.part == "found" else trains:
        print(line, flush=True)


if __name__ == "__main__":
    main()
