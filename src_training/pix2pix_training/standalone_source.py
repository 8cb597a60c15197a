"""A Python file with a generator's network that needs nothing but torch, put together from the sources of this package.

So other programs load a state_dict of ours without installing us, and there is only one definition of the networks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from pix2pix_training import layers, networks, strided_convolution
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig

CALLABLE = "pix2pix_generator"

_HEAD = f'''"""Generator networks of pix2pix, as trained by napari-pix2pix (BSD-3-Clause); needs torch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, assert_never, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DROPOUT_RATE = {layers.DROPOUT_RATE}
HALVING_CELLS = {strided_convolution.HALVING_CELLS}
DOUBLING_CELLS = {strided_convolution.DOUBLING_CELLS}
FLOAT32_CELLS = {strided_convolution.FLOAT32_CELLS}
KERNEL, STRIDE, PADDING = {strided_convolution.KERNEL}, {strided_convolution.STRIDE}, {strided_convolution.PADDING}
'''

_CONFIG = f'''
class GeneratorConfig(SimpleNamespace):
    """Shape of a generator network."""

{inspect.getsource(GeneratorConfig.feature_channels)}
{inspect.getsource(GeneratorConfig.up_channels)}'''

_PARTS: tuple[type | Callable[..., Any], ...] = (
    layers.StatisticsNorm,
    layers.BatchRenorm,
    layers.PositionedDropout,
    layers.dropout_noise,
    layers._positioned_bits,
    layers._mix,
    layers.keeps_running_statistics,
    layers.make_norm,
    layers.make_activation,
    layers._Joined,
    layers.join,
    strided_convolution.HalvingConv2d,
    strided_convolution.DoublingConvTranspose2d,
    strided_convolution._product,
    strided_convolution.ResizeConvolution,
    strided_convolution.transposed_weight,
    strided_convolution.ShuffleConvolution,
    strided_convolution.doubling_convolution,
    networks.DownBlock,
    networks.UpBlock,
    networks.UNet,
    networks.has_skips,
    networks.normed_encoder_levels,
    networks.normed_decoder_levels,
    networks.noisy_levels,
    networks.ResidualBlock,
    networks.ResNet,
    networks.build_generator,
    networks.norm_layers,
)

_ENTRY = f'''
def {CALLABLE}(config: dict[str, Any], statistics: str) -> nn.Module:
    """A generator in eval mode, without dropout noise.

    Maps (N, source channels, H, W) in [-1, 1] to (N, target channels, H, W), both float32.

    Parameters
    ----------
    config : shape of the network, as in the model file.
    statistics : what norm layers use: "running" averages of training, or those of each "image".
    """
    network = build_generator(GeneratorConfig(**config))
    for norm in norm_layers(network):
        norm.statistics = statistics
    return network.eval()
'''


def standalone_source() -> str:
    """The file's text; its function `CALLABLE` takes what `standalone_arguments` gives."""
    return "\n\n".join([_HEAD, _CONFIG.lstrip(), *(inspect.getsource(part) for part in _PARTS), _ENTRY.lstrip()])


def standalone_arguments(config: GeneratorConfig, inference: InferenceConfig) -> dict[str, Any]:
    """Arguments for `CALLABLE`, plain data."""
    return {"config": asdict(config), "statistics": inference.statistics}
