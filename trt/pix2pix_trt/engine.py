"""From an ONNX model to a serialised TensorRT or TensorRT-RTX engine: parse, profile, build.

Networks are strongly typed in both packages, so the precision is that of the ONNX model; TF32 is switched off, for
float32 to mean float32. What the engine is of, and whether its numbers are right, is for others to know.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

from pix2pix_training.cancel import Cancel
from pix2pix_training.errors import BackendError, EngineError, SettingsError
from pix2pix_trt.flavours import EnginePrecision, Flavour, builds_without_gpu, load, product_name, require

logger = logging.getLogger(__name__)

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ShapeRange:
    """Shapes that an engine accepts for one input; it is tuned for `optimum`."""

    minimum: Shape
    optimum: Shape
    maximum: Shape

    def __post_init__(self) -> None:
        sizes = tuple(zip(self.minimum, self.optimum, self.maximum, strict=False))
        same_rank = len(self.minimum) == len(self.optimum) == len(self.maximum)
        if not same_rank or not all(1 <= low <= best <= high for low, best, high in sizes):
            raise SettingsError(
                f"shapes {self.minimum} to {self.maximum}, best {self.optimum}, are no range; give minimum <= optimum "
                "<= maximum with the same number of axes"
            )


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What to compile for.

    Attributes
    ----------
    shapes : by input name, for every input with a size that is not fixed in the model.
    architectures : GPUs such as "sm86" (tensorrt-rtx only); none for the GPU of this machine.
    """

    flavour: Flavour
    precision: EnginePrecision
    shapes: Mapping[str, ShapeRange]
    architectures: tuple[str, ...] = ()

    def as_key(self) -> dict[str, Any]:
        """Everything here that an engine depends on, in JSON values."""
        shapes = {name: [list(s) for s in asdict(shape).values()] for name, shape in self.shapes.items()}
        return {
            "flavour": self.flavour,
            "precision": self.precision,
            "shapes": shapes,
            "architectures": list(self.architectures),
        }


@dataclass(frozen=True, kw_only=True)
class TensorFacts:
    """Name, element type ("FLOAT", "HALF", "BF16") and shape (-1 where it varies) of an input or output."""

    name: str
    dtype: str
    shape: Shape


class EngineBuilder:
    """A parsed ONNX model with its profile, ready to be built.

    Raises
    ------
    BackendError
        The package is missing, this machine cannot build for the request, or an architecture is not known to it.
    EngineError
        The package does not understand the model, or the shapes do not fit it.
    """

    def __init__(self, onnx_model: bytes, request: BuildRequest) -> None:
        check_request(request)
        self._trt = load(request.flavour)
        self.request = request
        self._log = build_log(self._trt)
        self._builder = self._trt.Builder(self._log)
        self._network = self._builder.create_network()
        self._parser = self._trt.OnnxParser(self._network, self._log)  # owns the weights until the build is over
        if not self._parser.parse(onnx_model):
            raise EngineError(f"{self._product} does not understand the model: {_parser_errors(self._parser)}")
        self._config = self._builder.create_builder_config()
        self._config.clear_flag(self._trt.BuilderFlag.TF32)
        self._add_profile()
        self._add_architectures()

    @property
    def inputs(self) -> tuple[TensorFacts, ...]:
        return tuple(_facts(self._network.get_input(i)) for i in range(self._network.num_inputs))

    @property
    def outputs(self) -> tuple[TensorFacts, ...]:
        return tuple(_facts(self._network.get_output(i)) for i in range(self._network.num_outputs))

    def build(self, *, progress: Callable[[float], None] | None = None, cancel: Cancel | None = None) -> bytes:
        """Serialised engine; may take minutes.

        Parameters
        ----------
        progress : called with the fraction that is done, from threads of the package.
        cancel : looked at between steps.

        Raises
        ------
        Interrupted
            `cancel` was set; nothing is kept.
        EngineError
            The package could not build the engine.
        """
        report = progress or (lambda _: None)
        cancel = cancel or Cancel()
        monitor = _monitor(self._trt, BuildProgress(report), cancel)
        self._config.progress_monitor = monitor
        plan = self._builder.build_serialized_network(self._network, self._config)
        cancel.check()
        if plan is None:
            raise EngineError(
                f"{self._product} could not build the engine: {self._log.last_error or 'no reason given'}"
            )
        report(1.0)
        return bytes(plan)

    @property
    def _product(self) -> str:
        return product_name(self.request.flavour)

    def _add_profile(self) -> None:
        varying = {facts.name for facts in self.inputs if -1 in facts.shape}
        if set(self.request.shapes) != varying:
            raise EngineError(
                f"the model has inputs of varying shape {sorted(varying)}, shapes are given for "
                f"{sorted(self.request.shapes)}"
            )
        profile = self._builder.create_optimization_profile()
        for name, shapes in self.request.shapes.items():
            profile.set_shape(name, shapes.minimum, shapes.optimum, shapes.maximum)
        if varying and self._config.add_optimization_profile(profile) < 0:
            raise EngineError(f"{self._product} refuses the shapes {dict(self.request.shapes)}: {self._log.last_error}")

    def _add_architectures(self) -> None:
        if not self.request.architectures:
            return
        self._config.num_compute_capabilities = len(self.request.architectures)
        for index, name in enumerate(self.request.architectures):
            capability = getattr(self._trt.ComputeCapability, name.upper())
            if not self._config.set_compute_capability(capability, index):
                raise EngineError(f"{self._product} refuses architecture {name}: {self._log.last_error}")


