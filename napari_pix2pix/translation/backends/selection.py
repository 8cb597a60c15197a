"""Which backend runs a translation, and why."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from napari_pix2pix.translation.backends import openvino_runner
from napari_pix2pix.translation.backends.cache import model_key
from napari_pix2pix.translation.backends.openvino_runner import OpenVinoPrecision
from napari_pix2pix.translation.backends.speeds import Speeds
from napari_pix2pix.translation.backends.stage_runner import StageRunner, TorchRunner
from napari_pix2pix.translation.plan import BackendChoice
from napari_pix2pix.translation.settings import Backend
from pix2pix_training.choices import TranslationPrecision
from pix2pix_training.errors import BackendError, EngineError, EngineFileError, SettingsError
from pix2pix_training.networks import Generator
from pix2pix_training.stages import StageSpec
from pix2pix_trt.engine_folder import EngineFolder, PreparedEngines
from pix2pix_trt.flavours import EnginePrecision, Flavour, availability

logger = logging.getLogger(__name__)

MEASURING_PAYS_MACS = 5e11
"""With less arithmetic than this, PyTorch on a CPU is done before OpenVINO has compiled; an estimate."""

_FLAVOURS: tuple[Flavour, ...] = ("tensorrt", "tensorrt-rtx")
_PRECISIONS: tuple[EnginePrecision, ...] = ("fp16", "fp32")


def unavailable_reasons() -> dict[str, str | None]:
    """For each backend why it cannot run on this machine, in one line; None where it can."""
    names: tuple[Backend, ...] = ("torch", "openvino", *_FLAVOURS)
    return {name: _unavailable_reason(name) for name in names}


def _unavailable_reason(name: Backend) -> str | None:
    """Loads the libraries of this backend, and no others."""
    match name:
        case "openvino":
            return openvino_runner.unavailable_reason()
        case "tensorrt" | "tensorrt-rtx":
            return availability(name)
        case _:
            return None


def choose_backend(
    asked: Backend,
    device: torch.device,
    macs: float,
    dtype: torch.dtype = torch.float32,
    speeds: Callable[[], Speeds] | None = None,
) -> BackendChoice:
    """The backend for `macs` multiply-accumulates in `dtype` on `device`.

    Parameters
    ----------
    macs : of the image and of those that were translated before it, for which compiling pays too.
    speeds : finds how fast both are on a CPU; needed for "auto" alone.

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
        reasons = dict.fromkeys(str(availability(flavour)) for flavour in _FLAVOURS)
        return BackendChoice(name="torch", reason=f"on the GPU; {'; '.join(reasons)}")
    if device.type != "cpu":
        return BackendChoice(name="torch", reason=f"the only one for device {device}")
    reason = openvino_runner.unavailable_reason()
    if reason is not None:
        return BackendChoice(name="torch", reason=reason)
    if dtype is not torch.float32:
        # docs/measurements/performance.md
        return BackendChoice(name="torch", reason="faster than OpenVINO in half precision")
    if macs < MEASURING_PAYS_MACS:
        return BackendChoice(name="torch", reason="the image is too small for compiling to pay")
    assert speeds is not None
    return _sooner_done(speeds(), macs)


def _sooner_done(speeds: Speeds, macs: float) -> BackendChoice:
    if speeds.openvino is None:
        return BackendChoice(name="torch", reason="the image is too small for trying OpenVINO to pay")
    measured = f"OpenVINO ran at {speeds.openvino / speeds.torch:.2f} times the speed of PyTorch here"
    if speeds.seconds_won(macs) > 0:
        return BackendChoice(name="openvino", reason=measured, alternative=True)
    if speeds.openvino > speeds.torch:
        measured += ", too little for this image to make up for its start"
    return BackendChoice(name="torch", reason=measured if speeds.openvino else "OpenVINO failed when it was tried")


def _require(asked: Backend, device: torch.device) -> None:
    reason = _unavailable_reason(asked)
    if reason is not None:
        raise BackendError(reason)
    needed = {"openvino": "cpu", "tensorrt": "cuda", "tensorrt-rtx": "cuda"}.get(asked, device.type)
    if device.type != needed:
        raise SettingsError(f"backend {asked} runs on device {needed}, not on {device}; choose --device {needed}")


def prepared_engines(
    asked: Backend, folder: Path, network: Generator, device: torch.device
) -> tuple[Backend, PreparedEngines]:
    """The engines in a folder that fit a network and the GPU `device`, and the backend that runs them.

    Raises
    ------
    BackendError, SettingsError
        This backend cannot run on this machine, or on this device.
    EngineFileError
        An engine is damaged, or none is for this model, version and GPU.
    """
    engines = EngineFolder(folder)
    flavour = engines.flavours[0] if asked == "auto" else asked
    _require(flavour, device)
    return flavour, engines.for_model(model_key(network), cast(Flavour, flavour), device)


def make_runner(
    choice: BackendChoice,
    network: Generator,
    precision: TranslationPrecision,
    dtype: torch.dtype,
    prepared: PreparedEngines | None = None,
) -> StageRunner:
    """A runner for a network that lies on the device to run on.

    Parameters
    ----------
    precision, dtype : as asked for, and as resolved for that device.
    prepared : engines for TensorRT.
    """
    if choice.name == "torch":
        return TorchRunner(network, dtype)
    runner = _compiled_runner(choice.name, network, precision, dtype, prepared)
    return RunnerWithAlternative(runner, TorchRunner(network, dtype)) if choice.alternative else runner


def _compiled_runner(
    name: Backend,
    network: Generator,
    precision: TranslationPrecision,
    dtype: torch.dtype,
    prepared: PreparedEngines | None,
) -> StageRunner:
    if name == "openvino":
        in_floats: OpenVinoPrecision = "fp32" if dtype is torch.float32 else "bf16"
        return openvino_runner.OpenVinoRunner(network, "int8" if precision == "int8" else in_floats)
    from napari_pix2pix.translation.backends.tensorrt_runner import TensorRtRunner

    return TensorRtRunner(cast(Flavour, name), network, _engine_precisions(precision, prepared), prepared)


def _engine_precisions(asked: TranslationPrecision, prepared: PreparedEngines | None) -> tuple[EnginePrecision, ...]:
    """Those to be tried, in order: where the choice is free, those of prepared engines first."""
    assert asked != "int8"
    held = () if prepared is None else prepared.precisions
    if asked == "auto":
        return (*held, *(precision for precision in _PRECISIONS if precision not in held))
    if prepared is not None and asked not in held:
        raise EngineFileError(f"the engines in {prepared.folder} are in {', '.join(held)}, not in {asked}; choose that")
    return (asked,)


class RunnerWithAlternative:
    """A compiled runner, until it fails or gives other numbers than PyTorch: then another one, for good.

    `problem` says why the first one was given up; None while it runs.
    """

    def __init__(self, first: StageRunner, alternative: StageRunner) -> None:
        self._runner = first
        self._alternative = alternative
        self.problem: str | None = None
        self.device = first.device
        self.dtype = first.dtype

    @property
    def name(self) -> str:
        return self._runner.name

    @property
    def precision(self) -> str:
        return self._runner.precision

    def run(self, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
        if self._runner is not self._alternative:
            try:
                return self._runner.run(spec, inputs)
            except (BackendError, EngineError, EngineFileError) as error:
                logger.warning("%s is given up, %s goes on: %s", self.name, self._alternative.name, error)
                self.problem = f"{self.name} failed: {error}"
                self._runner = self._alternative
        return self._alternative.run(spec, inputs)
