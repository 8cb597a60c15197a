"""Error maps: half-widths of intervals around a translation, which are themselves a translation of the source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from pix2pix_training.errors import SettingsError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import CategoryMapping, LinearMapping
from pix2pix_training.model_file import Model

_LEAST_ERROR = 0.02
"""Of what a network expects: a hundredth of the range, so that factors stay small where it expects hardly any error."""
_LEAST_SPAN = 1e-30
"""So that the ends of a mapping differ, also where the errors of a model are nil."""


def error_model(model: Model) -> Model:
    """A model that makes the error map of a source, in units of the target of `model`.

    Pixels have the type of the target, without sign.

    Raises
    ------
    SettingsError
        `model` has no error map.
    """
    if model.error is None:
        raise SettingsError(f"the model has no error map{_reason(model)}")
    traits = model.error.traits
    return Model(
        generator_config=traits.config,
        weights=model.error.weights,
        source=model.source,
        target=replace(
            model.target,
            mapping=half_width_mapping(model.target.mapping, traits.factors),
            channel_names=tuple(f"{name} error" for name in model.target.channel_names),
        ),
        inference=InferenceConfig(statistics="running"),
        training=model.training,
        credits=model.credits,
    )


def _reason(model: Model) -> str:
    if isinstance(model.target.mapping, CategoryMapping):
        return ", as its targets are categories, whose errors have no size"
    return "; `calibrate MODEL --source FOLDER --target FOLDER` adds one, from pairs that it was not trained on"


def half_width_mapping(target: LinearMapping | CategoryMapping, factors: tuple[float, ...]) -> LinearMapping:
    """From what an error network gives to half-widths in units of the target: `factors` times `expected_errors`."""
    assert isinstance(target, LinearMapping)
    spans = [(high - low) / 2 for low, high in zip(target.low, target.high, strict=True)]
    least, most = (
        tuple(factor * error * span for factor, span in zip(factors, spans, strict=True))
        for error in (_LEAST_ERROR, 2 + _LEAST_ERROR)
    )
    return LinearMapping(
        dtype=half_width_dtype(target.dtype),
        scope="training-set",
        channels=target.channels,
        low=least,
        high=tuple(max(each, low + _LEAST_SPAN) for each, low in zip(most, least, strict=True)),
    )


def expected_errors(x: Tensor) -> Tensor:
    """What an error network gives, in [-1, 1] -> the size of the error that it expects where targets lie there."""
    return 1 + _LEAST_ERROR + x


def half_width_dtype(target: str) -> str:
    """That of an error map: the target's, without sign, as widths may be twice the largest value with one."""
    dtype = np.dtype(target)
    return f"uint{8 * dtype.itemsize}" if dtype.kind in "bi" else dtype.name
