"""The convolutions by which a U-Net halves and doubles its resolution.

Those of 4 x 4 and stride 2 are computed in training on a CPU in the way that is fastest there. Over few cells a
convolution takes as long as moving its weights does, and those of PyTorch rearrange the weights before each forward and
backward pass, and their gradient after it. As one matrix product over columns (the 4 x 4 patches of the larger map, one
for each cell of the smaller) the same sums are formed with the weights as they lie in memory. Over many cells the
columns themselves cost more than that; there the features are laid out with channels last.

Where autocast computes in bfloat16, the products over the fewest cells stay float32: to round the weights and to widen
their gradient takes longer there than the product does.

A transposed convolution of kernel 4 and stride 2 adds up other weights at even and at odd pixels, which shows as a
checkerboard (Odena, Dumoulin and Olah 2016). The others that double treat both alike: the resize convolution always,
the pixel shuffle at initialisation. At a cut edge of a window all are the same: ``w`` rows of wrong features there make
``2 w + 1`` wrong rows of the output, so windows need the same halo.
"""

from __future__ import annotations

from typing import assert_never, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pix2pix_training.choices import Decoder

HALVING_CELLS = 256
DOUBLING_CELLS = 256
"""Cells of the smaller map, over the batch, up to which columns were measured to be faster."""
FLOAT32_CELLS = 16
"""Cells up to which a product in float32 was measured to be faster than in bfloat16, on a processor with AMX."""
KERNEL, STRIDE, PADDING = 4, 2, 1


class HalvingConv2d(nn.Conv2d):
    """Convolution from (N, C, 2h, 2w) to (N, D, h, w)."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, KERNEL, STRIDE, PADDING, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and x.device.type == "cpu"):
            return self._convolved(x)
        batch, _, height, width = x.shape
        rows, columns = height // STRIDE, width // STRIDE
        cells = batch * rows * columns
        if cells > HALVING_CELLS:
            return self._convolved(x.contiguous(memory_format=torch.channels_last))
        patches = F.unfold(x, KERNEL, padding=PADDING, stride=STRIDE).transpose(0, 1).flatten(1)
        y = _product(self.weight.flatten(1), patches, cells).view(-1, batch, rows, columns).transpose(0, 1)
        return (y if self.bias is None else y + self.bias[:, None, None]).to(x.dtype)

    def _convolved(self, x: Tensor) -> Tensor:
        """As PyTorch does it; on a CPU in float32 where the result is one column in lower precision.

        On processors with AMX, PyTorch 2.14 (oneDNN) leaves parts of a bfloat16 result unwritten where that is one
        column wide and many rows high.
        """
        lower = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if x.device.type != "cpu" or lower not in (torch.bfloat16, torch.float16) or x.shape[-1] // STRIDE != 1:
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            bias = None if self.bias is None else self.bias.float()
            return F.conv2d(x.float(), self.weight.float(), bias, STRIDE, PADDING).to(lower)


class DoublingConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution from (N, C, h, w) to (N, D, 2h, 2w)."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, KERNEL, STRIDE, PADDING, bias=bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if not (self.training and x.device.type == "cpu"):
            return super().forward(x, output_size)
        batch, _, height, width = x.shape
        cells = batch * height * width
        if cells > DOUBLING_CELLS:
            return super().forward(x.contiguous(memory_format=torch.channels_last), output_size)
        # Twice as fast over few cells as the product of the transposed weights and the features.
        patches = _product(x.transpose(0, 1).flatten(1).T, self.weight.flatten(1), cells).T
        patches = patches.view(-1, batch, height * width).transpose(0, 1)
        y = F.fold(patches, (STRIDE * height, STRIDE * width), KERNEL, padding=PADDING, stride=STRIDE)
        return (y if self.bias is None else y + self.bias[:, None, None]).to(x.dtype)


def _product(a: Tensor, b: Tensor, cells: int) -> Tensor:
    """Product of weights and features, in whatever order, of so many cells; float32 where they are few."""
    if cells > FLOAT32_CELLS or not torch.is_autocast_enabled(a.device.type):
        return a @ b
    with torch.autocast(a.device.type, enabled=False):
        return a.float() @ b.float()


class ResizeConvolution(nn.Conv2d):
    """Nearest neighbours twice as large, then a 3x3 convolution.

    Computed as the transposed convolution that it equals, zero padding included. Two neighbouring taps fall on copies
    of one input pixel at every other place, so its kernel of 4 holds the sums of neighbours among 0, the three taps
    and 0. That takes 4 / 9 of the multiplications.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.conv_transpose2d(input, transposed_weight(self.weight), self.bias, 2, 1)

    @torch.no_grad()
    def as_transposed(self) -> nn.ConvTranspose2d:
        """The same function as a layer that every compiler knows."""
        layer = nn.ConvTranspose2d(
            self.in_channels, self.out_channels, 4, 2, 1, bias=self.bias is not None, device=self.weight.device
        ).to(self.weight.dtype)
        layer.weight.copy_(transposed_weight(self.weight))
        if layer.bias is not None:
            layer.bias.copy_(cast(Tensor, self.bias))
        return layer


def transposed_weight(weight: Tensor) -> Tensor:
    """Of a resize convolution, (outputs, inputs, 3, 3), that of the transposed one: (inputs, outputs, 4, 4)."""
    taps = F.pad(weight.flip(2, 3), (1, 1, 1, 1))
    by_rows = taps[:, :, 1:] + taps[:, :, :-1]
    return (by_rows[..., 1:] + by_rows[..., :-1]).transpose(0, 1)


class ShuffleConvolution(nn.Conv2d):
    """A 1x1 convolution to four times the channels, which become 2x2 pixels (Shi 2016), then a 3x3 convolution."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__(outputs, outputs, 3, padding=1, bias=bias)
        self.expand = nn.Conv2d(inputs, 4 * outputs, 1, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pixel_shuffle(self.expand(input), 2))

    @torch.no_grad()
    def initialize_expansion(self, generator: torch.Generator | None = None) -> None:
        """Equal weights for the four pixels of a cell, so that there is no grid at first (ICNR, Aitken 2017)."""
        shared = torch.empty_like(self.expand.weight[::4])
        nn.init.kaiming_normal_(shared, nonlinearity="relu", generator=generator)
        self.expand.weight.copy_(shared.repeat_interleave(4, 0))


def doubling_convolution(decoder: Decoder, inputs: int, outputs: int, *, bias: bool) -> nn.Conv2d | nn.ConvTranspose2d:
    """(N, inputs, H, W) -> (N, outputs, 2 H, 2 W)"""
    match decoder:
        case "transposed":
            return DoublingConvTranspose2d(inputs, outputs, bias=bias)
        case "resize":
            return ResizeConvolution(inputs, outputs, bias=bias)
        case "pixel-shuffle":
            return ShuffleConvolution(inputs, outputs, bias=bias)
        case _:
            assert_never(decoder)
