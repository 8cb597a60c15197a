"""Ending a translation in the middle of a tile, or of a whole image, when a user asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pix2pix_training.cancel import Cancel

if TYPE_CHECKING:
    from torch import nn


class Interruption:
    """Looks at a `Cancel` before each stage of a network, and in PyTorch before each layer with weights."""

    def __init__(self, network: nn.Module) -> None:
        self._layers = [
            module for module in network.modules() if next(module.parameters(recurse=False), None) is not None
        ]
        self.cancel = Cancel()

    def check(self, *_: Any) -> None:
        """Raise `Interrupted` where the work is to end."""
        self.cancel.check()

    @contextmanager
    def when(self, cancel: Cancel) -> Iterator[None]:
        """Within it, `cancel` decides; it is looked at from whichever thread computes."""
        self.cancel = cancel
        hooks = [layer.register_forward_pre_hook(self.check) for layer in self._layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self.cancel = Cancel()
