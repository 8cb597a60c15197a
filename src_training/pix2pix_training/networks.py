"""Generators and discriminators of pix2pix, as in the paper and its PyTorch reference implementation.

Levels of a U-Net are numbered from 1, the first down-sampling; the features of level k have 2**k times fewer rows and
columns than the image. `pix2pix_training.stages` runs generators piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pix2pix_training.choices import Decoder, Norm
from pix2pix_training.errors import SettingsError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.layers import (
    PositionedDropout,
    SpectralConv2d,
    StatisticsNorm,
    join,
    keeps_running_statistics,
    make_activation,
    make_norm,
)
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.strided_convolution import HalvingConv2d, ShuffleConvolution, doubling_convolution


class DownBlock(nn.Module):
    """Encoder level: LeakyReLU(0.2), convolution 4x4 stride 2, norm; the first level is a convolution alone."""

    def __init__(self, inputs: int, outputs: int, *, norm: Norm, activate: bool, normalize: bool) -> None:
        super().__init__()
        self.activate = activate
        self.conv = HalvingConv2d(inputs, outputs, bias=not keeps_running_statistics(norm))
        self.norm = make_norm(norm, outputs) if normalize else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(self.conv(F.leaky_relu(x, 0.2) if self.activate else x)))


class UpBlock(nn.Module):
    """Decoder level: ReLU, a convolution that doubles the size, norm, dropout; the last level has only bias."""

    def __init__(
        self, inputs: int, outputs: int, *, decoder: Decoder, norm: Norm, normalize: bool, dropout: nn.Module
    ) -> None:
        super().__init__()
        bias = not (normalize and keeps_running_statistics(norm))
        self.conv = doubling_convolution(decoder, inputs, outputs, bias=bias)
        self.norm = make_norm(norm, outputs) if normalize else nn.Identity()
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.dropout(self.norm(self.conv(F.relu(x)))))


class UNet(nn.Module):
    """U-Net generator (paper, section 3.2.1 and appendix 6.1.1); without skips, the encoder-decoder of the ablation.

    Maps (N, source_channels, H, W) in [-1, 1] to (N, target_channels, H, W), in [-1, 1] with tanh output. H and W
    must be multiples of 2**depth.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.depth = config.depth
        self.skips = has_skips(config)
        self.activation = make_activation(config.output)
        noisy = noisy_levels(config)
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for level in range(1, config.depth + 1):
            self.down.append(
                DownBlock(
                    config.feature_channels(level - 1),
                    config.feature_channels(level),
                    norm=config.norm,
                    activate=level > 1,
                    normalize=level in normed_encoder_levels(config),
                )
            )
            features = config.feature_channels(level)
            dropout = PositionedDropout(level) if level in noisy else nn.Identity()
            self.up.append(
                UpBlock(
                    2 * features if self.skips and level < config.depth else features,
                    config.up_channels(level - 1),
                    decoder=config.decoder,
                    norm=config.norm,
                    normalize=level in normed_decoder_levels(config),
                    dropout=dropout,
                )
            )

    def down_block(self, level: int) -> DownBlock:
        return cast(DownBlock, self.down[level - 1])

    def up_block(self, level: int) -> UpBlock:
        return cast(UpBlock, self.up[level - 1])

    def forward(self, x: Tensor) -> Tensor:
        encoded = []
        for level in range(1, self.depth + 1):
            x = self.down_block(level)(x)
            encoded.append(x)
        for level in range(self.depth, 0, -1):
            skip = encoded.pop()
            x = self.up_block(level)(join(skip, x) if self.skips and level < self.depth else x)
        return cast(Tensor, self.activation(x))


def has_skips(config: GeneratorConfig) -> bool:
    """Whether encoder features go to the decoder level of their size too."""
    match config.architecture:
        case "unet":
            return True
        case "encoder-decoder" | "resnet":
            return False
        case _:
            assert_never(config.architecture)


def normed_encoder_levels(config: GeneratorConfig) -> range:
    """Levels of a U-Net whose encoder features are normed: not the first, nor the deepest (paper, appendix 6.1.1)."""
    return range(2, config.depth) if config.norm != "none" else range(0)


def normed_decoder_levels(config: GeneratorConfig) -> range:
    """Levels of a U-Net whose decoder output is normed: all but the last to run."""
    return range(2, config.depth + 1) if config.norm != "none" else range(0)


