"""A generator made ready on a device: plans, and gives finished tiles of open images."""

from __future__ import annotations

import logging
import weakref
from collections import OrderedDict
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch

from napari_pix2pix.translation.backends.selection import (
    RunnerWithAlternative,
    choose_backend,
    make_runner,
    prepared_engines,
)
from napari_pix2pix.translation.backends.speeds import Speeds, measured_speeds
from napari_pix2pix.translation.backends.stage_runner import StageRunner, Stages, precision_name
from napari_pix2pix.translation.cost import generator_macs
from napari_pix2pix.translation.fitted_image import FittedImage, fitted_image, warn_of_values
from napari_pix2pix.translation.invalid_output import output_nodata
from napari_pix2pix.translation.plan import BackendChoice, EnginePlan, Plan, Split, padded_size
from napari_pix2pix.translation.planner import make_plan
from napari_pix2pix.translation.region_grid import region_grid
from napari_pix2pix.translation.settings import TranslationSettings, resolved_inference
from napari_pix2pix.translation.translated_image import TranslatedImage
from pix2pix_training.array_source import AnyArray, ArraySource, plane_size
from pix2pix_training.cancel import Cancel
from pix2pix_training.device import has_int8, resolve_device, resolve_precision
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.export_form import fold_norms, widen_narrow_layers
from pix2pix_training.machine import default_budget_bytes
from pix2pix_training.model_file import Model, model_digest
from pix2pix_training.quantisation import Rounding, quantise, require_int8
from pix2pix_training.regions import Region, Size

logger = logging.getLogger(__name__)

OutputTile = tuple[tuple[int, ...], Region, AnyArray]
"""Plane, region, and stored pixels of shape (C, region.height, region.width)."""

_SMALLEST_RESNET_PX = 5
_OPENVINO_BYTES = 300 << 20
"""What OpenVINO takes for itself and the code of a dozen compiled stages, as measured; its weights are copies."""
_WAITING_ROWS = 2048
"""Rows of the result in memory: output files are made in units of up to 1024 rows, and tiles may reach into two."""
_MOST_KEPT = 4


