"""What computing in 8 bits costs trained models, on images that were held out.

    python -m benchmarks.int8_quality --out FOLDER --set NAME MODEL SOURCES TARGETS [--set ...]

SOURCES and TARGETS are folders or files of pairs. Each image is translated whole, in float32, with the roundings of the
model, and with the symmetric ones that its ONNX file has. Models without roundings get them from these images. Shares
are of the range of the output. Writes FOLDER/int8_quality.json and int8_quality.md.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.results import give_results
from napari_pix2pix.formats.pairing import pairs_from_paths
from napari_pix2pix.translation.int8_calibration import known_pair, with_int8
from napari_pix2pix.translation.progress import ended
from pix2pix_training.array_source import plane_size
from pix2pix_training.export_form import fold_norms
from pix2pix_training.model_file import Model, load_model
from pix2pix_training.networks import Generator, pad_to_stride
from pix2pix_training.pairs import Pair
from pix2pix_training.quantisation import quantise, symmetric
from pix2pix_training.regions import Region

WORST = 99.9
"""The percentile of absolute differences that is given beside their mean."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Of a set of images and a way of rounding; PSNR in dB, of float32 and of 8 bits, None for categories."""

    name: str
    width: int
    images: int
    roundings: str
    mean: float
    worst: float
    psnr: float | None
    psnr_in_float32: float | None


@torch.inference_mode()
def rows_of(name: str, model: Model, pairs: Sequence[Pair]) -> list[Row]:
    if model.int8 is None:
        model = ended(with_int8(model, [pair.source for pair in pairs], most_deviation=1.0))
    assert model.int8 is not None
    exact = model.generator()
    fold_norms(exact)
    ways = {"own": model.int8.roundings, "symmetric": symmetric(model.int8.roundings, model.generator_config)}
    networks = {way: copy.deepcopy(exact) for way in ways}
    for way, network in networks.items():
        quantise(network, ways[way])
    differences: dict[str, list[Tensor]] = {way: [] for way in ways}
    errors: dict[str, list[float]] = {way: [] for way in ("float32", *ways)}
    for pair in pairs:
        known = known_pair(model, pair.source, pair.target)
        for plane in known.planes:
            area = Region.whole(*plane_size(pair.source))
            x, valid = known.read(area, plane)
            found = {way: _run(network, x) for way, network in (("float32", exact), *networks.items())}
            for way in ways:
                differences[way].append((found[way] - found["float32"])[..., valid].abs().flatten() / 2)
            if (target := known.read_target(area, plane)) is not None:
                both = valid & target[1]
                for way, result in found.items():
                    errors[way].append(_psnr(result[..., both], target[0][..., both]))
    psnr = {way: float(np.mean(found)) if found else None for way, found in errors.items()}
    return [
        Row(
            name=name,
            width=model.generator_config.base_width,
            images=len(pairs),
            roundings=way,
            mean=torch.cat(parts).mean().item(),
            worst=float(np.percentile(torch.cat(parts).numpy(), WORST)),
            psnr=psnr[way],
            psnr_in_float32=psnr["float32"],
        )
        for way, parts in differences.items()
    ]


def _run(network: Generator, x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    result: Tensor = network(pad_to_stride(x, network.config.stride))
    return result[..., :height, :width].clamp(-1, 1)


def _psnr(result: Tensor, target: Tensor) -> float:
    return -10 * float(np.log10(max((result - target).square().mean().item() / 4, 1e-12)))


def table(rows: Sequence[Row]) -> str:
    lines = [
        "| model | width | images | roundings | mean difference | worst 0.1 % of pixels differ by | PSNR, dB "
        "| in float32 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        psnr = ["-" if value is None else f"{value:.2f}" for value in (row.psnr, row.psnr_in_float32)]
        lines.append(
            f"| {row.name} | {row.width} | {row.images} | {row.roundings} | {100 * row.mean:.2f} % "
            f"| {100 * row.worst:.2f} % | {psnr[0]} | {psnr[1]} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--set", nargs=4, action="append", required=True, metavar=("NAME", "MODEL", "SOURCES", "TARGETS")
    )
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    for name, model, sources, targets in options.set:
        rows += rows_of(name, load_model(model), pairs_from_paths([Path(sources)], [Path(targets)]))
    give_results(options.out, "int8_quality", {"rows": [asdict(row) for row in rows]}, table(rows))


if __name__ == "__main__":
    main()
