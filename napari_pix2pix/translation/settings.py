"""How a translation is to be run: validated settings, and what they mean for a given model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field

from pix2pix_training.choices import AlphaChoice, DropoutMode, Statistics, TranslationPrecision
from pix2pix_training.errors import SettingsError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.validated import AnyPath, Labels, Lenient, Setting, Written, shown, validated
from pix2pix_trt.flavours import EnginePrecision, Flavour

if TYPE_CHECKING:
    from pix2pix_training.model_file import Model

Scheme = Annotated[
    Literal["auto", "whole", "exact", "blend"],
    Labels({"auto": "automatic", "whole": "whole image at once", "exact": "exact tiles", "blend": "blended tiles"}),
]
ValueConversion = Annotated[
    Literal["refuse", "type", "values", "image"],
    Labels(
        {
            "refuse": "are refused",
            "type": "from range to range of the types",
            "values": "as they are",
            "image": "fitted to each image",
        }
    ),
]
Backend = Annotated[
    Literal["auto", "torch", "openvino", "tensorrt", "tensorrt-rtx"],
    Labels(
        {
            "auto": "automatic",
            "torch": "PyTorch",
            "openvino": "OpenVINO",
            "tensorrt": "TensorRT",
            "tensorrt-rtx": "TensorRT-RTX",
        }
    ),
]
Device = Annotated[str, Labels({"auto": "automatic", "cpu": "CPU", "cuda": "NVIDIA GPU", "mps": "Apple GPU"})]
MIN_TILE_PX = 16
MIN_REGION_PX = 16
LEAST_REGION_PX = 8192
"""Side of a region where none is asked for; an image is cut where it has room for two."""
MAX_DROPOUT_SAMPLES = 10_000
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def bytes_from(text: str) -> int:
    """ "2GB", "512MiB" or a number of bytes; `ValueError` where it is something else."""
    number = text.strip().lower().removesuffix("b")
    digits = number.rstrip("kmgti")
    try:
        size = float(digits) * _BYTES[number[len(digits) :]]
        if not 0 < size < 2**60:
            raise ValueError
    except (ValueError, KeyError) as error:
        raise ValueError(f"{text!r} is not understood; write for example 2GB or 512MiB") from error
    return int(size)


def _channels_from(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"{text!r} are not a list of numbers such as 0,2") from error


def _checked_channels(channels: object) -> object:
    if isinstance(channels, Sequence) and channels and all(type(n) is int and n >= 0 for n in channels):
        return channels
    raise ValueError(f"are {shown(channels)}; give the numbers of channels, from 0, such as 0,2")


def _channels_text(channels: tuple[int, ...]) -> str:
    return ",".join(map(str, channels))


Channels = Annotated[
    tuple[int, ...],
    Lenient,
    BeforeValidator(_checked_channels),
    Written(_channels_from, _channels_text, "such as 0,2"),
]
MemoryBytes = Annotated[int, Field(ge=2**20, le=2**60), Written(bytes_from, example="such as 2GB")]


@validated
class TranslationSettings:
    """What a user may choose about a translation; None means "as the model says", or "choose for me".

    Attributes
    ----------
    scheme : "whole" runs the image at once; "exact" gives the same result tile by tile; "blend" averages overlapping
        windows, an approximation; "auto" takes the first of them that is possible within `max_memory`.
    tile : largest side of a tile in pixels; less where the network's strides ask for it, and in the exact scheme for
        U-Nets where as many tiles of equal size do.
    region : side in pixels, rounded up to a multiple of 256, of the parts that an image is translated in, each on its
        own; None for parts of `LEAST_REGION_PX` to twice that, or more where a network sees so far that smaller ones
        would cost too much.
    max_memory : bytes that the working set may take, or a text such as "2GB"; None for half of what is free.
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

    scheme: Annotated[
        Scheme,
        Setting(
            "How a large image is cut up; exact tiles give the result of the whole image, blended ones nearly.",
            group="Tiles and memory",
        ),
    ] = "auto"
    tile: Annotated[
        int | None,
        Field(ge=MIN_TILE_PX, le=2**20),
        Setting(
            "Side of the tiles that are computed at a time, at most.", step=64, unit="px", group="Tiles and memory"
        ),
    ] = None
    region: Annotated[
        int | None,
        Field(ge=MIN_REGION_PX, le=2**30),
        Setting(
            "Side of the parts that are finished one by one, and kept when a translation is gone on with.",
            step=256,
            unit="px",
            unset=f"{LEAST_REGION_PX} or more",
            group="Tiles and memory",
        ),
    ] = None
    max_memory: Annotated[
        MemoryBytes | None,
        Setting(
            "Memory that a translation may take, such as 2GB.",
            label="Memory",
            unset="half of what is free",
            group="Tiles and memory",
        ),
    ] = None
    statistics: Annotated[
        Statistics | None,
        Setting("What a translation evens out brightness and contrast by.", unset="the model's", group="Model"),
    ] = None
    dropout: Annotated[
        DropoutMode | None,
        Setting(
            "Whether layers that drop values at random do so in this translation.", unset="the model's", group="Model"
        ),
    ] = None
    dropout_samples: Annotated[
        int,
        Field(ge=1, le=MAX_DROPOUT_SAMPLES),
        Setting(
            "Translate so many times with other values dropped, for their mean and how much results vary.",
            group="Model",
        ),
    ] = 1
    seed: Annotated[
        int | None,
        Field(ge=0, le=2**63 - 1),
        Setting("Translations of one number drop the same values.", unset="the model's", group="Model"),
    ] = None
    device: Annotated[
        Device,
        Setting("What computes, the processor or a GPU: auto, cpu, cuda, cuda:N or mps.", group="What it runs on"),
    ] = "auto"
    precision: Annotated[
        TranslationPrecision,
        Setting(
            "How exactly numbers are computed; 16 bits are faster on many devices, 8 (int8) on CPUs for models that "
            "are ready for it.",
            group="What it runs on",
        ),
    ] = "auto"
    backend: Annotated[
        Backend, Setting("Library that runs the network; some are faster than PyTorch.", group="What it runs on")
    ] = "auto"
    alpha: Annotated[AlphaChoice, Setting("What an alpha channel of the images is.", group="Images")] = "auto"
    channels: Annotated[
        Channels | None,
        Setting(
            "Channels of the image to take, counted from 0, in the order of the model's.",
            unset="by their names",
            group="Images",
        ),
    ] = None
    convert_values: Annotated[
        ValueConversion,
        Setting(
            "What happens to pixels of another type than the model's, such as 16-bit for 8-bit.",
            label="Values of another type",
            group="Images",
        ),
    ] = "refuse"
    match_pixel_size: Annotated[
        bool,
        Setting("Rescale to the model's pixel size, and the result back.", option="--match-pixel-size", group="Images"),
    ] = False
    split_level: Annotated[
        int | None,
        Field(ge=1, le=9),
        Setting(
            "How deep the U-Net is computed in tiles; it changes time and memory, not the result.",
            group="Tiles and memory",
        ),
    ] = None
    scratch: Annotated[
        AnyPath | None,
        Setting(
            "Folder for what does not fit into memory while it is computed.",
            unset="that of the output",
            label="Scratch folder",
            group="Tiles and memory",
        ),
    ] = None
    engines: Annotated[
        AnyPath | None,
        Setting(
            "Folder of TensorRT engines made by compile --architectures.",
            unset="none",
            label="Engines in",
            group="What it runs on",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.scratch is not None and not self.scratch.is_dir():
            raise SettingsError(f"scratch {self.scratch} is no folder; give one that exists, on a disk with room")
        if self.scheme == "exact" and self.statistics == "tile":
            raise SettingsError(
                "statistics 'tile' depend on the tiling, so scheme 'exact' cannot give them; choose scheme blend, "
                "or statistics image"
            )
        if self.precision == "int8" and (self.engines is not None or self.backend not in ("auto", "openvino")):
            raise SettingsError("precision int8 runs with OpenVINO; leave backend and engines out, or choose another")
        if self.engines is not None and self.backend in ("torch", "openvino"):
            raise SettingsError(f"engines are for TensorRT, not for backend {self.backend}; leave one of them out")
        if self.dropout_samples > 1 and self.dropout == "off":
            raise SettingsError("dropout_samples above 1 need noise; set dropout to 'seeded'")


@validated
class CompileRequest:
    """What to compile for: a package and precision, and images of up to `size` pixels in tiles of `tile`.

    OpenVINO compiles when a translation begins; what is made ahead for it is a model that can compute in int8.
    """

    backend: Annotated[
        Literal["tensorrt", "tensorrt-rtx", "openvino"],
        Setting("Package to compile with; openvino where precision is int8."),
    ] = "tensorrt-rtx"
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8"], Setting("Arithmetic of the engines, or int8 for openvino.")
    ] = "fp16"
    size: Annotated[
        int, Field(ge=256, le=2**17), Setting("Side of the largest image to be translated, in pixels.", step=256)
    ] = 8192
    tile: Annotated[int | None, Field(ge=MIN_TILE_PX, le=2**20), Setting("Side of the tiles in pixels.", step=64)] = (
        None
    )

    def __post_init__(self) -> None:
        if (self.backend == "openvino") != (self.precision == "int8"):
            raise SettingsError(
                f"backend {self.backend} with precision {self.precision}: int8 is made ready for openvino, and nothing "
                "else is; choose both or neither of them"
            )

    @property
    def engines(self) -> tuple[Flavour, EnginePrecision]:
        """Package and precision of engines."""
        assert self.backend != "openvino"
        assert self.precision != "int8"
        return self.backend, self.precision


def resolved_inference(settings: TranslationSettings, model: Model) -> InferenceConfig:
    """The model's inference mode with the changes that the settings ask for.

    Raises
    ------
    SettingsError
        The generator cannot run in this mode, or dropout samples are asked of one without noise.
    """
    from pix2pix_training.intensity import CategoryMapping  # with torch, which the help of a command does without

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
        raise SettingsError("dropout samples are averaged, and this model's targets are categories; leave it at 1")
    seed = own.seed if settings.seed is None else settings.seed
    return InferenceConfig(statistics=statistics, dropout=dropout, seed=seed)
