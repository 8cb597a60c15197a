"""A small generator, and what is compiled of it, for the tests of this folder."""

from __future__ import annotations

from typing import Any

import torch

from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import UNet, initialize_weights, set_inference_mode
from pix2pix_training.stages import StageSpec, whole_stage
from pix2pix_trt.engine import BuildRequest
from pix2pix_trt.flavours import EnginePrecision
from pix2pix_trt.stage_engines import stage_shapes

CONFIG = GeneratorConfig(base_width=4, depth=3, norm="instance")
CPU = torch.device("cpu")
DECODE = StageSpec(gives="up", level=0, top=2, start=0, encoded=True, up=True, given_norms=True)


def unet(seed: int = 0, config: GeneratorConfig = CONFIG) -> UNet:
    torch.manual_seed(seed)
    network = UNet(config)
    initialize_weights(network)
    set_inference_mode(network, InferenceConfig(statistics="image"))
    return network


def request(precision: EnginePrecision = "fp32", **changes: Any) -> BuildRequest:
    """For the whole generator on images of up to 64 x 64."""
    shapes = stage_shapes(CONFIG, whole_stage(CONFIG), (64, 64))
    return BuildRequest(
        **{"flavour": "tensorrt-rtx", "precision": precision, "shapes": shapes, "architectures": ("sm86",), **changes}
    )
