"""Norms on the statistics of a whole image that is only ever seen in parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor

from napari_pix2pix.translation.moments import Moments
from pix2pix_training.layers import StatisticsNorm
from pix2pix_training.networks import UNet
from pix2pix_training.regions import Region
from pix2pix_training.stages import decoder_norm, encoder_norm, scale_and_shift


class GatheredNorms:
    """Scale and shift of a network's norms for one image, found from the raw features that pass by.

    Parameters
    ----------
    known : those that were found before.

    Attributes
    ----------
    inputs : by name of the stages' input; see `pix2pix_training.stages`.
    """

    def __init__(self, network: UNet, known: Mapping[str, Tensor] | None = None) -> None:
        levels = range(1, network.depth + 1)
        norms = {encoder_norm(k): network.down_block(k).norm for k in levels}
        norms |= {decoder_norm(k): network.up_block(k).norm for k in levels}
        self._wanted = {
            name: norm
            for name, norm in norms.items()
            if isinstance(norm, StatisticsNorm) and not norm.uses_running_statistics
        }
        self.inputs: dict[str, Tensor] = dict(known or {})

    @property
    def any_wanted(self) -> bool:
        return bool(self._wanted)

    @property
    def is_complete(self) -> bool:
        return self._wanted.keys() <= self.inputs.keys()

    def wants(self, name: str) -> bool:
        """Whether a norm uses the statistics of the image, and has them not yet."""
        return name in self._wanted and name not in self.inputs

    def watch(self, name: str, raws: Iterable[tuple[Region, Tensor]]) -> Iterator[tuple[Region, Tensor]]:
        """Pass raw features (1, C, h, w) on; after the last of them the norm is known, if it is one of those wanted."""
        if not self.wants(name):
            yield from raws
            return
        moments = Moments()
        for region, raw in raws:
            moments.add(raw)
            yield region, raw
        self.inputs[name] = scale_and_shift(self._wanted[name], *moments.result())

    def gather(self, name: str, raws: Iterable[tuple[Region, Tensor]]) -> None:
        """Take raw features only for their statistics."""
        for _ in self.watch(name, raws):
            pass
