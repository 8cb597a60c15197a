"""Pieces of a generator as functions of plain tensors: what exact translation runs, and what compilers compile.

A U-Net of depth D is a chain of features: the image e_0, the encoder's e_1 ... e_D, the decoder's u_(D-1) ... u_0, the
last being the result. A stage leads from some of these to a later one. One rule holds for all of them: features enter
and leave a stage *as a convolution gave them*. The norm and the dropout that follow a convolution belong to the stage
that takes its features; so the norm's statistics can be gathered in between. The result u_0 alone is finished, by tanh.

Norms either are layers of the stage (then running averages are best folded into the convolutions first, see
`pix2pix_training.export_form.fold_norms`; statistics "image" are those of the features at hand), or, with
`StageSpec.given_norms`, come as inputs. The noise of dropout always comes as an input.

| input | shape | content |
|---|---|---|
| ``features`` | (N, C, h, w) | e_start; e_0 is the image in [-1, 1] |
| ``encoded`` | (N, C, h, w) | e_top |
| ``up`` | (N, C, h, w) | u_top |
| ``encoder_k_norm``, ``decoder_k_norm`` | (2, C), float32 | scale and shift of a level's norm, see `scale_and_shift` |
| ``decoder_k_noise``, ``block_k_noise`` | (N, C, h, w) | 0 or 2 per feature, see `layers.dropout_noise` |

The activations that come first can be left to the caller, see `activated_inputs`: ``activated`` is
``leaky_relu(features, 0.2)``, and ``joined`` is ``relu(concatenate(encoded, up))``.

With `StageSpec.rounded`, for networks whose convolutions take integers of 8 bits, features enter and leave a stage as
those integers (uint8): activated, and rounded as the convolution that takes them rounds them; and so may the image
enter. Two convolutions may take e_k, in steps of their own; an encoding stage gives the channels for the next encoder
level, then those for the decoder.

The only output is called ``output``. Windows of one call cover the same part of the image, aligned to cells of `top`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pix2pix_training.layers import PositionedDropout, StatisticsNorm
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import (
    Generator,
    ResidualBlock,
    ResNet,
    UNet,
    noisy_levels,
    normed_decoder_levels,
    normed_encoder_levels,
)
from pix2pix_training.quantisation import FeatureRounding, is_in_8_bits, rounding_of

OUTPUT = "output"
ACTIVATED = "activated"
JOINED = "joined"
_ENCODER, _DECODER = "encoder", "decoder"


class Rounded(IntEnum):
    """What enters and leaves stages as integers of 8 bits; the result never does."""

    NOTHING = 0
    FEATURES = 1
    FEATURES_AND_IMAGE = 2


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """Which piece of a generator; hashable.

    Attributes
    ----------
    gives : "encoded" for e_level, "up" for u_level.
    level : of the output; u_0 is the result.
    top : the coarsest level of the stage: `level` of an encoding stage; else the first decoder level that runs.
    start : level of the input ``features``, from which encoder levels start + 1, ... run; None without that input.
    encoded, up : whether e_top and u_top are inputs. Without `encoded` the encoder runs down to `top`; without `up`
        the decoder starts at `top`, which then is the generator's depth.
    given_norms : scale and shift of the norms are inputs.
    noise : the noise of dropout is an input; else there is none.
    rounded : whether features are integers of 8 bits, and the image; norms are folded then, without noise.
    """

    gives: Literal["encoded", "up"]
    level: int
    top: int
    start: int | None = None
    encoded: bool = False
    up: bool = False
    given_norms: bool = False
    noise: bool = False
    rounded: Rounded = Rounded.NOTHING

    @property
    def encoder_levels(self) -> range:
        """Encoder levels that run."""
        if self.start is None:
            return range(0)
        return range(self.start + 1, self.top if self.encoded else self.top + 1)

    @property
    def decoder_levels(self) -> range:
        """Decoder levels that run, coarse to fine; decoder level k gives u_(k-1)."""
        return range(self.top, self.level, -1) if self.gives == "up" else range(0)


@dataclass(frozen=True, kw_only=True)
class StageTensor:
    """An input or output of a stage.

    Attributes
    ----------
    level : (N, channels, h, w) with 2**level times fewer rows and columns than the image; None for a norm's scale and
        shift, (2, channels).
    noise_of : number of the dropout layer whose noise it is.
    integers : uint8, not floats.
    """

    name: str
    channels: int
    level: int | None
    noise_of: int | None = None
    integers: bool = False


def whole_stage(config: GeneratorConfig, *, noise: bool = False) -> StageSpec:
    """The generator as a whole, from image to result; the only stage of a ResNet."""
    return StageSpec(gives="up", level=0, top=config.stride.bit_length() - 1, start=0, noise=noise)


def reaches_the_bottom(spec: StageSpec) -> bool:
    """Whether a stage takes nothing but features whose encoding and decoding it does down to the deepest level."""
    return spec.gives == "up" and spec.start == spec.level and not spec.encoded and not spec.up


def around_the_bottom(
    config: GeneratorConfig, spec: StageSpec, level: int
) -> tuple[StageSpec, StageSpec, StageSpec] | None:
    """A stage of a quantised network in three: the encoder to a level, all that is deeper, the decoder from there.

    The last one runs the encoder above that level once more. None where the stage cannot be parted so.
    """
    reaches = spec.gives == "up" and spec.start is not None and not spec.encoded and not spec.up
    if not reaches or config.architecture != "unet" or not max(1, spec.start or 0) < level < spec.top:
        return None
    if not spec.rounded and (spec.start, spec.level) != (0, 0):  # it takes or gives features that are no integers
        return None
    inner = replace(spec, rounded=max(spec.rounded, Rounded.FEATURES))
    return (
        replace(inner, gives="encoded", level=level, top=level),
        replace(inner, level=level, start=level),
        replace(inner, top=level, encoded=True, up=True),
    )


def stage_inputs(config: GeneratorConfig, spec: StageSpec) -> tuple[StageTensor, ...]:
    """The inputs of a stage in the order in which `Stage` takes them."""
    return (*_feature_inputs(config, spec), *_norm_inputs(config, spec), *_noise_inputs(config, spec))


def activated_inputs(network: Generator, spec: StageSpec) -> tuple[StageTensor, ...]:
    """The inputs of a stage with ``activated`` for ``features``, and ``joined`` for ``encoded`` and ``up``.

    Each where a U-Net takes them and nothing but the activation comes first, no norm and no noise. Others are left.
    """
    tensors = stage_inputs(network.config, spec)
    if not isinstance(network, UNet) or spec.given_norms:
        return tensors
    by_name = {tensor.name: tensor for tensor in tensors}
    if spec.start and not spec.rounded and isinstance(network.down_block(spec.start).norm, nn.Identity):
        by_name["features"] = replace(by_name["features"], name=ACTIVATED)
    if _only_joined(network, spec):
        encoded, up = by_name["encoded"], by_name.pop("up")
        by_name["encoded"] = replace(encoded, name=JOINED, channels=encoded.channels + up.channels)
    return tuple(by_name.values())


def _only_joined(network: UNet, spec: StageSpec) -> bool:
    """Whether e_top and u_top are inputs without norm and noise, so that they go nowhere but into decoder level top."""
    if not (network.skips and spec.encoded and spec.up):
        return False
    if spec.noise and spec.top + 1 in noisy_levels(network.config):
        return False
    norms = network.down_block(spec.top).norm, network.up_block(spec.top + 1).norm
    return all(isinstance(norm, nn.Identity) for norm in norms)


def stage_output(config: GeneratorConfig, spec: StageSpec) -> StageTensor:
    encoded = spec.gives == "encoded"
    channels = config.feature_channels(spec.level) if encoded else config.up_channels(spec.level)
    integers = bool(spec.rounded) and spec.level > 0
    if integers:
        channels *= len(_takers(config, spec))
    return StageTensor(name=OUTPUT, channels=channels, level=spec.level, integers=integers)


def _takers(config: GeneratorConfig, spec: StageSpec) -> tuple[str, ...]:
    """Which sides of the U-Net take the output of a stage: the next encoder level, the decoder level beside it."""
    if spec.gives == "up" or spec.level == config.depth:
        return (_DECODER,)
    return (_ENCODER, _DECODER) if config.architecture == "unet" else (_ENCODER,)


def rounded_at(network: UNet, level: int) -> Rounded:
    """What may be integers where the features of a level of a quantised network go from stage to stage.

    Nothing where the last convolution, which takes those of level 1, is not rounded.
    """
    if level == 1 and not is_in_8_bits(network.up_block(1).conv):
        return Rounded.NOTHING
    return Rounded.FEATURES if image_rounding(network) is None else Rounded.FEATURES_AND_IMAGE


def image_rounding(network: UNet) -> FeatureRounding | None:
    """That of the first convolution of a quantised network where it takes integers of 8 bits."""
    first = network.down_block(1).conv
    return rounding_of(first) if is_in_8_bits(first) else None


def weight_count(network: Generator, spec: StageSpec) -> int:
    """Number of weights of a stage."""
    return sum(weight.numel() for weight in Stage(network, spec).parameters())


def covered_size(config: GeneratorConfig, spec: StageSpec, inputs: Mapping[str, Tensor]) -> tuple[int, int]:
    """Rows and columns of the image that the windows of one call cover."""
    tensor = next(t for t in stage_inputs(config, spec) if t.level is not None and t.name in inputs)
    assert tensor.level is not None
    height, width = inputs[tensor.name].shape[-2:]
    return height << tensor.level, width << tensor.level


def encoder_norm(level: int) -> str:
    """Name of the input with scale and shift of the norm after e_level."""
    return f"encoder_{level}_norm"


def decoder_norm(level: int) -> str:
    """Name of the input with scale and shift of the norm after decoder level `level`, which gives u_(level-1)."""
    return f"decoder_{level}_norm"


def scale_and_shift(norm: StatisticsNorm, mean: Tensor, var: Tensor) -> Tensor:
    """What a norm does on statistics (C,) of its input: ``x * scale + shift``, stacked as (2, C)."""
    scale = torch.rsqrt(var.double() + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -mean * scale if norm.bias is None else norm.bias - mean * scale
    return torch.stack([scale, shift]).to(mean.dtype)


class Stage(nn.Module):
    """One piece of a generator. It shares the generator's weights and holds no others.

    Parameters
    ----------
    network : in eval mode; what its norms and dropout do in a plain call does not matter where these are inputs.
    activated : whether to take `activated_inputs`.
    """

    def __init__(self, network: Generator, spec: StageSpec, *, activated: bool = False) -> None:
        super().__init__()
        self.spec = spec
        tensors = activated_inputs(network, spec) if activated else stage_inputs(network.config, spec)
        self.input_names = tuple(tensor.name for tensor in tensors)
        self.pieces = _UNetPieces(network, spec) if isinstance(network, UNet) else _ResNetPieces(network)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The output for the tensors named `input_names`, in that order."""
        return cast(Tensor, self.pieces(dict(zip(self.input_names, inputs, strict=True))))


