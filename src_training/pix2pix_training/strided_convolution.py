"""The 4 x 4 convolutions of stride 2 of a U-Net, computed in training on a CPU in the way that is fastest there.

Over few cells a convolution takes as long as moving its weights does, and those of PyTorch rearrange the weights before
each forward and backward pass, and their gradient after it. As one matrix product over columns (the 4 x 4 patches of
the larger map, one for each cell of the smaller) the same sums are formed with the weights as they lie in memory. Over
many cells the columns themselves cost more than that; there the features are laid out with channels last.

Where autocast computes in bfloat16, the products over the fewest cells stay float32: to round the weights and to widen
their gradient takes longer there than the product does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
