"""The two networks with their optimisers, what they start from, and one step of training them.

The order of a step is that of the paper (section 3.3).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from pix2pix_training.adaptive_augmentation import AdaptiveAugmentation
from pix2pix_training.config import TrainingConfig
from pix2pix_training.device import computing_in
from pix2pix_training.distributed import ALONE, Group, share_layers
from pix2pix_training.errors import SettingsError
from pix2pix_training.losses import discriminator_loss, generator_loss
from pix2pix_training.model_file import Model, TrainedDiscriminator
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.networks import (
    Discriminator,
    Generator,
    build_generator,
    discriminator_channels,
    initialize_weights,
)
from pix2pix_training.reconstruction import reconstruction_losses
from pix2pix_training.tolerance import fitting_target

log = logging.getLogger(__name__)

_FUSED_ADAM = ("cpu", "cuda")
"""Devices whose fused Adam is used: one pass over weights, gradients and moments instead of one per operation."""


class TrainingStep:
    """Generator, discriminator (None for an objective without one) and their Adam optimisers, on one device.

    The weights are drawn from `config.seed`, which seeds torch.

    Parameters
    ----------
    dtype : what the networks compute in (`computing_in`); float16 with a loss scaler.
    group : processes that train the same networks, each on its own patches.

    Raises
    ------
    SettingsError
        The networks are to be compiled, which cannot be done here.
    """

    def __init__(self, config: TrainingConfig, device: torch.device, dtype: torch.dtype, group: Group = ALONE) -> None:
        torch.manual_seed(config.seed)
        self._config = config
        self._objective = config.objective
        self._learning_rate = config.learning_rate
        self._device = device
        self._dtype = dtype
        self._group = group
        self._betas = (config.beta1, config.beta2)
        self.generator = build_generator(config.generator)
        self.optimizer_g = self._prepare(self.generator)
        self.discriminator: Discriminator | None = None
        self.optimizer_d: torch.optim.Adam | None = None
        if config.objective.is_adversarial:
            seen = discriminator_channels(config.generator, conditional=config.objective.conditional)
            self.discriminator = Discriminator(seen, config.discriminator)
            self.optimizer_d = self._prepare(self.discriminator)
        self._varied: AdaptiveAugmentation | None = None
        if config.augmentation.adaptive:
            goal, mode = config.augmentation.adaptive, config.objective.gan_mode
            self._varied = AdaptiveAugmentation(goal, mode, device, group)
        self._scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
        self._translate: Callable[[Tensor], Tensor] = self.generator
        if config.compile:
            self._compile()

    def _compile(self) -> None:
        """For the one shape of a step; the weights, and what else is done with the networks, stay as they are."""
        _require_compiler(self._device)
        self._translate = torch.compile(self.generator, dynamic=False)
        for scale in self.discriminator.scales if self.discriminator is not None else ():
            scale.compile(dynamic=False)

    def _prepare(self, network: nn.Module) -> torch.optim.Adam:
        initialize_weights(network)
        share_layers(network, self._group)
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
            D_fake, D_real and G_GAN (where there is a discriminator), G_L1 with its weight, and G_FM, feature matching
            with its weight, and the `reconstruction_losses`, where there are such terms; D_varied, the probability of
            `AdaptiveAugmentation`, where that is on; scalars on the device, of
            the patches of this process.
        """
        # The layout in which convolutions over large maps are fastest; their results keep it.
        source, target = (image.contiguous(memory_format=torch.channels_last) for image in (source, target))
        with self._computing():
            fake = self._translate(source).to(source.dtype)
        if self._objective.tolerance:
            target, valid = fitting_target(fake, target, valid, self._objective.tolerance)
        if valid is not None:
            fake = torch.where(valid, fake, target)
        losses = self._improve_discriminator(source, target, fake)
        return {**losses, **self._improve_generator(source, target, fake)}

    def run_on_noise(self, batch_size: int, patch_size: int) -> dict[str, Tensor]:
        """One step on images of no meaning, to see what it takes; it spoils the networks."""
        channels = (self._config.generator.source_channels, self._config.generator.target_channels)
        source, target = (
            torch.rand(batch_size, count, patch_size, patch_size, device=self._device) * 2 - 1 for count in channels
        )
        return self.run(source, target)

    def _improve_discriminator(self, source: Tensor, target: Tensor, fake: Tensor) -> dict[str, Tensor]:
        if self.discriminator is None or self.optimizer_d is None:
            return {}
        self.discriminator.requires_grad_(True)
        with self._computing():
            loss = discriminator_loss(
                self.discriminator, source, target, fake, self._objective, self._varied, self._group
            )
        self._descend(self.optimizer_d, loss.total)
        losses = {"D_fake": loss.fake.detach(), "D_real": loss.real.detach()}
        if self._varied is not None:
            self._varied.learn(loss.logits_of_real)
            losses["D_varied"] = self._varied.probability.clone()
        return losses

    def _improve_generator(self, source: Tensor, target: Tensor, fake: Tensor) -> dict[str, Tensor]:
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
        with self._computing():
            loss = generator_loss(self.discriminator, source, target, fake, self._objective, self._varied, self._group)
        further = reconstruction_losses(fake, target, self._objective, self._group)
        self._descend(self.optimizer_g, sum(further.values(), loss.total))
        self._scaler.update()
        losses = {"G_L1": loss.l1.detach()}
        if self.discriminator is not None:
            losses = {"G_GAN": loss.gan.detach(), **losses}
        if self._objective.feature_matching_weight > 0:
            losses["G_FM"] = loss.feature_matching.detach()
        return losses | {name: term.detach() for name, term in further.items()}

    def _descend(self, optimizer: torch.optim.Adam, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        weights = [weight for part in optimizer.param_groups for weight in part["params"]]
        self._group.mean_([weight.grad for weight in weights if weight.grad is not None])
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
        if self._varied is not None:
            parts["varied"] = self._varied
        return parts

    def first_non_finite(self) -> str | None:
        """Name of a weight of the networks that is not finite, or None."""
        named = dict(self.generator.named_parameters())
        if self.discriminator is not None:
            named |= self.discriminator.named_parameters(prefix="discriminator")
        return next((name for name, weight in named.items() if not bool(torch.isfinite(weight).all())), None)

    def trained_discriminator(self) -> TrainedDiscriminator | None:
        """What a model file carries along for further training; its weights are those of the run, not copies."""
        if self.discriminator is None:
            return None
        return TrainedDiscriminator(
            config=self._config.discriminator,
            conditional=self._objective.conditional,
            weights=self.discriminator.state_dict(),
        )

    def start_from(self, model: Model) -> None:
        """Load the weights of a model, and those of its discriminator where it carries one like that of the run.

        Where it has been made for images of other numbers of channels, its first or last layer starts from the mean
        over them, and that is said.

        Raises
        ------
        SettingsError
            The generators differ otherwise.
        """
        own = self._config.generator
        channels = {name: getattr(own, name) for name in ("source_channels", "target_channels")}
        if other := _differences(replace(model.generator_config, **channels), own):
            raise SettingsError(f"the model to start from has another generator ({other}); train with the same one")
        self.generator.load_state_dict(_of_as_many_channels(model, self.generator.state_dict()))
        if adapted := _differences(model.generator_config, own):
            log.warning("the layers of other channels start from the mean of the model's: %s", adapted)
        if model.discriminator is None or self.discriminator is None:
            return
        other = _differences(model.discriminator.config, self._config.discriminator) or adapted
        if model.discriminator.conditional != self._objective.conditional:
            other = f"conditional {model.discriminator.conditional} in the model, {self._objective.conditional} asked"
        if other:
            log.warning("the model to start from has another discriminator (%s), so that of the run starts anew", other)
        else:
            self.discriminator.load_state_dict(model.discriminator.weights)


def _of_as_many_channels(model: Model, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the shapes of `wanted`, whose first entry belongs to the layer that sees the image.

    The mean takes the place of channels of another number; those that are summed keep their sum.
    """
    first = next(iter(wanted))
    adapted = {}
    for name, like in wanted.items():
        weight = saved = model.weights[name]
        channels = model.generator_config.source_channels if name == first else model.generator_config.target_channels
        for axis, (before, now) in enumerate(zip(saved.shape, like.shape, strict=True)):
            if before == now:
                continue
            cells = before // channels  # four of a pixel shuffle
            mean = weight.reshape(*weight.shape[:axis], channels, cells, *weight.shape[axis + 1 :]).mean(axis)
            weight = torch.cat([mean] * (now // cells), axis)
            if axis == 1 and (name == first or len(saved) != len(like)):
                weight = weight * (before / now)
        adapted[name] = weight
    return adapted


def settings_of(model: Model) -> dict[str, Any]:
    """What a run shares with the model that it starts from, as nested entries of a `TrainingConfig`."""
    settings: dict[str, Any] = {"generator": asdict(model.generator_config), "inference": asdict(model.inference)}
    if model.discriminator is not None:
        settings["discriminator"] = asdict(model.discriminator.config)
        settings["objective"] = {"conditional": model.discriminator.conditional}
    return settings


def _differences(found: GeneratorConfig | DiscriminatorConfig, asked: GeneratorConfig | DiscriminatorConfig) -> str:
    """Entries of two networks' shapes that differ, in words; "" where none does."""
    wanted = asdict(asked)
    return ", ".join(
        f"{name} {value} in the model, {wanted[name]} asked"
        for name, value in asdict(found).items()
        if value != wanted[name]
    )


def _require_compiler(device: torch.device) -> None:
    """Compile and run a trivial function: it fails where PyTorch's compiler lacks a C++ compiler, or Triton."""
    try:
        torch.compile(_probe, dynamic=False)(torch.zeros(8, device=device))
    except Exception as error:  # whatever PyTorch, its code generator or the compiler raise
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        needed = "a C++ compiler such as g++" if device.type == "cpu" else "the package triton"
        raise SettingsError(
            f"torch.compile does not work here: {reason.strip()}; install {needed}, or train without compile"
        ) from error


def _probe(x: Tensor) -> Tensor:
    return x.sin() + 1


def _on_this_kernel(state: Mapping[str, Any], optimizer: torch.optim.Adam) -> dict[str, Any]:
    """The state of an optimiser without its choice of kernel, which belongs to the device that it was saved on."""
    groups = [
        {**saved, "fused": own["fused"]}
        for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {**state, "param_groups": groups}


class WeightAverage:
    """Exponential moving average ``average <- d * average + (1 - d) * weight``, kept as a generator of its own.

    ``d = min(decay, (1 + step) / (10 + step))``, so that the average of a short run is not one of the weights that it
    started with. The running statistics of norms are averaged alike: those of the last step belong to the weights of
    that step, and the longer the average, the less they fit it. Counters are those of the generator.
    """

    def __init__(self, generator: Generator, decay: float) -> None:
        self.generator = copy.deepcopy(generator).requires_grad_(False)
        self._decay = decay
        self._averages, self._average_counters = _floats_and_counters(self.generator)
        self._values, self._counters = _floats_and_counters(generator)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._values, 1 - decay)
        if self._counters:
            torch._foreach_copy_(self._average_counters, self._counters)

    def state(self) -> dict[str, Tensor]:
        return self.generator.state_dict()

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.generator.load_state_dict(state)


def _floats_and_counters(generator: Generator) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and running statistics, and what is counted in integers."""
    tensors = [*generator.parameters(), *generator.buffers()]
    return [t for t in tensors if t.is_floating_point()], [t for t in tensors if not t.is_floating_point()]
