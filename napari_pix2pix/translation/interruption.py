"""Ending a translation in the middle of a tile, or of a whole image, when a user asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


class Interrupted(Exception):  # noqa: N818 (it was asked for, so it is no error)
    """The work ends because it was asked to; there is nothing to report."""


class Interruption:
    """Asks before each stage of a network, and in PyTorch before each layer with weights, whether to go on."""

    def __init__(self, network: nn.Module) -> None:
        self._layers = [
            module for module in network.modules() if next(module.parameters(recurse=False), None) is not None
        ]
        self._is_asked_for: Callable[[], bool] = _never

    def check(self, *_: Any) -> None:
        """Raise `Interrupted` where the work is to end."""
        if self._is_asked_for():
            raise Interrupted

    @contextmanager
    def when(self, is_asked_for: Callable[[], bool]) -> Iterator[None]:
        """Within it, `is_asked_for` decides; it is called from whichever thread computes."""
        self._is_asked_for = is_asked_for
        hooks = [layer.register_forward_pre_hook(self.check) for layer in self._layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self._is_asked_for = _never


def _never() -> bool:
    return False
