"""The troubles that training runs are known for, in words: what is seen, and what to try."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median

import torch
from torch import Tensor

from pix2pix_training.choices import GanMode
from pix2pix_training.config import ObjectiveConfig, TrainingConfig
from pix2pix_training.device import is_out_of_memory
from pix2pix_training.errors import TrainingError

_COLLAPSED_SPREAD = 1e-3
_MODES_WITH_ZERO: tuple[GanMode, ...] = ("vanilla", "lsgan", "hinge")
_ZERO_LOSS = 0.01
_LONG_STEPS = 500
_TOO_MUCH_DETAIL = 1.5


def collapse(output: Tensor, target: Tensor) -> str | None:
    """What to say of an output that is almost constant where its target, of the same range [-1, 1], is not."""
    if not float(output.std()) < _COLLAPSED_SPREAD < float(target.std()):
        return None
    return (
        "the output is almost constant; if this stays so, try a lower --learning-rate or another --gan-mode, or check "
        "that source and target belong together"
    )


def added_texture(detail: Sequence[float], objective: ObjectiveConfig) -> str | None:
    """What to say of a trained generator whose results, by their `detail_ratio`, have more detail than their targets.

    Only an adversary can have asked for it.
    """
    if not objective.is_adversarial or not detail or (ratio := median(detail)) < _TOO_MUCH_DETAIL:
        return None
    return (
        f"at periods below 4 pixels the results have {ratio:.1f} times the power of their targets: the adversarial "
        "loss adds texture, noise or a grid that is not there. Where results are measured, train with --preset "
        "faithful, or with a smaller --gan-weight"
    )


class DiscriminatorWatch:
    """Notices, once, that a discriminator has been at zero loss for hundreds of steps.

    The loss of a critic (wgangp) has no zero, so nothing is said of it.
    """

    def __init__(self, objective: ObjectiveConfig) -> None:
        self._is_done = not (objective.is_adversarial and objective.gan_mode in _MODES_WITH_ZERO)
        self._since: int | None = None

    def warning(self, step: int, losses: Mapping[str, float]) -> str | None:
        """What to say after `step`, whose `losses` have D_fake and D_real; losses of some steps suffice."""
        if self._is_done:
            return None
        if (losses["D_fake"] + losses["D_real"]) / 2 >= _ZERO_LOSS:
            self._since = None
            return None
        if self._since is None:
            self._since = step
        if step - self._since < _LONG_STEPS:
            return None
        self._is_done = True
        return (
            f"the discriminator has been at zero loss since step {self._since}: it knows every translation from a real "
            "target, so it can hardly guide the generator. If the previews do not get better, try a smaller "
            "discriminator (--discriminator-layers, --discriminator-base-width), --gan-mode lsgan, or a lower "
            "--learning-rate, and check that source and target are aligned"
        )


def size_that_fits(config: TrainingConfig, run: Callable[[int, int], object]) -> tuple[int, int] | None:
    """The first batch and patch size below those of `config` at which `run` has memory enough; None if there is none.

    Tried with half as many patches each time, then with patches of half the size, as far as the networks allow.
    """
    return next((size for size in _smaller_sizes(config) if _runs(run, *size)), None)


def advice_on_size(fitting: tuple[int, int] | None) -> str:
    """What to do after running out of memory, where batch and patch of size `fitting` did not."""
    if fitting is None:
        return (
            "no smaller batch or patch fits either; try a smaller --base-width, or --precision bf16, or end other "
            "programs on the device"
        )
    return f"--batch-size {fitting[0]} with --patch-size {fitting[1]} fits"


def _smaller_sizes(config: TrainingConfig) -> Iterator[tuple[int, int]]:
    batch_size, patch_size, stride = config.batch_size, config.patch_size, config.generator.stride
    smallest = max(2 * stride, config.smallest_seen)
    while batch_size > 1:
        batch_size //= 2
        yield batch_size, patch_size
    while (patch_size := patch_size // 2 // stride * stride) >= smallest:
        yield batch_size, patch_size


def _runs(run: Callable[[int, int], object], batch_size: int, patch_size: int) -> bool:
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
    try:
        run(batch_size, patch_size)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return False
        raise
    return True


@contextmanager
def memory_errors_in_words(device: torch.device) -> Iterator[None]:
    """Outside of a step, which knows what would fit."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"out of memory on {device} outside of a training step: try a smaller --base-width, --depth or "
            "--patch-size, or end other programs"
        ) from None
