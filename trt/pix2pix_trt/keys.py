"""Everything that an engine depends on, as JSON values: its key in the cache and the header of its file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any, cast

import torch

from pix2pix_training.networks import Generator, norm_layers
from pix2pix_training.stages import StageSpec
from pix2pix_trt.engine import BuildRequest
from pix2pix_trt.flavours import gpu_facts, version

REVISION = 1
"""To be raised where the same key would stand for another engine."""


def engine_key(
    network: Generator, spec: StageSpec, request: BuildRequest, device: torch.device | None = None
) -> dict[str, Any]:
    """Weights, stage, package and version, precision, shapes and GPU.

    `device` is the GPU that the engine is built for; None for engines that are built for named architectures.
    """
    return {
        "revision": REVISION,
        **model_key(network),
        "stage": stage_key(spec),
        "package": version(request.flavour),
        **request.as_key(),
        "gpu": None if device is None else gpu_facts(device),
    }


def model_key(network: Generator) -> dict[str, Any]:
    """What of a key is the same for all stages of a network, and in every package."""
    return {
        "weights": weights_digest(network),
        "generator": _as_json(asdict(network.config)),
        "statistics": sorted({norm.statistics for norm in norm_layers(network)}),
    }


def stage_key(spec: StageSpec) -> dict[str, Any]:
    return asdict(spec)


def weights_digest(network: Generator) -> str:
    """SHA-256 of names, shapes and values of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _as_json(values: dict[str, Any]) -> dict[str, Any]:
    """As it will be read again: tuples are lists."""
    return cast(dict[str, Any], json.loads(json.dumps(values)))
