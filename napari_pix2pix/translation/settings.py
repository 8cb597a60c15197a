"""How a translation is to be run: validated settings, and what they mean for a given model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from napari_pix2pix.formats.source import AlphaChoice
from pix2pix_training.config import DropoutMode, InferenceConfig, Precision, Statistics
from pix2pix_training.errors import SettingsError
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.model_file import Model

Scheme = Literal["auto", "whole", "exact", "blend"]
ValueConversion = Literal["refuse", "type", "values", "image"]
Backend = Literal["auto", "torch", "openvino", "tensorrt", "tensorrt-rtx"]
MIN_TILE_PX = 16
MIN_REGION_PX = 16
MAX_DROPOUT_SAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class TranslationSettings:
    """What a user may choose about a translation; None means "as the model says", or "choose for me".

    Attributes
    ----------
    scheme : "whole" runs the image at once; "exact" gives the same result tile by tile; "blend" averages overlapping
        windows, an approximation; "auto" takes the first of them that is possible within `max_memory`.
    tile : largest side of a tile in pixels; less where the network's strides ask for it, and in the exact scheme for
        U-Nets where as many tiles of equal size do.
    region : side in pixels, rounded up to a multiple of 256, of the parts that an image is translated in, each on its
        own; None for parts of 8192 to 16384 pixels, or more where a network sees so far that smaller ones would cost
        too much.
    max_memory : bytes that the working set may take; None for half of what is free.
    statistics, dropout, seed : see `InferenceConfig`; None for the model's own.
    dropout_samples : translate with that many seeds; the result is their mean and standard deviation.
    alpha : what an alpha channel of an image file is: a channel ("keep"), a mask of the pixels that hold no data
        ("mask"), nothing ("drop"), or what its values look like ("auto").
    channels : those of the image to take (from 0), in the order of the model's; None to go by their names.
    convert_values : what to do with pixels of another type than those of training. "refuse" is an error; "type": the
        range of one type stands for that of the other (0 to 65535 for 0 to 255; floats lie in 0 to 1); "values": the
        numbers are taken as they are; "image": percentiles 0.1 and 99.9 of each image stand for the range that the
        model knows, also where the types are the same. Models with per-image ranges take any type.
    match_pixel_size : rescale to the pixel size of the training images, and the result back (`translate_file`).
    split_level : level at which the exact scheme splits a U-Net.
    scratch : folder for what does not fit into memory; None for that of the output, or for arrays a temporary one.
    engines : folder of TensorRT engines that were compiled ahead of time; they decide `backend` where that is "auto".
    """

    scheme: Scheme = "auto"
    tile: int | None = None
    region: int | None = None
    max_memory: int | None = None
    statistics: Statistics | None = None
    dropout: DropoutMode | None = None
    dropout_samples: int = 1
    seed: int | None = None
    device: str = "auto"
    precision: Precision = "auto"
    backend: Backend = "auto"
    alpha: AlphaChoice = "auto"
    channels: tuple[int, ...] | None = None
    convert_values: ValueConversion = "refuse"
    match_pixel_size: bool = False
    split_level: int | None = None
    scratch: str | None = None
    engines: str | None = None

    def __post_init__(self) -> None:
        _check_choice("scheme", self.scheme, get_args(Scheme))
        _check_choice("backend", self.backend, get_args(Backend))
        _check_choice("precision", self.precision, get_args(Precision))
        _check_choice("statistics", self.statistics, (None, *get_args(Statistics)))
        _check_choice("alpha", self.alpha, get_args(AlphaChoice))
        _check_choice("convert_values", self.convert_values, get_args(ValueConversion))
        _check_choice("dropout", self.dropout, (None, *get_args(DropoutMode)))
        if self.channels is not None:
            object.__setattr__(self, "channels", _checked_channels(self.channels))
        _check_range("tile", self.tile, MIN_TILE_PX, 2**20)
        _check_range("region", self.region, MIN_REGION_PX, 2**30)
        _check_range("max_memory", self.max_memory, 2**20, 2**60)
        _check_range("dropout_samples", self.dropout_samples, 1, MAX_DROPOUT_SAMPLES)
        _check_range("seed", self.seed, 0, 2**63 - 1)
        _check_range("split_level", self.split_level, 1, 9)
        if self.scratch is not None and not Path(self.scratch).is_dir():
            raise SettingsError(f"scratch {self.scratch} is no folder; give one that exists, on a disk with room")
        if self.scheme == "exact" and self.statistics == "tile":
            raise SettingsError(
                "statistics 'tile' depend on the tiling, so scheme 'exact' cannot give them; choose scheme blend, "
                "or statistics image"
            )
        if self.engines is not None and self.backend in ("torch", "openvino"):
            raise SettingsError(f"engines are for TensorRT, not for backend {self.backend}; leave one of them out")
        if self.dropout_samples > 1 and self.dropout == "off":
            raise SettingsError("dropout_samples above 1 need noise; set dropout to 'seeded'")


def resolved_inference(settings: TranslationSettings, model: Model) -> InferenceConfig:
    """The model's inference mode with the changes that the settings ask for.

    Raises
    ------
    SettingsError
        The generator cannot run in this mode, or dropout samples are asked of one without noise.
    """
    config, own = model.generator_config, model.inference
    statistics = settings.statistics or own.statistics
    if statistics == "running" and config.norm == "instance":
        raise SettingsError(
            "this model's instance norm keeps no running statistics; choose statistics image (or leave it out)"
        )
    if statistics == "tile" and settings.scheme == "exact":
        raise SettingsError("the model asks for statistics of each tile, which scheme 'exact' cannot give; use blend")
    dropout = settings.dropout or own.dropout
    if settings.dropout_samples > 1 and (config.dropout == "none" or dropout == "off"):
        reason = "the model has no dropout layers" if config.dropout == "none" else "dropout is off"
        raise SettingsError(
            f"{settings.dropout_samples} dropout samples would all be equal, as {reason}; leave it at 1"
        )
    if settings.dropout_samples > 1 and isinstance(model.target.mapping, CategoryMapping):
        raise SettingsError("dropout samples are averaged, and this model's target are categories; leave it at 1")
    seed = own.seed if settings.seed is None else settings.seed
    return InferenceConfig(statistics=statistics, dropout=dropout, seed=seed)


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        known = ", ".join(str(c) for c in choices if c is not None)
        raise SettingsError(f"{name} is {value!r}; choose one of {known}")


def _checked_channels(channels: Sequence[int]) -> tuple[int, ...]:
    if not channels or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in channels):
        raise SettingsError(f"channels are {channels!r}; give the numbers of channels, from 0, such as 0,2")
    return tuple(channels)


def _check_range(name: str, value: int | None, low: int, high: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise SettingsError(f"{name} is {value!r}; it must be a whole number")
    if not low <= value <= high:
        raise SettingsError(f"{name} is {value}; it must lie between {low} and {high}")
