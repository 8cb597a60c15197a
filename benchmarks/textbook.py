"""pix2pix written a second time, as plainly as possible and apart from the package, to compare with.

Modules nest as in the PyTorch reference implementation, so its names of weights apply.
"""

from __future__ import annotations

from collections.abc import Container
from typing import cast

import torch
from torch import Tensor, nn


class NestedBlock(nn.Module):
    """One level of a U-Net around the level below it."""

    def __init__(
        self,
        outer: int,
        inner: int,
        inputs: int,
        below: nn.Module | None,
        *,
        outermost: bool = False,
        instance: bool = False,
        normless: bool = False,
        dropout: bool = False,
    ) -> None:
        super().__init__()

        def norm(channels: int) -> nn.Module:
            if normless:
                return nn.Identity()
            return nn.InstanceNorm2d(channels) if instance else nn.BatchNorm2d(channels)

        down = nn.Conv2d(inputs, inner, 4, 2, 1, bias=instance)
        if outermost:
            up = nn.ConvTranspose2d(inner * 2, outer, 4, 2, 1)
            layers = [down, cast(nn.Module, below), nn.ReLU(), up, nn.Tanh()]
        elif below is None:
            up = nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=instance)
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, norm(outer)]
        else:
            up = nn.ConvTranspose2d(inner * 2, outer, 4, 2, 1, bias=instance)
            layers = [nn.LeakyReLU(0.2), down, norm(inner), below, nn.ReLU(), up, norm(outer)]
        if dropout:
            layers.append(nn.Dropout(0.5))
        self.outermost = outermost
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y = cast(Tensor, self.model(x))
        return y if self.outermost else torch.cat([x, y], 1)


class NestedUNet(nn.Module):
    """U-Net of `depth` levels, numbered from 1, with dropout on the way up from the levels of `noisy`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        *,
        instance: bool = False,
        normless: bool = False,
        noisy: Container[int] = (),
    ) -> None:
        super().__init__()
        widths = [width * min(2**k, 8) for k in range(depth)]
        block: NestedBlock | None = None
        for level in range(depth - 1, 0, -1):
            block = NestedBlock(
                widths[level - 1],
                widths[level],
                widths[level - 1],
                block,
                instance=instance,
                normless=normless,
                dropout=level + 1 in noisy,
            )
        self.model = NestedBlock(
            outputs, widths[0], inputs, block, outermost=True, instance=instance, normless=normless
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.model(x))


def patchgan(channels: int, width: int) -> nn.Sequential:
    """The 70 x 70 PatchGAN."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, width * 2, 4, 2, 1, bias=False),
        nn.BatchNorm2d(width * 2),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width * 2, width * 4, 4, 2, 1, bias=False),
        nn.BatchNorm2d(width * 4),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width * 4, width * 8, 4, 1, 1, bias=False),
        nn.BatchNorm2d(width * 8),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width * 8, 1, 4, 1, 1),
    )


class TextbookTraining:
    """The loop of the paper with vanilla GAN loss and L1 weight 100, one step at a time.

    The discriminator is frozen while the generator learns, as in the reference. `dtype` other than float32 by autocast.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.dtype = dtype
        self.adam_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.adam_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))

    def step(self, x: Tensor, y: Tensor) -> dict[str, float]:
        bce = nn.BCEWithLogitsLoss()
        autocast = torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32)
        with autocast:
            fake = self.generator(x)
        self.discriminator.requires_grad_(True)
        self.adam_d.zero_grad()
        with autocast:
            on_fake = self.discriminator(torch.cat([x, fake.detach()], 1))
            d_fake = bce(on_fake, torch.zeros_like(on_fake))
            on_real = self.discriminator(torch.cat([x, y], 1))
            d_real = bce(on_real, torch.ones_like(on_real))
        ((d_fake + d_real) * 0.5).backward()
        self.adam_d.step()
        self.discriminator.requires_grad_(False)
        self.adam_g.zero_grad()
        with autocast:
            judged = self.discriminator(torch.cat([x, fake], 1))
            g_gan = bce(judged, torch.ones_like(judged))
            g_l1 = 100 * (y - fake).abs().mean()
        (g_gan + g_l1).backward()
        self.adam_g.step()
        return {"D_fake": d_fake.item(), "D_real": d_real.item(), "G_GAN": g_gan.item(), "G_L1": g_l1.item()}
