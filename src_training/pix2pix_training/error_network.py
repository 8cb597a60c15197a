"""The network of a model that says how large its errors are; what calibration has found of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from pix2pix_training.errors import SettingsError
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.validated import Lenient, validated

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e9)]


@validated
class ErrorTraits:
    """All of an error network but its weights.

    It sees the source, and gives the expected size of the error where targets lie in [-1, 1], for each channel of the
    target (`error_map.expected_errors`). `factors` times that is the half-width within which the share `coverage` of
    pixels lies.

    Attributes
    ----------
    images : held-out images that the factors were found on, or with `of_one_image` parts of a single one.
    chose_model : whether these images also decided which model was kept.
    measured, lowest, highest : share of pixels within the half-width, in images that the factors used for it were not
        found on: the mean of the images, and the extremes; None where there was but one.
    half_widths : mean of each channel, in units of the target.
    """

    config: GeneratorConfig
    coverage: Annotated[float, Field(gt=0, lt=1)]
    factors: Annotated[tuple[Positive, ...], Lenient]
    images: Annotated[int, Field(ge=1)]
    of_one_image: bool = False
    chose_model: bool = False
    measured: Share | None = None
    lowest: Share | None = None
    highest: Share | None = None
    half_widths: Annotated[tuple[float, ...], Lenient] = ()

    def __post_init__(self) -> None:
        if self.config.norm == "instance" or self.config.output != "tanh":
            raise SettingsError("the error network has another norm or output than it can have; the file is damaged")
        if len(self.factors) != self.config.target_channels:
            raise SettingsError("the error map needs a factor for each channel; the file is damaged")


@dataclass(frozen=True, kw_only=True)
class ErrorNetwork:
    """An error network with its weights."""

    traits: ErrorTraits
    weights: dict[str, Tensor]
