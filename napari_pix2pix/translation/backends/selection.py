"""Which backend runs a translation, and why."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_pix2pix.translation.backends import openvino_backend
from napari_pix2pix.translation.backends.stage_runner import StageRunner
from napari_pix2pix.translation.backends.torch_backend import TorchRunner
from napari_pix2pix.translation.settings import Backend
from pix2pix_training.config import Precision
from pix2pix_training.errors import BackendError, EngineError, SettingsError
from pix2pix_training.networks import Generator
from pix2pix_training.stages import StageSpec
from pix2pix_trt.engine import EnginePrecision
from pix2pix_trt.flavours import Flavour, availability

logger = logging.getLogger(__name__)

COMPILING_PAYS_MACS = 5e11
"""With less arithmetic than this, PyTorch on a CPU is done before OpenVINO has compiled; an estimate."""

_FLAVOURS: tuple[Flavour, ...] = ("tensorrt", "tensorrt-rtx")


@dataclass(frozen=True, kw_only=True)
class BackendChoice:
    """The backend to use and the reason, in words; `alternative` where PyTorch takes over if it fails."""

    name: Backend
    reason: str
    alternative: bool = False


def unavailable_reasons() -> dict[str, str | None]:
    """For each backend why it cannot run on this machine, in one line; None where it can."""
    reasons: dict[str, str | None] = {"torch": None, "openvino": openvino_backend.unavailable_reason()}
    return reasons | {flavour: availability(flavour) for flavour in _FLAVOURS}


def choose_backend(asked: Backend, device: torch.device, macs: float) -> BackendChoice:
    """The backend for a translation of `macs` multiply-accumulates on `device`; the same for the same image.

    Raises
    ------
    BackendError
        The backend that was asked for cannot run on this machine.
    SettingsError
        It cannot run on this device.
    """
    if asked != "auto":
        _require(asked, device)
        return BackendChoice(name=asked, reason="asked for")
    if device.type == "cuda":
        for flavour in _FLAVOURS:
            if availability(flavour) is None:
                return BackendChoice(name=flavour, reason="a GPU that it can use", alternative=True)
        return BackendChoice(name="torch", reason=f"on the GPU; {availability('tensorrt')}")
    if device.type != "cpu":
        return BackendChoice(name="torch", reason=f"the only one for device {device}")
    reason = openvino_backend.unavailable_reason()
    if reason is not None:
        return BackendChoice(name="torch", reason=reason)
    if macs < COMPILING_PAYS_MACS:
        return BackendChoice(name="torch", reason="the image is too small for compiling to pay")
    return BackendChoice(name="openvino", reason="the fastest on this CPU", alternative=True)


def _require(asked: Backend, device: torch.device) -> None:
    reason = unavailable_reasons()[asked]
    if reason is not None:
        raise BackendError(reason)
    needed = {"openvino": "cpu", "tensorrt": "cuda", "tensorrt-rtx": "cuda"}.get(asked, device.type)
    if device.type != needed:
        raise SettingsError(f"backend {asked} runs on device {needed}, not on {device}; choose --device {needed}")


def make_runner(choice: BackendChoice, network: Generator, precision: Precision, dtype: torch.dtype) -> StageRunner:
    """A runner for a network that lies on the device to run on.

    Parameters
    ----------
    precision, dtype : as asked for, and as resolved for that device.
    """
    if choice.name == "torch":
        return TorchRunner(network, dtype)
    runner = _compiled_runner(choice.name, network, precision, dtype)
    return RunnerWithAlternative(runner, TorchRunner(network, dtype)) if choice.alternative else runner


def _compiled_runner(name: Backend, network: Generator, precision: Precision, dtype: torch.dtype) -> StageRunner:
    if name == "openvino":
        return openvino_backend.OpenVinoRunner(network, "fp32" if dtype is torch.float32 else "bf16")
    from napari_pix2pix.translation.backends.tensorrt_backend import TensorRtRunner

    precisions: tuple[EnginePrecision, ...] = ("fp16", "fp32") if precision == "auto" else (precision,)
    return TensorRtRunner("tensorrt" if name == "tensorrt" else "tensorrt-rtx", network, precisions)


class RunnerWithAlternative:
    """A compiled runner, until it fails or gives other numbers than PyTorch: then another one, for good."""

    def __init__(self, first: StageRunner, alternative: StageRunner) -> None:
        self._runner = first
        self._alternative = alternative
        self.device = first.device
        self.dtype = first.dtype

    @property
    def name(self) -> str:
        return self._runner.name

    def run(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        if self._runner is not self._alternative:
            try:
                return self._runner.run(spec, inputs)
            except (BackendError, EngineError) as error:
                logger.warning("%s is given up, %s goes on: %s", self.name, self._alternative.name, error)
                self._runner = self._alternative
        return self._alternative.run(spec, inputs)