class _UNetPieces(nn.Module):
    def __init__(self, network: UNet, spec: StageSpec) -> None:
        super().__init__()
        self.spec = spec
        self.skips = network.skips
        self.activation = network.activation
        self.encoders = nn.ModuleDict({str(k): network.down_block(k).conv for k in spec.encoder_levels})
        self.decoders = nn.ModuleDict({str(k): network.up_block(k).conv for k in spec.decoder_levels})
        self.norms = nn.ModuleDict()
        if not spec.given_norms:
            self.norms.update({encoder_norm(k): network.down_block(k).norm for k in _finished_encoders(spec)})
            self.norms.update({decoder_norm(k): network.up_block(k).norm for k in _finished_decoders(spec)})
        self.roundings = nn.ModuleDict(_leaving_roundings(network, spec))

    def forward(self, given: Mapping[str, Tensor]) -> Tensor:
        spec = self.spec
        encoded = self._encoded(given)
        if spec.gives == "encoded":
            return self._leaving(encoded[spec.level])
        up = self._finished_up(spec.top + 1, given["up"], given) if "up" in given else None
        for level in spec.decoder_levels:
            is_given = level == spec.top and JOINED in given
            raw = self.decoders[str(level)](given[JOINED] if is_given else self._activated(encoded.get(level), up))
            up = raw if level == spec.level + 1 else self._finished_up(level, raw, given)
        assert up is not None
        if spec.level == 0:
            return cast(Tensor, self.activation(up))
        return self._leaving(up)

    def _leaving(self, x: Tensor) -> Tensor:
        """Features as they leave the stage: as they are, or as the integers that the next convolutions take."""
        if not self.roundings:
            return x
        activated = {side: F.leaky_relu(x, 0.2) if side == _ENCODER else F.relu(x) for side in self.roundings}
        return torch.cat([rounding(activated[side]) for side, rounding in self.roundings.items()], 1)

    def _encoded(self, given: Mapping[str, Tensor]) -> dict[int, Tensor]:
        """Encoder features by level, normed but for the stage's output."""
        spec = self.spec
        encoded: dict[int, Tensor] = {}
        if "encoded" in given:
            encoded[spec.top] = self._normed(encoder_norm(spec.top), given["encoded"], given)
        if spec.start is None:
            return encoded
        x = given[ACTIVATED] if ACTIVATED in given else self._entering(given)
        for level in spec.encoder_levels:
            x = self.encoders[str(level)](x if level == spec.start + 1 else F.leaky_relu(x, 0.2))
            if spec.gives == "up" or level < spec.level:
                x = self._normed(encoder_norm(level), x, given)
            encoded[level] = x
        return encoded

    def _entering(self, given: Mapping[str, Tensor]) -> Tensor:
        """Input of the first encoder level."""
        assert self.spec.start is not None
        x = self._normed(encoder_norm(self.spec.start), given["features"], given)
        return F.leaky_relu(x, 0.2) if self.spec.start and not self.spec.rounded else x

    def _finished_up(self, level: int, raw: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        up = self._normed(decoder_norm(level), raw, given)
        noise = given.get(_decoder_noise(level))
        return up if noise is None else up * noise

    def _normed(self, name: str, x: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        if name in self.norms:
            return cast(Tensor, self.norms[name](x))
        if name not in given:
            return x
        norm = given[name][..., None, None]
        return torch.addcmul(norm[1], x.to(norm.dtype), norm[0]).to(x.dtype)

    def _activated(self, skip: Tensor | None, up: Tensor | None) -> Tensor:
        """Input of a decoder level: skip and output of the level below, in this order, after the activation."""
        if skip is not None and up is not None and self.skips:
            joined = torch.cat([skip, up], 1)
            return joined if _are_integers(joined) else joined.relu_()  # in place: a sixth of a shallow decoder's time
        alone = skip if up is None else up
        assert alone is not None
        return alone if _are_integers(alone) else F.relu(alone)


def _are_integers(x: Tensor) -> bool:
    """Those of activated features."""
    return x.dtype is torch.uint8


def _leaving_roundings(network: UNet, spec: StageSpec) -> dict[str, FeatureRounding]:
    """Of a stage's output, by what takes it."""
    if not (spec.rounded and spec.level):
        return {}
    layers = {
        side: network.down_block(spec.level + 1).conv if side == _ENCODER else network.up_block(spec.level).conv
        for side in _takers(network.config, spec)
    }
    return {side: rounding_of(layer) for side, layer in layers.items()}


class _ResNetPieces(nn.Module):
    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.model = network.model

    def forward(self, given: Mapping[str, Tensor]) -> Tensor:
        x = given["features"]
        for layer in self.model:
            x = x + _run(layer.conv_block, x, given) if isinstance(layer, ResidualBlock) else layer(x)
        return x


def _run(layers: nn.Sequential, x: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    for layer in layers:
        if not isinstance(layer, PositionedDropout):
            x = layer(x)
        elif _block_noise(layer.layer) in given:
            x = x * given[_block_noise(layer.layer)]
    return x


def _feature_inputs(config: GeneratorConfig, spec: StageSpec) -> Iterator[StageTensor]:
    if spec.start is not None:
        integers = spec.rounded >= (Rounded.FEATURES if spec.start else Rounded.FEATURES_AND_IMAGE)
        channels = config.feature_channels(spec.start)
        yield StageTensor(name="features", channels=channels, level=spec.start, integers=integers)
    if spec.encoded:
        channels = config.feature_channels(spec.top)
        yield StageTensor(name="encoded", channels=channels, level=spec.top, integers=bool(spec.rounded))
    if spec.up:
        channels = config.up_channels(spec.top)
        yield StageTensor(name="up", channels=channels, level=spec.top, integers=bool(spec.rounded))


def _norm_inputs(config: GeneratorConfig, spec: StageSpec) -> Iterator[StageTensor]:
    if not spec.given_norms:
        return
    for level in _finished_encoders(spec):
        if level in normed_encoder_levels(config):
            yield StageTensor(name=encoder_norm(level), channels=config.feature_channels(level), level=None)
    for level in _finished_decoders(spec):
        if level in normed_decoder_levels(config):
            yield StageTensor(name=decoder_norm(level), channels=config.up_channels(level - 1), level=None)


def _noise_inputs(config: GeneratorConfig, spec: StageSpec) -> Iterator[StageTensor]:
    if not spec.noise:
        return
    if config.architecture == "resnet":
        for block in range(config.blocks if config.dropout != "none" else 0):
            name = _block_noise(block)
            yield StageTensor(name=name, channels=4 * config.base_width, level=spec.top, noise_of=block)
        return
    for level in _finished_decoders(spec):
        if level in noisy_levels(config):
            channels = config.up_channels(level - 1)
            yield StageTensor(name=_decoder_noise(level), channels=channels, level=level - 1, noise_of=level)


def _finished_encoders(spec: StageSpec) -> list[int]:
    """Encoder levels whose norm lies in the stage."""
    levels = [k for k in spec.encoder_levels if spec.gives == "up" or k < spec.level]
    entering = [spec.start] if spec.start else []
    return [*entering, *levels, *([spec.top] if spec.encoded else [])]


def _finished_decoders(spec: StageSpec) -> list[int]:
    """Decoder levels whose norm and dropout lie in the stage."""
    entering = [spec.top + 1] if spec.up else []
    return [*entering, *(k for k in spec.decoder_levels if k > spec.level + 1)]


def _decoder_noise(level: int) -> str:
    return f"decoder_{level}_noise"


def _block_noise(block: int) -> str:
    return f"block_{block}_noise"
