"""Whether reading patches hides behind an accelerator: training's batches, and a step that sleeps.

    python -m benchmarks.feeding --folder /scratch [--workers 0 1 2] [--rate 20] [--seconds 20]

Makes pairs of compressed RGB TIFFs in a folder, keeps none of them decoded, as of a set that is larger than the memory,
and reads patches of them as `train` does: with 0 workers in a thread, else in processes. A step takes the time of an
accelerator that does --rate patches a second for each worker (for the thread: in all), and does nothing; the next patch
is asked for meanwhile. Prints in Markdown how much longer a step takes than that (mean; 1.00 is an accelerator that
never waits), and how long the program waits for a patch (median). Mapping and augmenting, which the accelerator does,
are left out. The first ten steps, while workers start, do not count.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import tifffile
import torch
from torch import Tensor

from napari_pix2pix.formats.caching import PixelCache
from napari_pix2pix.formats.pairing import pairs_from_paths
from pix2pix_training.batches import Batches
from pix2pix_training.dataset import Patch, PatchDataset
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.presets import preset
from pix2pix_training.regions import Region

_WARM_UP = 10
_PATCH_PX = 256


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rate", type=float, default=20, help="patches a second for each worker")
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement, at least")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--size", type=int, default=2048)
    chosen = parser.parse_args(arguments)
    write_pairs(chosen.folder, chosen.images, chosen.size)
    print(f"{chosen.images} pairs of {chosen.size} px, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("| workers | patches a second | a step takes, of its own time | waits for a patch, ms |")
    print("|---|---|---|---|")
    for workers in chosen.workers:
        rate = chosen.rate * max(1, workers)
        taken, wait = measured(batches_of(chosen.folder, workers), 1 / rate, chosen.seconds)
        cells = f"{1 / taken:.1f} of {rate:g} | {taken * rate:.3f} | {1e3 * wait:.1f}"
        print(f"| {workers or 'a thread'} | {cells} |", flush=True)


def write_pairs(folder: Path, count: int, size: int) -> None:
    """Smooth colours with a little noise, so that they compress as photos do; those that are there stay."""
    rng = np.random.default_rng(0)
    for side in ("source", "target"):
        (folder / side).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            path = folder / side / f"{number}.tif"
            if not path.exists():
                coarse = rng.integers(0, 240, (size // 32, size // 32, 3), dtype=np.uint8)
                pixels = np.kron(coarse, np.ones((32, 32, 1), np.uint8)) + rng.integers(
                    0, 16, (size, size, 3), dtype=np.uint8
                )
                tifffile.imwrite(path, pixels, tile=(256, 256), compression="zlib", photometric="rgb")


class StoredBatches(Batches):
    """Batches as they are read and sent to the device."""

    def _augmented(self, patch: Patch, stored_source: Tensor, stored_target: Tensor) -> tuple[Tensor, Tensor]:
        return stored_source, stored_target


def batches_of(folder: Path, workers: int) -> Batches:
    """Single patches, as a run of the default preset draws them."""
    nothing_kept = PixelCache(budget_bytes=0)
    pairs = pairs_from_paths([folder / "source"], [folder / "target"], cache=nothing_kept)
    pairs[0].source.read(Region.whole(_PATCH_PX, _PATCH_PX))  # after which the cache knows that it is full
    config, mapping = preset("seamless"), dtype_mapping(np.dtype("uint8"), 3)
    dataset = PatchDataset(
        pairs,
        patch_size=_PATCH_PX,
        augmentation=config.augmentation,
        sampling=config.sampling,
        target_mapping=mapping,
        seed=0,
    )
    return StoredBatches(
        dataset, [mapping] * len(pairs), torch.device("cpu"), batch_size=1, ahead=True, workers=workers
    )


def measured(batches: Batches, step_seconds: float, least_seconds: float) -> tuple[float, float]:
    """Mean seconds of a step that takes the accelerator `step_seconds`, and the median of the wait for a patch.

    As in training, where a GPU is not waited for, the next patch is asked for when a step has begun.
    """
    try:
        for _ in range(_WARM_UP):
            next(batches)
            time.sleep(step_seconds)
        started, waits = time.perf_counter(), list[float]()
        is_free = started
        while is_free - started < least_seconds:
            asked = time.perf_counter()
            next(batches)
            waits.append(time.perf_counter() - asked)
            begins = max(time.perf_counter(), is_free)
            time.sleep(max(0.0, begins - time.perf_counter()))
            is_free = begins + step_seconds
        return (is_free - started) / len(waits), median(waits)
    finally:
        batches.close()


if __name__ == "__main__":
    main()