class Translator:
    """A generator made ready on a device, to be applied to any number of images.

    Attributes
    ----------
    memory_limit : bytes that this process may take, where that is less than the machine has.

    Raises
    ------
    SettingsError
        The device is not there, or the model cannot run as asked.
    """

    def __init__(self, model: Model, settings: TranslationSettings | None = None) -> None:
        self.model = replace(model, weights={}, error=None)  # the network has its own copy, and errors one of theirs
        self.model_digest = model_digest(model)
        self.settings = settings or TranslationSettings()
        self.inference = resolved_inference(self.settings, model)
        self.device = resolve_device(self.settings.device)
        asked = self.settings.precision
        self.precision = resolve_precision("fp32" if asked == "int8" else asked, self.device)
        network = model.generator(self.inference)
        fold_norms(network)
        if self.device.type == "cpu":
            widen_narrow_layers(network)
        if asked == "int8":
            quantise(network, self._roundings())
        self._network = network.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.cancel = Cancel()
        self.memory_limit: int | None = None
        self._macs = 0.0
        self._runners: dict[BackendChoice, StageRunner] = {}
        self._asked, self._prepared = "openvino" if asked == "int8" else self.settings.backend, None
        self.scratch = self.settings.scratch
        if self.settings.engines is not None:
            folder = self.settings.engines
            self._asked, self._prepared = prepared_engines(self._asked, folder, self._network, self.device)
        if self._asked != "auto":
            self._runner(choose_backend(self._asked, self.device, macs=0))  # an error now, not midway

    def _roundings(self) -> Mapping[str, Rounding]:
        """Those of the model; `SettingsError` where it cannot be run in 8 bits here."""
        int8 = require_int8(self.model.generator_config, self.inference, self.model.int8)
        if not has_int8():
            raise SettingsError("this processor has no instructions for 8-bit integers (VNNI); choose precision fp32")
        return int8.roundings

    @contextmanager
    def interruptible(self, cancel: Cancel) -> Iterator[None]:
        """Within it, work raises `Interrupted` soon after `cancel` is set.

        With PyTorch that is within a layer, with other backends within a stage: a pass over a tile, or over the small
        planes of the deep levels. `cancel` is looked at from whichever thread computes.
        """
        self.cancel = cancel
        layers = [m for m in self._network.modules() if next(m.parameters(recurse=False), None) is not None]
        hooks = [layer.register_forward_pre_hook(self._check) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self.cancel = Cancel()

    def _check(self, *_: Any) -> None:
        self.cancel.check()

    def ran_with(self, plan: Plan) -> tuple[BackendChoice, str]:
        """What has run a plan, and the precision of its arithmetic.

        PyTorch may have had to take over where the plan has an alternative, and TensorRT to take another precision than
        the first one.
        """
        runner = self._runners.get(plan.backend)
        precision = precision_name(self.precision) if runner is None else runner.precision
        if isinstance(runner, RunnerWithAlternative) and runner.problem is not None:
            return BackendChoice(name="torch", reason=runner.problem), precision
        return plan.backend, precision

    def _choice(self, size: Size) -> BackendChoice:
        padded = padded_size(size, self.model.generator_config.stride)
        self._macs += generator_macs(self.model.generator_config) * prod(padded) * self.settings.dropout_samples
        return choose_backend(self._asked, self.device, self._macs, self.precision, lambda: self._speeds(size))

    def _speeds(self, size: Size) -> Speeds:
        plan = self._plan(size, BackendChoice(name="torch", reason="to be measured"))
        return measured_speeds(self._network, plan, self.inference, self._macs)

    def _runner(self, choice: BackendChoice) -> StageRunner:
        if choice not in self._runners:
            precisions = self.settings.precision, self.precision
            self._runners[choice] = make_runner(choice, self._network, *precisions, self._prepared)
        return self._runners[choice]

    @property
    def _weights_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self._network.parameters())

    def plan(self, size: Size) -> Plan:
        """How a plane of `size` (rows, columns) would be translated.

        Without `max_memory` it depends on what is free at this moment; with it, the weights, what the backend keeps
        beside them, and the rows that wait for the output file count too, as far as half of it.
        """
        return self._plan(size, self._choice(size))

    def _plan(self, size: Size, backend: BackendChoice) -> Plan:
        budget = default_budget_bytes(self.device)
        if self.memory_limit is not None and self.device.type == "cpu":
            budget = min(budget, self.memory_limit // 2)
        if self.settings.max_memory is not None:
            aside = self._set_aside_bytes(size, backend)
            budget = max(self.settings.max_memory - aside, self.settings.max_memory // 2)
        settings, splits = self._cut_up(size)
        return make_plan(
            size,
            self.model.generator_config,
            self.inference,
            settings,
            budget,
            on_cpu=self.device.type == "cpu",
            splits=splits,
            backend=backend,
        )

    def _cut_up(self, size: Size) -> tuple[TranslationSettings, tuple[Split, ...]]:
        """The settings, and those of the engines that were compiled for a plan of their own."""
        if self._prepared is not None and self._prepared.plan:
            engine_plan = EnginePlan.from_json(self._prepared.plan)
            if engine_plan.serves(self.settings, size):
                return engine_plan.settings(self.settings), engine_plan.splits
        return self.settings, ()

    def _set_aside_bytes(self, size: Size, backend: BackendChoice) -> int:
        rows, columns = region_grid(size, self.model.generator_config, self.settings.region).side
        waiting = min(rows, _WAITING_ROWS) * columns * self.output_channels * self.output_dtype.itemsize
        if backend.name != "openvino":
            return self._weights_bytes + waiting
        return 2 * self._weights_bytes + _OPENVINO_BYTES + waiting

    def fit(self, source: ArraySource) -> FittedImage:
        """The image as the model is to see it; what is decided about it is said in warnings.

        Raises
        ------
        ImageError
            It does not fit the model; says why and what to do.
        """
        fitted = fitted_image(source, self.model, self.settings)
        if self.model.generator_config.architecture == "resnet" and min(plane_size(fitted)) < _SMALLEST_RESNET_PX:
            raise ImageError(
                f"{source.name}: {fitted.shape[-2]} x {fitted.shape[-1]} pixels are too few for a ResNet generator, "
                f"which needs {_SMALLEST_RESNET_PX} x {_SMALLEST_RESNET_PX}"
            )
        return fitted

    def tiles(
        self,
        source: ArraySource,
        *,
        plan: Plan | None = None,
        masked: bool = False,
        scratch: Path | None = None,
    ) -> Generator[OutputTile, None, None]:
        """Finished tiles of all planes in storage order; within a plane region by region, within these row by row.

        With `masked` they have one sample more than channels: how opaque pixels are, see `OutputSpec.masked`.

        Nothing is computed before the first tile is asked for, except that the image is checked against the model.

        Parameters
        ----------
        source : an image, or what `fit` made of one. Rescaled ones give tiles at the model's pixel size.
        scratch : folder for what does not fit into memory, where the settings name none; see `scratch_folder`.
        """
        fitted = source if isinstance(source, FittedImage) else self.fit(source)
        plan = plan or self.plan(plane_size(fitted))
        image = TranslatedImage(self, fitted, plan, masked=masked, scratch=self.scratch or scratch)
        return self._tiles(image, fitted)

    def output_shape(self, source: ArraySource) -> tuple[int, ...]:
        return (*source.shape[:-3], self.output_channels, *plane_size(source))

    @property
    def output_channels(self) -> int:
        """Those of the target; twice as many for dropout samples: the means, then the standard deviations."""
        channels = self.model.target.mapping.image_channels
        return channels if self.settings.dropout_samples == 1 else 2 * channels

    @property
    def output_channel_names(self) -> tuple[str, ...]:
        names = self.model.target.channel_names
        if self.settings.dropout_samples == 1:
            return names
        return tuple(f"{name} {kind}" for kind in ("mean", "standard deviation") for name in names)

    @property
    def output_dtype(self) -> np.dtype[Any]:
        return np.dtype(self.model.target.mapping.dtype if self.settings.dropout_samples == 1 else np.float32)

    def nodata(self, source: ArraySource) -> float | None:
        """The value that stands for no data in the output, None where there is none; see `output_nodata`."""
        return output_nodata(self.output_dtype, source.nodata, self.model.target.mapping, masked=source.masked)

    def _tiles(self, image: TranslatedImage, fitted: FittedImage) -> Generator[OutputTile, None, None]:
        mapping = image.mapping
        try:
            for place in image.regions:
                with closing(image.tiles(place, fitted.values_seen)) as tiles:
                    for region, pixels in tiles:
                        yield place.plane, region, pixels
        finally:
            warn_of_values(fitted, mapping, self.model.source)

    def stages(self, plan: Plan, sample: int = 0, *, scratch: Path | None = None) -> Stages:
        """What runs the network under a plan, with the noise of dropout sample number `sample`."""
        seed = self.inference.seed + sample if self.inference.dropout == "seeded" else None
        return Stages(
            network=self._network,
            runner=self._runner(plan.backend),
            seed=seed,
            before_each=self._check,
            scratch=scratch,
        )


def lent_translator(model: Model, settings: TranslationSettings) -> AbstractContextManager[Translator]:
    """A translator of a model, kept for the next who asks for the same; see `KeptTranslators`."""
    return _KEPT.lent(model, settings)


class KeptTranslators:
    """Translators of the models that were used last, each lent to one user at a time; thread-safe.

    A model is known by itself and by the state of its weights, so one whose tensors were changed is made ready anew.
    When nobody else holds a model any more, its translator goes too.
    """

    def __init__(self, most: int = _MOST_KEPT) -> None:
        self._most = most
        self._lock = Lock()
        self._idle: OrderedDict[tuple[int, TranslationSettings], tuple[_State, Translator]] = OrderedDict()
        self._alive: dict[int, weakref.ref[Model]] = {}

    def __len__(self) -> int:
        """How many are kept at this moment."""
        return len(self._idle)

    @contextmanager
    def lent(self, model: Model, settings: TranslationSettings) -> Iterator[Translator]:
        """A translator for nobody else within the context, kept afterwards."""
        key, state = (id(model), settings), _State(model)
        translator = self._taken(key, state) or Translator(model, settings)
        yield translator
        self._keep(model, key, state, translator)

    def _taken(self, key: tuple[int, TranslationSettings], state: _State) -> Translator | None:
        with self._lock:
            kept = self._idle.pop(key, None)
        return kept[1] if kept is not None and kept[0].is_that_of(state) else None

    def _keep(self, model: Model, key: tuple[int, TranslationSettings], state: _State, translator: Translator) -> None:
        with self._lock:
            self._alive[key[0]] = weakref.ref(model, lambda _: self._forget(key[0]))
            self._idle[key] = (state, translator)
            while len(self._idle) > self._most:
                self._idle.popitem(last=False)

    def _forget(self, number: int) -> None:
        """The model of that number is gone, and another one may get it."""
        self._alive.pop(number, None)
        for key in [key for key in list(self._idle) if key[0] == number]:
            self._idle.pop(key, None)


class _State:
    """The weights of a model, by which a change is noticed: of a tensor for another one, or in its place."""

    def __init__(self, model: Model) -> None:
        self._weights = dict(model.weights)
        tracked = not any(tensor.is_inference() for tensor in self._weights.values())
        self._versions = [tensor._version for tensor in self._weights.values()] if tracked else None

    def is_that_of(self, other: _State) -> bool:
        """False where that cannot be told, which is so for tensors that were made in inference mode."""
        same = self._weights.keys() == other._weights.keys() and all(
            tensor is other._weights[name] for name, tensor in self._weights.items()
        )
        return same and self._versions is not None and self._versions == other._versions


_KEPT = KeptTranslators()
