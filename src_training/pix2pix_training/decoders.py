"""The convolutions by which a U-Net's decoder doubles its resolution, and the ways around the transposed one's grid.

A transposed convolution of kernel 4 and stride 2 adds up other weights at even and at odd pixels, which shows as a
checkerboard (Odena, Dumoulin and Olah 2016). The others here treat both alike: the resize convolution always, the pixel
shuffle at initialisation. At a cut edge of a window all are the same: ``w`` rows of wrong features there make
``2 w + 1`` wrong rows of the output, so windows need the same halo.
"""

from __future__ import annotations

from typing import assert_never, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pix2pix_training.config import Decoder
from pix2pix_training.strided_convolution import DoublingConvTranspose2d


class ResizeConvolution(nn.Conv2d):
    """Nearest neighbours twice as large, then a 3x3 convolution.

    Computed as the transposed convolution that it equals, zero padding included. Two neighbouring taps fall on copies
    of one input pixel at every other place, so its kernel of 4 holds the sums of neighbours among 0, the three taps
    and 0. That takes 4 / 9 of the multiplications.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.conv_transpose2d(input, self.transposed_weight(), self.bias, 2, 1)

    def transposed_weight(self) -> Tensor:
        """(inputs, outputs, 4, 4)"""
        taps = F.pad(self.weight.flip(2, 3), (1, 1, 1, 1))
        by_rows = taps[:, :, 1:] + taps[:, :, :-1]
        return (by_rows[..., 1:] + by_rows[..., :-1]).transpose(0, 1)

    @torch.no_grad()
    def as_transposed(self) -> nn.ConvTranspose2d:
        """The same function as a layer that every compiler knows."""
        layer = nn.ConvTranspose2d(
            self.in_channels, self.out_channels, 4, 2, 1, bias=self.bias is not None, device=self.weight.device
        ).to(self.weight.dtype)
        layer.weight.copy_(self.transposed_weight())
        if layer.bias is not None:
            layer.bias.copy_(cast(Tensor, self.bias))
        return layer


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
