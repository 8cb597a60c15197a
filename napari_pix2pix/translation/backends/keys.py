"""What compiled generators depend on, whichever backend compiles them, as JSON values."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any, cast

import torch

from pix2pix_training.networks import Generator, norm_layers


def model_key(network: Generator) -> dict[str, Any]:
    """What of a key is the same for all stages of a network, and in every package."""
    return {
        "weights": weights_digest(network),
        "generator": _as_json(asdict(network.config)),
        "statistics": sorted({norm.statistics for norm in norm_layers(network)}),
    }


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