def known_architectures(flavour: Flavour) -> tuple[str, ...]:
    """GPU architectures that engines can be built for on any machine; none for flavours that need the GPU itself."""
    if not builds_without_gpu(flavour):
        return ()
    names = load(flavour).ComputeCapability.__members__
    return tuple(sorted((n.lower() for n in names if n.startswith("SM")), key=lambda n: int(n[2:])))


def check_request(request: BuildRequest) -> None:
    """Raise `BackendError` where this machine cannot build for the request, before any work is done for it."""
    trt = load(request.flavour)
    if not request.architectures:
        require(request.flavour)
        return
    if not builds_without_gpu(request.flavour):
        raise BackendError(
            f"{product_name(request.flavour)} builds only for the GPU of this machine; leave out the architectures, or "
            "choose tensorrt-rtx"
        )
    known = known_architectures(request.flavour)
    for name in request.architectures:
        if name not in known:
            raise BackendError(
                f"architecture {name!r} is not known to {product_name(request.flavour)} {trt.__version__}; choose from "
                f"{', '.join(known)}"
            )
    if len(set(request.architectures)) != len(request.architectures):
        raise BackendError("an architecture is named twice; name each once")


def build_log(trt: Any) -> Any:
    """A logger object for a TensorRT module that hands on what it says and remembers the last error."""

    class Log(trt.ILogger):  # type: ignore[misc]  # the base class exists only once the package is loaded
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.last_error = " ".join(message.split())
            logger.debug("%s", message)

    return Log()


def _monitor(trt: Any, progress: BuildProgress, cancel: Cancel) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            progress.start(name, parent, steps)

        def step_complete(self, name: str, step: int) -> bool:
            progress.step(name, step)
            return not cancel.is_set()

        def phase_finish(self, name: str) -> None:
            progress.finish(name)

    return Monitor()


def _facts(tensor: Any) -> TensorFacts:
    return TensorFacts(name=tensor.name, dtype=tensor.dtype.name, shape=tuple(tensor.shape))


def _parser_errors(parser: Any) -> str:
    errors: Sequence[str] = [" ".join(parser.get_error(i).desc().split()) for i in range(parser.num_errors)]
    return "; ".join(errors[:2]) or "no reason given"


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """Turns reports of nested phases into a fraction that never falls. Phases may be reported by several threads.

    Parameters
    ----------
    report : called with the fraction, 0 to 1, each time it has grown.
    """

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report
        self._phases: dict[str, _Phase] = {}
        self._fraction = 0.0
        self._lock = Lock()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._phases[name] = _Phase(parent, max(1, steps))

    def step(self, name: str, number: int) -> None:
        with self._lock:
            phase = self._phases.get(name)
            if phase is None:
                return
            phase.done = max(phase.done, number + 1)
            fraction = max((self._done(n) for n, p in self._phases.items() if p.parent is None), default=0.0)
            grown = fraction > self._fraction
            self._fraction = max(self._fraction, fraction)
        if grown:
            self._report(min(1.0, fraction))

    def finish(self, name: str) -> None:
        with self._lock:
            self._phases.pop(name, None)

    def _done(self, name: str) -> float:
        """Share of a phase that is done, that of its most advanced running part included."""
        phase = self._phases[name]
        inner = max((self._done(n) for n, p in self._phases.items() if p.parent == name), default=0.0)
        return min(1.0, (phase.done + inner) / phase.steps)
