"""A U-Net whose convolutions take integers of 8 bits: how features and weights are rounded.

Integers are multiplied and summed up without rounding. Between convolutions their sums are scaled, shifted and rounded
again, and compilers do that in whatever order is fastest; a value near the middle of two integers would come out as the
one or the other. So all scales are powers of two: to multiply by one is exact in any order. That is what lets an image
in tiles have the same integers in every layer as the image at once, and PyTorch the same as a compiler.

The first convolution sees the image in finer steps, as many as float32 sums up exactly, unless the image has 8 bits
itself and that costs little. The last one, whose errors are those of the result, is rounded only where that does.

Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pix2pix_training.errors import SettingsError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import Generator, UNet
from pix2pix_training.strided_convolution import ResizeConvolution
from pix2pix_training.validated import Lenient, validated

STEPS = 255
"""Of the features, from the smallest to the largest value; weights have as many less one, around 0."""
_WEIGHT_STEPS = 127
FIRST, LAST = "encoder_1", "decoder_1"
"""The convolutions that take the image, and that give the result."""
_MIDDLE = 128
_EXACT = 1 << 24
"""Float32 holds all integers up to here."""
_SMALLEST = 2.0**-60
_LARGEST = 2.0**60

Convolution = nn.Conv2d | nn.ConvTranspose2d
Rounding = Annotated[
    tuple[Annotated[int, Field(ge=-60, le=60)], Annotated[int, Field(ge=0, le=_EXACT)]],
    Lenient,
]
"""Binary exponent of the step between values, and the integer that stands for 0."""
IMAGE_IN_8_BITS: Rounding = (-7, _MIDDLE)
"""Of an image in [-1, 1] with so few values that steps of 1 / 128 keep most of them apart; 1 becomes 127 / 128."""


@validated
class Int8Traits:
    """How the features of a generator are rounded for computing in 8 bits, and what that was measured to cost.

    Attributes
    ----------
    roundings : of what each convolution takes, by `convolution_names`; without the last where that stays in float32.
    parts : of images that were looked at; some of them gave the roundings, the others what follows.
    deviation : mean difference from the result in float32, as a share of its range.
    worst : that of the part where it is largest.
    psnr_loss : mean loss of PSNR against the target in dB; None where there was no target.
    judging : how many of the parts the others were; None stands for half of them.
    """

    roundings: dict[str, Rounding]
    parts: Annotated[int, Field(ge=2)]
    deviation: Annotated[float, Field(ge=0)]
    worst: Annotated[float, Field(ge=0)]
    psnr_loss: float | None = None
    judging: Annotated[int, Field(ge=1)] | None = None


def int8_problem(config: GeneratorConfig, inference: InferenceConfig) -> str | None:
    """Why a generator cannot compute in 8 bits, in words; None where it can."""
    if config.architecture == "resnet":
        return "precision int8 is for U-Nets, and this model is a ResNet; choose fp32 or bf16"
    if config.decoder == "pixel-shuffle":
        return "precision int8 does not know the decoder pixel-shuffle of this model; choose fp32 or bf16"
    if config.norm != "none" and inference.statistics != "running":
        return (
            f"precision int8 needs norms on running averages, and here they take the statistics of each "
            f"{inference.statistics}; choose fp32 or bf16"
        )
    if config.dropout != "none" and inference.dropout == "seeded":
        return "precision int8 leaves no room for values that dropout doubles; choose --dropout off, or fp32"
    return None


def require_int8(config: GeneratorConfig, inference: InferenceConfig, int8: Int8Traits | None) -> Int8Traits:
    """What a model keeps for 8 bits.

    Raises
    ------
    SettingsError
        It cannot compute in 8 bits as `inference` says, or keeps nothing for that.
    """
    problem = int8_problem(config, inference)
    if problem is not None:
        raise SettingsError(problem)
    if int8 is None:
        raise SettingsError(
            "the model was not made ready for precision int8; do that with compile MODEL --backend openvino "
            "--precision int8 --sample IMAGES, or in Python with `with_int8`, or choose fp32 (runs do it when they "
            "end, for models that lose little)"
        )
    return int8


def convolution_names(config: GeneratorConfig) -> tuple[str, ...]:
    """The convolutions of a U-Net that can be rounded, in the order in which they run."""
    levels = range(1, config.depth + 1)
    return (*(f"encoder_{level}" for level in levels), *(f"decoder_{level}" for level in reversed(levels)))


def image_steps(config: GeneratorConfig) -> int:
    """Of the image for the first convolution, from -1 to 1: as many as stay exact."""
    products = 16 * config.source_channels * (_WEIGHT_STEPS + 1)
    return max(STEPS, 1 << int(math.log2(max(1, _EXACT / products))))


def has_finer_image(config: GeneratorConfig) -> bool:
    """Whether the image can have finer steps than `IMAGE_IN_8_BITS`, which it cannot with many channels."""
    return image_steps(config) > STEPS + 1


def _steps(config: GeneratorConfig, name: str, rounding: Rounding) -> int:
    """Of what a convolution takes, from the smallest to the largest value."""
    if name != FIRST or (rounding == IMAGE_IN_8_BITS and has_finer_image(config)):
        return STEPS
    return image_steps(config)


def are_roundings_of(config: GeneratorConfig, roundings: Mapping[str, Rounding]) -> bool:
    """Whether these are the convolutions of such a network, and 0 lies within the steps of each."""
    are_all = {*roundings, LAST} == {*convolution_names(config)}
    return are_all and all(rounding[1] <= _steps(config, name, rounding) for name, rounding in roundings.items())


def without_last(roundings: Mapping[str, Rounding]) -> dict[str, Rounding]:
    """Those that leave the last convolution in float32."""
    return {name: rounding for name, rounding in roundings.items() if name != LAST}


def with_image_in_8_bits(roundings: Mapping[str, Rounding]) -> dict[str, Rounding]:
    """Those that let the first convolution see the image in as many steps as the others see features."""
    return {**roundings, FIRST: IMAGE_IN_8_BITS}


def _parents(network: UNet, names: Iterable[str]) -> Iterator[tuple[str, nn.Module]]:
    """The modules that hold these convolutions as `conv`, by name."""
    for name in names:
        side, _, level = name.partition("_")
        block = network.down_block(int(level)) if side == "encoder" else network.up_block(int(level))
        yield name, cast(nn.Module, block.conv if hasattr(block.conv, "conv") else block)


class FeatureRounding(nn.Module):
    """How features become integers and back: ``round(x / step + zero)``, clipped to 0 ... `largest`."""

    def __init__(self, rounding: Rounding, largest: int) -> None:
        super().__init__()
        exponent, self.zero = rounding
        self.step = 2.0**exponent
        self.largest = largest

    def forward(self, x: Tensor) -> Tensor:
        """The integers, (N, C, h, w), in uint8."""
        return self._integers(x).to(torch.uint8)

    def rounded(self, x: Tensor) -> Tensor:
        """The rounded features."""
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            # as compilers know it
            return torch.fake_quantize_per_tensor_affine(x, self.step, self.zero, 0, self.largest)
        return self._integers(x).sub_(self.zero).mul_(self.step)

    def of_integers(self, integers: Tensor) -> Tensor:
        """The rounded features that integers stand for."""
        features = (integers.float() - self.zero) * self.step
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return self.rounded(features)  # which changes nothing, but tells compilers that they are integers
        return features

    def _integers(self, x: Tensor) -> Tensor:
        """In floats, and in the order in which compilers compute."""
        return torch.add(self.zero, x, alpha=1 / self.step).round_().clamp_(0, self.largest)


class QuantisedConvolution(nn.Module):
    """A convolution of rounded features and rounded weights, in floats. It takes features, or their integers.

    Parameters
    ----------
    conv : its weights are rounded in 8 bits, each output channel in steps of its own.
    rounding : of the features; what lies beyond the steps is clipped.
    steps : of the features, from the smallest to the largest value.
    """

    steps: Tensor
    zeros: Tensor
    taken: Tensor

    def __init__(self, conv: Convolution, rounding: Rounding, steps: int = STEPS) -> None:
        super().__init__()
        self.conv = conv
        self.rounding = FeatureRounding(rounding, steps)
        self.axis = 1 if isinstance(conv, nn.ConvTranspose2d) else 0
        self.register_buffer("steps", weight_steps(conv.weight.detach(), self.axis))
        self.register_buffer("zeros", torch.zeros_like(self.steps, dtype=torch.int32))
        self.register_buffer("taken", torch.tensor([*rounding, steps]))  # what a digest of the network sees
        conv.weight = nn.Parameter(self._known_rounding(conv.weight.detach()), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            weight = self._known_rounding(weight)  # as compilers know it
        are_integers = x.dtype is torch.uint8
        features = self.rounding.of_integers(x) if are_integers else self.rounding.rounded(x)
        return _convolved(self.conv, features, weight)

    def as_nodes(self) -> nn.Module:
        """The same in nodes that runtimes of ONNX compute in integers; itself where 8 bits do not hold its features."""
        return IntegerNodes(self) if self.rounding.largest == STEPS else self

    def _known_rounding(self, weight: Tensor) -> Tensor:
        return torch.fake_quantize_per_channel_affine(
            weight, self.steps, self.zeros, self.axis, -_WEIGHT_STEPS, _WEIGHT_STEPS
        )


class IntegerNodes(nn.Module):
    """A quantised convolution as ONNX has it: QuantizeLinear and DequantizeLinear before a convolution of floats.

    Features around a zero in the middle become signed integers, others unsigned ones.
    """

    weight: Tensor
    steps: Tensor
    zeros: Tensor
    step: Tensor
    zero: Tensor

    def __init__(self, rounded: QuantisedConvolution) -> None:
        super().__init__()
        conv = rounded.conv
        shape = [1] * conv.weight.ndim
        shape[rounded.axis] = -1
        self.conv, self.axis = conv, rounded.axis
        self.register_buffer("weight", (conv.weight / rounded.steps.reshape(shape)).round().to(torch.int8))
        self.register_buffer("steps", rounded.steps)
        self.register_buffer("zeros", torch.zeros_like(rounded.steps, dtype=torch.int8))
        self.register_buffer("step", torch.tensor(rounded.rounding.step))
        middle = rounded.rounding.zero
        zero = torch.tensor(0, dtype=torch.int8) if middle == _MIDDLE else torch.tensor(middle, dtype=torch.uint8)
        self.register_buffer("zero", zero)
        del conv.weight

    def forward(self, x: Tensor) -> Tensor:
        integers = _node("QuantizeLinear", (x, self.step, self.zero), x.shape, self.zero.dtype)
        features = _node("DequantizeLinear", (integers, self.step, self.zero), x.shape)
        weight = _node("DequantizeLinear", (self.weight, self.steps, self.zeros), self.weight.shape, axis=self.axis)
        return _convolved(self.conv, features, weight)


def _node(
    name: str,
    inputs: tuple[Tensor, ...],
    shape: torch.Size,
    dtype: torch.dtype = torch.float32,
    axis: int | None = None,
) -> Tensor:
    return torch.onnx.ops.symbolic(name, inputs, {} if axis is None else {"axis": axis}, dtype=dtype, shape=shape)


def _convolved(conv: Convolution, features: Tensor, weight: Tensor) -> Tensor:
    if isinstance(conv, nn.ConvTranspose2d):
        padding = cast(tuple[int, int], conv.padding)
        return F.conv_transpose2d(features, weight, conv.bias, conv.stride, padding, conv.output_padding)
    return F.conv2d(features, weight, conv.bias, conv.stride, conv.padding)


def symmetric(roundings: Mapping[str, Rounding], config: GeneratorConfig) -> dict[str, Rounding]:
    """Roundings with 0 in the middle of the steps, as TensorRT needs them, of twice the step where it was not there.

    The first convolution stays as it is where it sees the image in more steps than 8 bits have.
    """
    return {
        name: rounding if _steps(config, name, rounding) != STEPS else (rounding[0] + (rounding[1] != _MIDDLE), _MIDDLE)
        for name, rounding in roundings.items()
    }


def weight_steps(weight: Tensor, axis: int) -> Tensor:
    """For each output channel the power of two with which its weights are rounded with the least square error."""
    rows = weight.transpose(0, axis).flatten(1)
    enough = torch.exp2(torch.ceil(torch.log2((rows.abs().amax(1) / _WEIGHT_STEPS).clamp_min(_SMALLEST))))
    candidates = torch.stack([enough, enough / 2])
    errors = torch.stack(
        [
            ((rows / step[:, None]).round().clamp(-_WEIGHT_STEPS, _WEIGHT_STEPS) * step[:, None] - rows).square().sum(1)
            for step in candidates
        ]
    )
    return candidates.gather(0, errors.argmin(0)[None])[0]


def quantise(network: Generator, roundings: Mapping[str, Rounding]) -> None:
    """Round the features and weights of a U-Net, in place.

    The network is in eval mode, and its norms are folded into convolutions.

    Raises
    ------
    SettingsError
        The roundings are not those of this network.
    """
    assert isinstance(network, UNet)
    if not are_roundings_of(network.config, roundings):
        raise SettingsError("the roundings for int8 are not those of the network; compile the model again")
    for name, parent in _parents(network, roundings):
        steps = _steps(network.config, name, roundings[name])
        parent.conv = QuantisedConvolution(_rewritten(_convolution(parent)), roundings[name], steps)


def is_in_8_bits(layer: nn.Module) -> bool:
    """Whether it is a convolution of integers of 8 bits, or a layer that rewrites one."""
    return any(isinstance(m, QuantisedConvolution) and m.rounding.largest == STEPS for m in layer.modules())


def rounding_of(layer: nn.Module) -> FeatureRounding:
    """That of a quantised convolution, or of the one in a layer that rewrites it."""
    convolution = layer if isinstance(layer, QuantisedConvolution) else cast(QuantisedConvolution, layer.conv)
    return convolution.rounding


def _convolution(parent: nn.Module) -> Convolution:
    return cast(Convolution, parent.conv)


def _rewritten(conv: Convolution) -> Convolution:
    return conv.as_transposed() if isinstance(conv, ResizeConvolution) else conv


class RangeSurvey:
    """Finds the roundings of a U-Net on images; its norms are folded into convolutions, and nothing is rounded yet."""

    def __init__(self, network: Generator) -> None:
        assert isinstance(network, UNet)
        self._network = network
        self._ends = {FIRST: (-1.0, 1.0)}  # other images may be brighter

    @torch.inference_mode()
    def add(self, image: Tensor) -> Tensor:
        """Look at an image (N, C, H, W) in [-1, 1]; its result."""
        parents = _parents(self._network, convolution_names(self._network.config))
        hooks = [_convolution(parent).register_forward_pre_hook(self._looking(name)) for name, parent in parents]
        try:
            return cast(Tensor, self._network(image))
        finally:
            for hook in hooks:
                hook.remove()

    def roundings(self) -> dict[str, Rounding]:
        """With the smallest steps that reach over all values that were seen.

        Raises
        ------
        SettingsError
            These are too large, or not finite.
        """
        found: dict[str, Rounding] = {}
        for name in convolution_names(self._network.config):
            steps = image_steps(self._network.config) if name == FIRST else STEPS
            low, high = self._ends[name]
            if not high - low < _LARGEST:
                raise SettingsError(
                    f"the values that the layer {name} of the model takes are too large for precision int8, or not "
                    "finite; choose fp32"
                )
            exponent = math.ceil(math.log2(max((high - low) / steps, _SMALLEST)))
            zero = min(steps, math.ceil(-low / 2.0**exponent))
            found[name] = exponent, zero
        return found

    def _looking(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            low, high = self._ends.get(name, (0.0, 0.0))
            least, most = (end.item() for end in given[0].aminmax())
            self._ends[name] = (min(low, least), max(high, most)) if least <= most else (math.nan, math.nan)

        return look