def noisy_levels(config: GeneratorConfig) -> range:
    """Levels of a U-Net whose decoder output has dropout."""
    match config.dropout:
        case "paper":
            return range(max(2, config.depth - 2), config.depth + 1)
        case "reference":
            return range(5, config.depth)
        case "none":
            return range(0)
        case _:
            assert_never(config.dropout)


class ResidualBlock(nn.Module):
    """Two reflection-padded 3x3 convolutions around a skip connection."""

    def __init__(self, width: int, *, norm: Norm, dropout: nn.Module | None) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=not keeps_running_statistics(norm)),
            make_norm(norm, width),
            nn.ReLU(),
        ]
        if dropout is not None:
            layers.append(dropout)
        layers += [
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=not keeps_running_statistics(norm)),
            make_norm(norm, width),
        ]
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.conv_block(x))


class ResNet(nn.Module):
    """ResNet generator of the reference: two stride-2 convolutions, residual blocks, two transposed convolutions.

    Same input and output as `UNet`; H and W must be multiples of 4.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        width, norm = config.base_width, config.norm
        bias = not keeps_running_statistics(norm)
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(config.source_channels, width, 7, bias=bias),
            make_norm(norm, width),
            nn.ReLU(),
        ]
        for factor in (1, 2):
            layers += [
                nn.Conv2d(width * factor, width * factor * 2, 3, 2, 1, bias=bias),
                make_norm(norm, width * factor * 2),
                nn.ReLU(),
            ]
        for block in range(config.blocks):
            dropout = PositionedDropout(block) if config.dropout != "none" else None
            layers.append(ResidualBlock(width * 4, norm=norm, dropout=dropout))
        for factor in (4, 2):
            layers += [
                nn.ConvTranspose2d(width * factor, width * factor // 2, 3, 2, 1, output_padding=1, bias=bias),
                make_norm(norm, width * factor // 2),
                nn.ReLU(),
            ]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, config.target_channels, 7)]
        layers.append(make_activation(config.output))
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.model(x))


class Discriminator(nn.Module):
    """PatchGAN (paper, section 3.2.2 and appendix 6.1.2), or the PixelGAN for `layers` 0; at one or several scales.

    Takes (N, channels, H, W) in [-1, 1]; a conditional one gets source and target concatenated.
    """

    def __init__(self, channels: int, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.model = _one_scale(channels, config)
        self.coarser = nn.ModuleList(_one_scale(channels, config) for _ in range(config.scales - 1))

    def forward(self, x: Tensor) -> Tensor:
        """One logit per patch of the finest scale, (N, 1, h, w)."""
        return cast(Tensor, self.model(x))

    def logits(self, x: Tensor) -> list[Tensor]:
        """Logits of every scale, the finest first."""
        return [scale(image) for scale, image in zip(self.scales, self._images(x), strict=True)]

    def features(self, x: Tensor) -> list[list[Tensor]]:
        """What the activations of every scale give, layer by layer, the finest scale first."""
        return [_activations(scale, image) for scale, image in zip(self.scales, self._images(x), strict=True)]

    @property
    def scales(self) -> list[nn.Sequential]:
        """The network of each scale, the finest first."""
        return [self.model, *(cast(nn.Sequential, model) for model in self.coarser)]

    def _images(self, x: Tensor) -> list[Tensor]:
        """The image for each scale: of the coarser ones means of 3 x 3 pixels, half as many in each direction."""
        images = [x]
        for _ in self.coarser:
            images.append(F.avg_pool2d(images[-1], 3, 2, padding=1, count_include_pad=False))
        return images


def _activations(layers: nn.Sequential, x: Tensor) -> list[Tensor]:
    given = []
    for layer in layers:
        x = layer(x)
        if isinstance(layer, nn.LeakyReLU):
            given.append(x)
    return given


def _one_scale(channels: int, config: DiscriminatorConfig) -> nn.Sequential:
    return nn.Sequential(*(_pixel_layers if config.layers == 0 else _patch_layers)(channels, config))


def _convolution(
    config: DiscriminatorConfig, inputs: int, outputs: int, kernel: int, stride: int, padding: int, *, bias: bool = True
) -> nn.Conv2d:
    kind = SpectralConv2d if config.spectral_norm else nn.Conv2d
    return kind(inputs, outputs, kernel, stride, padding, bias=bias)


def _pixel_layers(channels: int, config: DiscriminatorConfig) -> list[nn.Module]:
    width, bias = config.base_width, not keeps_running_statistics(config.norm)
    return [
        _convolution(config, channels, width, 1, 1, 0),
        nn.LeakyReLU(0.2),
        _convolution(config, width, 2 * width, 1, 1, 0, bias=bias),
        make_norm(config.norm, 2 * width),
        nn.LeakyReLU(0.2),
        _convolution(config, 2 * width, 1, 1, 1, 0, bias=bias),
    ]


def _patch_layers(channels: int, config: DiscriminatorConfig) -> list[nn.Module]:
    bias = not keeps_running_statistics(config.norm)
    layers: list[nn.Module] = [_convolution(config, channels, config.base_width, 4, 2, 1), nn.LeakyReLU(0.2)]
    inputs = config.base_width
    for layer in range(1, config.layers + 1):
        outputs = config.base_width * min(2**layer, 8)
        stride = 1 if layer == config.layers else 2
        layers += [
            _convolution(config, inputs, outputs, 4, stride, 1, bias=bias),
            make_norm(config.norm, outputs),
            nn.LeakyReLU(0.2),
        ]
        inputs = outputs
    return [*layers, _convolution(config, inputs, 1, 4, 1, 1)]


def discriminator_channels(config: GeneratorConfig, *, conditional: bool) -> int:
    """Channels that a discriminator sees: those of the target, and where it is conditional of the source too."""
    return config.target_channels + (config.source_channels if conditional else 0)


Generator = UNet | ResNet


def build_generator(config: GeneratorConfig) -> Generator:
    match config.architecture:
        case "unet" | "encoder-decoder":
            return UNet(config)
        case "resnet":
            return ResNet(config)
        case _:
            assert_never(config.architecture)


def initialize_weights(network: nn.Module, generator: torch.Generator | None = None) -> None:
    """Convolutions from N(0, 0.02), norm weights from N(1, 0.02), biases zero (paper, section 6.2; reference).

    The expansion of a pixel shuffle has an initialisation of its own.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, StatisticsNorm) and module.weight is not None:
            nn.init.normal_(module.weight, 1.0, 0.02, generator=generator)
            nn.init.zeros_(cast(Tensor, module.bias))
    for module in network.modules():
        if isinstance(module, ShuffleConvolution):
            module.initialize_expansion(generator)


