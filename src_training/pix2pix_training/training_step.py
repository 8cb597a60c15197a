"""The two networks with their optimisers, and one step of training them, in the order of the paper (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from pix2pix_training.compiled import require_compiler
from pix2pix_training.config import TrainingConfig
from pix2pix_training.losses import discriminator_loss, generator_loss
from pix2pix_training.lower_precision import computing_in
from pix2pix_training.networks import Discriminator, build_generator, discriminator_channels, initialize_weights

_FUSED_ADAM = ("cpu", "cuda")
"""Devices whose fused Adam is used: one pass over weights, gradients and moments instead of one per operation."""


class TrainingStep:
    """Generator, discriminator (None for an objective without one) and their Adam optimisers, on one device.

    The weights are drawn from `config.seed`, which seeds torch.

    Parameters
    ----------
    dtype : what the networks compute in (`computing_in`); float16 with a loss scaler.

    Raises
    ------
    SettingsError
        The networks are to be compiled, which cannot be done here.
    """

    def __init__(self, config: TrainingConfig, device: torch.device, dtype: torch.dtype) -> None:
        torch.manual_seed(config.seed)
        self._objective = config.objective
        self._learning_rate = config.learning_rate
        self._device = device
        self._dtype = dtype
        self._betas = (config.beta1, config.beta2)
        self.generator = build_generator(config.generator)
        self.optimizer_g = self._prepare(self.generator)
        self.discriminator: Discriminator | None = None
        self.optimizer_d: torch.optim.Adam | None = None
        if config.objective.gan_mode != "none":
            seen = discriminator_channels(config.generator, conditional=config.objective.conditional)
            self.discriminator = Discriminator(seen, config.discriminator)
            self.optimizer_d = self._prepare(self.discriminator)
        self._scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
        self._translate: Callable[[Tensor], Tensor] = self.generator
        if config.compile:
            self._compile()

    def _compile(self) -> None:
        """For the one shape of a step; the weights, and what else is done with the networks, stay as they are."""
        require_compiler(self._device)
        self._translate = torch.compile(self.generator, dynamic=False)
        for scale in self.discriminator.scales if self.discriminator is not None else ():
            scale.compile(dynamic=False)

    def _prepare(self, network: nn.Module) -> torch.optim.Adam:
        initialize_weights(network)
        network.to(self._device).train()
        return torch.optim.Adam(
            network.parameters(),
            lr=self._learning_rate,
            betas=self._betas,
            fused=self._device.type in _FUSED_ADAM,
        )

    def run(self, source: Tensor, target: Tensor, valid: Tensor | None = None) -> dict[str, Tensor]:
        """One step: translate, improve the discriminator, then the generator against the improved discriminator.

        Parameters
        ----------
        source, target : (N, C, H, W) float32 in [-1, 1].
        valid : (N, 1, H, W) bool; pixels outside it teach neither network anything.

        Returns
        -------
        dict
            D_fake and D_real (where there is a discriminator), G_GAN, G_L1 with its weight, and G_FM, feature matching
            with its weight, where there is such a term; scalars on the device.
        """
        # The layout in which convolutions over large maps are fastest; their results keep it.
        source, target = (image.contiguous(memory_format=torch.channels_last) for image in (source, target))
        with self._computing():
            fake = self._translate(source).to(source.dtype)
        if valid is not None:
            fake = torch.where(valid, fake, target)
        losses = self._improve_discriminator(source, target, fake)
        return {**losses, **self._improve_generator(source, target, fake)}

    def _improve_discriminator(self, source: Tensor, target: Tensor, fake: Tensor) -> dict[str, Tensor]:
        if self.discriminator is None or self.optimizer_d is None:
            return {}
        self.discriminator.requires_grad_(True)
        with self._computing():
            loss = discriminator_loss(self.discriminator, source, target, fake, self._objective)
        self._descend(self.optimizer_d, loss.total)
        return {"D_fake": loss.fake.detach(), "D_real": loss.real.detach()}

    def _improve_generator(self, source: Tensor, target: Tensor, fake: Tensor) -> dict[str, Tensor]:
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
        with self._computing():
            loss = generator_loss(self.discriminator, source, target, fake, self._objective)
        self._descend(self.optimizer_g, loss.total)
        self._scaler.update()
        losses = {"G_GAN": loss.gan.detach(), "G_L1": loss.l1.detach()}
        if self._objective.feature_matching_weight > 0:
            losses["G_FM"] = loss.feature_matching.detach()
        return losses

    def _descend(self, optimizer: torch.optim.Adam, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(optimizer)

    def _computing(self) -> AbstractContextManager[Any]:
        return computing_in(self._dtype, self._device)

    def set_learning_rate(self, factor: float) -> None:
        """Set the rate of both optimisers to `factor` times the configured one."""
        for optimizer in (self.optimizer_g, self.optimizer_d):
            for group in optimizer.param_groups if optimizer else ():
                group["lr"] = self._learning_rate * factor

    def state(self) -> dict[str, Any]:
        """State_dicts of networks, optimisers and scaler, by name."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`, on this device whatever device it comes from."""
        for name, part in self._parts().items():
            part.load_state_dict(_on_this_kernel(state[name], part) if name.startswith("optimizer") else state[name])

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"generator": self.generator, "optimizer_g": self.optimizer_g, "scaler": self._scaler}
        if self.discriminator is not None:
            parts |= {"discriminator": self.discriminator, "optimizer_d": self.optimizer_d}
        return parts

    def first_non_finite(self) -> str | None:
        """Name of a weight of the generator that is not finite, or None."""
        for name, parameter in self.generator.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                return name
        return None


def _on_this_kernel(state: Mapping[str, Any], optimizer: torch.optim.Adam) -> dict[str, Any]:
    """The state of an optimiser without its choice of kernel, which belongs to the device that it was saved on."""
    groups = [
        {**saved, "fused": own["fused"]}
        for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {**state, "param_groups": groups}
