"""Seconds per training step of the paper's configuration, ours beside a plain textbook loop in the same run.

    python benchmarks/training.py --out FOLDER [--device cpu] [--precisions float32 bfloat16] [--batches 1]
        [--turns 6] [--steps 4] [--threads N] [--base-width 64]

U-Net-256 with dropout, 70 x 70 PatchGAN, vanilla GAN with 100 L1, 256 x 256 pixels. Ours is the `TrainingStep` that
`train` runs. The textbook loop (``benchmarks/textbook.py``) has the same networks in eager mode, NCHW and plain
Adam; it freezes the discriminator while the generator learns, as the reference does. Both start from the same weights
and see the same patches and the same dropout at every step, so that their losses can be compared. Adam divides by the
square root of a mean that begins near zero, so rounding alone drives two loops apart within some steps; so the textbook
loop gets our weights and moments anew before each turn, which is not timed. Losses are compared at the first step
from such a common state, and at all steps of a turn.

The loops take turns of --steps steps each, and change their order from turn to turn; the first turn warms up. Seconds
are medians over all steps, ratios medians of the ratios within a turn. Reading, mapping and augmenting the patch is
timed apart and added in the column "with data", for our loop alone. The floor is the arithmetic of a step at the rate
of a large matrix product, and after that the traffic of Adam at the rate of a large sum, both measured here; what
activations and weights cost besides is not in it. Writes FOLDER/training.json and FOLDER/training.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.results import give_results, processor
from benchmarks.textbook import NestedUNet, TextbookTraining, patchgan
from pix2pix_training.allocator import keep_freed_memory
from pix2pix_training.array_source import MemorySource
from pix2pix_training.batches import Batches
from pix2pix_training.config import TrainingConfig
from pix2pix_training.dataset import PatchDataset
from pix2pix_training.device import resolve_device
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.network_config import DiscriminatorConfig
from pix2pix_training.networks import noisy_levels, parameter_count
from pix2pix_training.pairs import Pair
from pix2pix_training.presets import preset
from pix2pix_training.reference_weights import discriminator_to_reference, generator_to_reference
from pix2pix_training.training_step import TrainingStep

CHANNELS = 3
PAIRS = 8
ADAM_BYTES = 28
"""Per parameter: weight, gradient and two moments are read, all but the gradient written, in float32."""
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Losses = Mapping[str, float]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Floor:
    """What a step takes at least, in float32: its arithmetic and the traffic of Adam at rates measured here."""

    flop: float
    flop_per_second: float
    adam_bytes: float
    bytes_per_second: float

    @property
    def seconds(self) -> float:
        return self.flop / self.flop_per_second + self.adam_bytes / self.bytes_per_second


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Seconds of each step, and of the processor in all of them together."""

    seconds: list[float]
    cpu_seconds: float
    load: float

    @property
    def cores(self) -> float:
        return self.cpu_seconds / sum(self.seconds)


@dataclass(kw_only=True)
class Loop:
    """One of the loops that take turns, with what was measured of it; `before_turn` is not timed."""

    name: str
    precision: str
    step: Callable[[Tensor, Tensor], Losses]
    floor: Floor
    before_turn: Callable[[], None] = lambda: None
    turns: list[Turn] = field(default_factory=list)
    losses: list[Losses] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return median(second for turn in self.turns for second in turn.seconds)


@dataclass(kw_only=True)
class Race:
    """The loops at one batch size, and the seconds that each batch of patches took to prepare."""

    batch_size: int
    loops: list[Loop]
    data_seconds: list[float]

    def loop(self, name: str, precision: str) -> Loop:
        return next(loop for loop in self.loops if (loop.name, loop.precision) == (name, precision))


def run_race(arguments: argparse.Namespace, batch_size: int, device: torch.device) -> Race:
    config = _paper_config(arguments.base_width, batch_size)
    patches = _patches(config)
    loops = [loop for precision in arguments.precisions for loop in _twin_loops(config, device, precision, patches)]
    race = Race(batch_size=batch_size, loops=loops, data_seconds=[])
    for turn in range(arguments.turns + 1):
        numbers = range(turn * arguments.steps, (turn + 1) * arguments.steps)
        batches = [_timed(lambda n=number: _batch(patches, n, batch_size, device), device) for number in numbers]  # type: ignore[misc]
        for loop in loops:
            loop.before_turn()
        for loop in loops if turn % 2 else loops[::-1]:
            measured = _run_turn(loop, [batch for batch, _ in batches], numbers, device)
            print(
                f"{turn}: {loop.name} {loop.precision}: {median(measured.seconds):.3f} s, {_said(measured)}", flush=True
            )
            if turn > 0:
                loop.turns.append(measured)
        race.data_seconds += [seconds for _, seconds in batches]
    return race