def norm_layers(network: nn.Module) -> Iterator[StatisticsNorm]:
    return (m for m in network.modules() if isinstance(m, StatisticsNorm))


def noise_layers(network: nn.Module) -> Iterator[PositionedDropout]:
    return (m for m in network.modules() if isinstance(m, PositionedDropout))


def set_inference_mode(network: nn.Module, inference: InferenceConfig) -> None:
    """Put a generator into eval mode and make it the function that `inference` names.

    Raises `SettingsError` where running statistics are asked of a network that has none.
    """
    network.eval()
    for norm in norm_layers(network):
        if inference.statistics == "running" and not norm.has_running_statistics:
            raise SettingsError("instance norm keeps no running statistics; use statistics 'image'")
        norm.statistics = inference.statistics
    for noise in noise_layers(network):
        noise.seed = noise_seed(inference)


def noise_seed(inference: InferenceConfig) -> int | None:
    """The seed of the noise of dropout at translation; None where there is no noise."""
    match inference.dropout:
        case "seeded":
            return inference.seed
        case "off":
            return None
        case _:
            assert_never(inference.dropout)


def parameter_count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def pad_to_stride(x: Tensor, stride: int) -> Tensor:
    """(N, C, H, W) padded at the bottom and right to multiples of `stride`: reflected, replicated where too small.

    The padded image, not the image, is what "whole-image inference" runs on; every tiling must reproduce it.
    """
    for axis in (-1, -2):
        size = x.shape[axis]
        index = padded_index(size, stride).to(x.device)
        x = x.index_select(axis, index) if index.numel() != size else x
    return x


def padded_index(size: int, stride: int) -> Tensor:
    """For each row (or column) of the padded image, the row of the image that it repeats."""
    padded = -(-size // stride) * stride
    index = torch.arange(padded)
    if padded - size < size:
        return torch.where(index < size, index, 2 * (size - 1) - index)
    return index.clamp(max=size - 1)
