"""How fast PyTorch and OpenVINO are on this machine, measured once and kept in the user's cache folder.

They take turns on the stages of a plan, each on a tile; those of many weights, which take long to compile, are left out
and taken to be equally fast. What is kept belongs to the machine, the versions, the kind of network and the stages;
the values of weights do not matter. A file that cannot be read or written costs the time of measuring again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from napari_pix2pix.translation.backends.cache import EngineCache
from napari_pix2pix.translation.backends.openvino_runner import QUICKLY_COMPILED_WEIGHTS, OpenVinoRunner
from napari_pix2pix.translation.backends.stage_runner import StageRunner, TorchRunner
from napari_pix2pix.translation.cost import stage_macs
from napari_pix2pix.translation.plan import Plan
from napari_pix2pix.translation.stage_survey import planned_stages
from pix2pix_training.atomic import atomic_write
from pix2pix_training.errors import Pix2PixError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.networks import Generator
from pix2pix_training.stages import StageSpec, stage_inputs, weight_count

logger = logging.getLogger(__name__)

TRIAL_PAYS_SECONDS = 50.0
"""OpenVINO is tried where PyTorch needs as long as this; the trial took 3 to 5 seconds."""
_START_SECONDS = 5.0
"""From the beginning until OpenVINO has compiled all stages: 3 to 7 seconds, for 14 and 54 million weights."""
_SURVEYED_PX = 2048
"""Of an image of this side it is found which stages the plan has."""
_LARGEST_PX = 512
"""Side of windows, in cells of what a stage takes."""
_TURNS = 2


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """Multiply-accumulates per second of both; `openvino` is None where it was not tried, and 0 where it failed.

    `share` is that of the arithmetic that was measured.
    """

    torch: float
    openvino: float | None = None
    share: float = 1.0

    def seconds_won(self, macs: float) -> float:
        """What OpenVINO saves of the time of so many multiply-accumulates, less what it takes to start."""
        if not self.openvino:
            return 0.0
        return self.share * (macs / self.torch - macs / self.openvino) - _START_SECONDS


def measured_speeds(network: Generator, plan: Plan, inference: InferenceConfig, macs: float) -> Speeds:
    """Those for a plan, which PyTorch would run; found in the cache, or measured now.

    Parameters
    ----------
    network : float32 on the CPU, in eval mode.
    macs : multiply-accumulates of the work; with few of them OpenVINO is not tried.
    """
    stages = _stages(network, plan, inference)
    path = EngineCache().folder.parent / "speeds" / f"{_digest(network, stages)}.json"
    known = _kept(path)
    if known is not None and (known.openvino is not None or macs / known.torch < TRIAL_PAYS_SECONDS):
        return known
    found = _measured(network, stages, macs)
    with suppress(Pix2PixError), atomic_write(path, overwrite=True) as unfinished:
        unfinished.write_text(json.dumps(asdict(found)), encoding="utf-8")
    return found


def _stages(network: Generator, plan: Plan, inference: InferenceConfig) -> dict[StageSpec, int]:
    """The stages of a plan, and the sides of windows of them in pixels of the image."""
    rows, columns = (
        min(n, -(-_SURVEYED_PX // network.config.stride) * network.config.stride) for n in plan.padded_size
    )
    sides = {}
    for use in planned_stages(replace(plan, padded_size=(rows, columns)), network.config, inference):
        finest = use.spec.level if use.spec.start is None else use.spec.start
        cell = 1 << use.spec.top
        sides[use.spec] = max(cell, min(*use.window, _LARGEST_PX << finest) // cell * cell)
    return sides


def _measured(network: Generator, stages: Mapping[StageSpec, int], macs: float) -> Speeds:
    work = {spec: stage_macs(network.config, spec) for spec in stages}
    light = [spec for spec in stages if weight_count(network, spec) <= QUICKLY_COMPILED_WEIGHTS] or [list(stages)[-1]]
    inputs = {spec: _inputs(network, spec, stages[spec]) for spec in light}

    def seconds(runner: StageRunner) -> float:
        """For a pixel of the image."""
        return sum(_seconds(runner, spec, inputs[spec]) / stages[spec] ** 2 for spec in light)

    with_torch, measured = TorchRunner(network), sum(work[spec] for spec in light)
    share = measured / sum(work.values())
    seconds(with_torch)  # the first call takes longer
    speeds = Speeds(torch=measured / seconds(with_torch), share=share)
    if macs / speeds.torch < TRIAL_PAYS_SECONDS:
        return speeds
    with TemporaryDirectory() as folder:
        try:
            with_openvino = OpenVinoRunner(network, "fp32", EngineCache(Path(folder)))
            seconds(with_openvino)
            turns = [(seconds(with_torch), seconds(with_openvino)) for _ in range(_TURNS)]
        except Pix2PixError as error:
            logger.warning("openvino is given up, torch goes on: %s", error)
            return replace(speeds, openvino=0.0)
    of_torch, of_openvino = map(min, zip(*turns, strict=True))
    return Speeds(torch=measured / of_torch, openvino=measured / of_openvino, share=share)


def _seconds(runner: StageRunner, spec: StageSpec, inputs: Mapping[str, Tensor]) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        runner.run(spec, inputs)
    return time.perf_counter() - start


def _inputs(network: Generator, spec: StageSpec, side: int) -> dict[str, Tensor]:
    """What the stage takes, at random."""
    noise = torch.Generator().manual_seed(0)
    inputs = {}
    for tensor in stage_inputs(network.config, spec):
        rows = () if tensor.level is None else (side >> tensor.level,) * 2
        shape = (2, tensor.channels) if tensor.level is None else (1, tensor.channels, *rows)
        x = torch.rand(shape, generator=noise)
        inputs[tensor.name] = x if tensor.level is None else x.contiguous(memory_format=torch.channels_last)
    return inputs


def _digest(network: Generator, stages: Mapping[StageSpec, int]) -> str:
    key = {
        "machine": [platform.node(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()],
        "versions": [version("torch"), version("openvino")],
        "generator": asdict(network.config),
        "stages": [[asdict(spec), side] for spec, side in stages.items()],
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:40]


def _kept(path: Path) -> Speeds | None:
    with suppress(OSError, ValueError, TypeError):
        found = Speeds(**json.loads(path.read_text(encoding="utf-8")))
        if min(found.torch, found.share) > 0 and (found.openvino is None or found.openvino >= 0):
            return found
    return None