def _paper_config(base_width: int, batch_size: int) -> TrainingConfig:
    paper = preset("paper")
    return replace(
        paper,
        generator=replace(paper.generator, base_width=base_width),
        discriminator=DiscriminatorConfig(base_width=base_width),
        batch_size=batch_size,
        steps=1,
    )


def _patches(config: TrainingConfig) -> PatchDataset:
    """Patches of noise on a coarse pattern that the target has inverted, jittered as the paper does."""
    return PatchDataset(
        [_pair(number, config.patch_size) for number in range(PAIRS)],
        patch_size=config.patch_size,
        augmentation=config.augmentation,
        sampling=config.sampling,
        target_mapping=dtype_mapping(np.dtype(np.uint8), CHANNELS),
        seed=config.seed,
    )


def _pair(seed: int, size: int) -> Pair:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 192, (CHANNELS, size // 16, size // 16)).repeat(16, axis=1).repeat(16, axis=2)
    pixels = (coarse + rng.integers(0, 64, coarse.shape)).astype(np.uint8)
    return Pair(MemorySource(pixels, name="source"), MemorySource(255 - pixels, name="target"), str(seed))


def _batch(patches: PatchDataset, number: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    mappings = [patches.target_mapping] * PAIRS
    source, target, _ = next(Batches(patches, mappings, device, batch_size=size, first=number * size))
    return source, target


def _twin_loops(config: TrainingConfig, device: torch.device, precision: str, patches: PatchDataset) -> Iterator[Loop]:
    """The textbook loop and ours, from the same weights."""
    dtype = PRECISIONS[precision]
    ours = TrainingStep(config, device, dtype)
    textbook = _textbook(ours, config, device, dtype)
    floor = _floor(config, device, dtype, _batch(patches, 0, config.batch_size, device))
    yield Loop(
        name="textbook",
        precision=precision,
        step=textbook.step,
        floor=floor,
        before_turn=lambda: _give_state(ours, textbook, config),
    )
    yield Loop(name="ours", precision=precision, step=lambda x, y: _floats(ours.run(x, y)), floor=floor)


def _textbook(ours: TrainingStep, config: TrainingConfig, device: torch.device, dtype: torch.dtype) -> TextbookTraining:
    shape = config.generator
    generator = NestedUNet(CHANNELS, CHANNELS, shape.base_width, shape.depth, noisy=noisy_levels(shape))
    discriminator = patchgan(2 * CHANNELS, config.discriminator.base_width)
    textbook = TextbookTraining(generator.to(device), discriminator.to(device), dtype)
    _give_state(ours, textbook, config)
    return textbook


def _give_state(ours: TrainingStep, textbook: TextbookTraining, config: TrainingConfig) -> None:
    """Copy our weights and Adam's moments into the textbook loop, in its own memory format."""
    assert ours.discriminator is not None
    assert ours.optimizer_d is not None
    renamed = partial(generator_to_reference, config=config.generator)
    _copy_state(ours.generator, ours.optimizer_g, textbook.generator, textbook.adam_g, renamed)
    renamed = partial(_patchgan_names, config=config.discriminator)
    _copy_state(ours.discriminator, ours.optimizer_d, textbook.discriminator, textbook.adam_d, renamed)


def _patchgan_names(state: Mapping[str, Tensor], config: DiscriminatorConfig) -> dict[str, Tensor]:
    return {k.removeprefix("model."): value for k, value in discriminator_to_reference(state, config).items()}


def _copy_state(
    network: nn.Module,
    optimizer: torch.optim.Adam,
    twin: nn.Module,
    twin_optimizer: torch.optim.Adam,
    renamed: Callable[[Mapping[str, Tensor]], dict[str, Tensor]],
) -> None:
    twin.load_state_dict(renamed(network.state_dict()))
    twins = dict(twin.named_parameters())
    for name, parameter in network.named_parameters():
        (twin_name,) = renamed({name: parameter})
        for kind, moment in optimizer.state[parameter].items():
            twin_optimizer.state[twins[twin_name]][kind].copy_(moment)


def _floats(losses: Mapping[str, Tensor]) -> Losses:
    return {name: float(value) for name, value in losses.items()}


def _floor(config: TrainingConfig, device: torch.device, dtype: torch.dtype, batch: tuple[Tensor, Tensor]) -> Floor:
    """Counts one step of a textbook loop of its own, so that the others start together."""
    ours = TrainingStep(config, device, dtype)
    textbook = _textbook(ours, config, device, dtype)
    with FlopCounterMode(display=False) as counter:
        textbook.step(*batch)
    parameters = parameter_count(textbook.generator) + parameter_count(textbook.discriminator)
    return Floor(
        flop=counter.get_total_flops(),
        flop_per_second=_matrix_product_rate(device, dtype),
        adam_bytes=ADAM_BYTES * parameters,
        bytes_per_second=memory_rate(device),
    )


def _matrix_product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP per second of a large square matrix product, the best of ten."""
    size = 2048 if device.type == "cpu" else 8192
    a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / min(_timed(lambda: a @ b, device)[1] for _ in range(10))


def memory_rate(device: torch.device) -> float:
    """Bytes per second of adding one large vector to another, the best of ten."""
    a, b = (torch.rand(2**26, device=device) for _ in range(2))
    return 3 * a.nbytes / min(_timed(lambda: a.add_(b), device)[1] for _ in range(10))


def _timed(run: Callable[[], T], device: torch.device) -> tuple[T, float]:
    _synchronize(device)
    started = time.perf_counter()
    result = run()
    _synchronize(device)
    return result, time.perf_counter() - started


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _run_turn(loop: Loop, batches: Sequence[tuple[Tensor, Tensor]], numbers: range, device: torch.device) -> Turn:
    load, cpu_started = os.getloadavg()[0], time.process_time()
    seconds = []
    for number, batch in zip(numbers, batches, strict=True):
        torch.manual_seed(number)  # of the dropout
        losses, duration = _timed(lambda: loop.step(*batch), device)  # noqa: B023
        seconds.append(duration)
        loop.losses.append(losses)
    return Turn(seconds=seconds, cpu_seconds=time.process_time() - cpu_started, load=load)


def _said(turn: Turn) -> str:
    return f"{turn.cores:.2f} cores, load {turn.load:.1f}"


def ratio(reference: Loop, other: Loop, added_seconds: float = 0.0) -> list[float]:
    """How many times faster `other` was than the reference, turn by turn."""
    return [
        median(a.seconds) / (median(b.seconds) + added_seconds)
        for a, b in zip(reference.turns, other.turns, strict=True)
    ]


def loss_difference(reference: Loop, other: Loop, steps: int, per_turn: int) -> float:
    """Largest relative difference of any loss within the first `steps` of each turn of `per_turn` steps."""
    return max(
        abs(found[name] - expected[name]) / abs(expected[name])
        for number, (expected, found) in enumerate(zip(reference.losses, other.losses, strict=True))
        if number % per_turn < steps
        for name in expected
    )


def table(races: Sequence[Race], precisions: Sequence[str], per_turn: int) -> str:
    """One row for each batch size and precision."""
    lines = [
        "| batch | precision | textbook, s / step | ours, s / step | with data | times faster (range of the turns) "
        "| with data | than the textbook in float32 | images / s | floor, s | share of the floor "
        f"| largest relative difference of losses, first step from a common state | {per_turn} steps | cores used |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for race in races:
        data = median(race.data_seconds)
        for precision in precisions:
            textbook, ours = race.loop("textbook", precision), race.loop("ours", precision)
            faster = ratio(textbook, ours)
            against_float32 = (
                f"{median(ratio(race.loop('textbook', 'float32'), ours)):.2f}" if "float32" in precisions else ""
            )
            lines.append(
                f"| {race.batch_size} | {precision} | {textbook.seconds:.3f} | {ours.seconds:.3f} "
                f"| {ours.seconds + data:.3f} | {median(faster):.2f} ({min(faster):.2f} to {max(faster):.2f}) "
                f"| {median(ratio(textbook, ours, data)):.2f} | {against_float32} "
                f"| {race.batch_size / ours.seconds:.2f} | {ours.floor.seconds:.3f} "
                f"| {ours.floor.seconds / ours.seconds:.0%} | {loss_difference(textbook, ours, 1, per_turn):.1e} "
                f"| {loss_difference(textbook, ours, per_turn, per_turn):.1e} "
                f"| {median(turn.cores for turn in ours.turns):.2f} |"
            )
    return "\n".join(lines)


def _as_dict(races: Sequence[Race], arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "processor_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "base_width": arguments.base_width,
        "races": [
            {
                "batch_size": race.batch_size,
                "data_seconds": race.data_seconds,
                "loops": [
                    {
                        "name": loop.name,
                        "precision": loop.precision,
                        "seconds": loop.seconds,
                        "floor": {**asdict(loop.floor), "seconds": loop.floor.seconds},
                        "turns": [{**asdict(turn), "cores": turn.cores} for turn in loop.turns],
                        "losses": loop.losses,
                    }
                    for loop in race.loops
                ],
            }
            for race in races
        ],
    }


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1])
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--steps", type=int, default=4, help="per turn")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--base-width", type=int, default=64)
    return parser.parse_args()


def main() -> None:
    arguments = _parsed()
    keep_freed_memory()  # as `train` does; the textbook loop has it too
    torch.set_num_threads(arguments.threads)
    device = resolve_device(arguments.device)
    races = [run_race(arguments, batch_size, device) for batch_size in arguments.batches]
    text = table(races, arguments.precisions, arguments.steps)
    give_results(arguments.out, "training", _as_dict(races, arguments, device), text)


if __name__ == "__main__":
    main()
