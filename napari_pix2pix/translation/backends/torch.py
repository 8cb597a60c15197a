"""Stages in PyTorch itself, on any device that it knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from napari_pix2pix.translation.backends.stage_runner import precision_name
from pix2pix_training.device import computing_in
from pix2pix_training.networks import Generator
from pix2pix_training.stages import Stage, StageSpec


class TorchRunner:
    """Runs stages eagerly, with convolutions in `precision`.

    Parameters
    ----------
    network : in eval mode, on the device to run on; its weights are used as they are, and in their memory format.
    """

    name = "torch"

    def __init__(self, network: Generator, precision: torch.dtype | None = None) -> None:
        parameter = next(network.parameters())
        self.device = parameter.device
        self.dtype = parameter.dtype
        self._precision = precision or self.dtype
        self._network = network
        self._stages: dict[StageSpec, Stage] = {}

    @property
    def precision(self) -> str:
        return precision_name(self._precision)

    def run(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        stage = self._stages.get(spec)
        if stage is None:
            stage = self._stages[spec] = Stage(self._network, spec)
        with computing_in(self._precision, self.device):
            return cast(Tensor, stage(*(inputs[name] for name in stage.input_names)))
