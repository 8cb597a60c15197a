"""Settings of networks, objective and training: frozen, validated, each default stated once.

`to_toml` and `from_dict` carry them to and from ``config.toml`` and the header of a model file.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pix2pix_training.errors import SettingsError

Architecture = Literal["unet", "encoder-decoder", "resnet"]
Norm = Literal["batch", "batch-renorm", "instance", "none"]
Decoder = Literal["transposed", "resize", "pixel-shuffle"]
DropoutPlacement = Literal["none", "paper", "reference"]
OutputActivation = Literal["tanh", "linear"]
GanMode = Literal["vanilla", "lsgan", "wgangp", "hinge", "none"]
Statistics = Literal["running", "image", "tile"]
DropoutMode = Literal["off", "seeded"]
Schedule = Literal["constant", "linear"]
Precision = Literal["fp32", "bf16", "fp16", "auto"]
Flips = Literal["none", "horizontal", "both"]
Placement = Literal["uniform", "content"]
Preset = Literal["seamless", "paper"]
Keep = Literal["best", "last"]
Values = Literal["auto", "dtype", "training-set", "image", "categories"]


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Shape of a generator network.

    `depth` counts the down-samplings of a U-Net or encoder-decoder; `blocks` the residual blocks of a ResNet.
    `dropout` places the noise after the deepest three decoder norms (paper: d1 to d3), or where the PyTorch
    reference has it (d2 to d4 at depth 8; inside the residual blocks of a ResNet). `decoder` is how a U-Net or
    encoder-decoder doubles the resolution: transposed convolutions as in the paper, or, against their checkerboard,
    nearest neighbours or a pixel shuffle followed by a 3x3 convolution.
    """

    architecture: Architecture = "unet"
    source_channels: int = 3
    target_channels: int = 3
    base_width: int = 64
    depth: int = 8
    blocks: int = 9
    norm: Norm = "batch"
    dropout: DropoutPlacement = "none"
    decoder: Decoder = "transposed"
    output: OutputActivation = "tanh"

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_range("source_channels", self.source_channels, 1, 1024)
        _check_range("target_channels", self.target_channels, 1, 1024)
        _check_range("base_width", self.base_width, 1, 1024)
        _check_range("depth", self.depth, 2, 10)
        _check_range("blocks", self.blocks, 0, 64)
        if self.architecture == "resnet" and self.decoder != "transposed":
            raise SettingsError(
                f"decoder {self.decoder!r} is for a U-Net or encoder-decoder; leave it out for a ResNet"
            )

    @property
    def stride(self) -> int:
        """Input height and width must be multiples of this."""
        return 4 if self.architecture == "resnet" else 2**self.depth

    def feature_channels(self, level: int) -> int:
        """Channels of a U-Net encoder's features at `level` (0: of the image)."""
        return self.source_channels if level == 0 else self.base_width * min(2 ** (level - 1), 8)

    def up_channels(self, level: int) -> int:
        """Channels of a U-Net decoder's output at the resolution of `level` (0: of the result)."""
        return self.target_channels if level == 0 else self.feature_channels(level)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Shape of a discriminator: `layers` 1 to 5 have receptive fields of 16, 34, 70, 142 and 286 pixels.

    `layers` 0 is the PixelGAN (1 x 1). With several `scales` there is one such network for the image and one for each
    image half as large as the one before (pix2pixHD, Wang 2018, section 3.2). `spectral_norm` divides the weights of
    all convolutions by their largest singular value (Miyato 2018).
    """

    layers: int = 3
    base_width: int = 64
    norm: Norm = "batch"
    scales: int = 1
    spectral_norm: bool = False

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_range("layers", self.layers, 0, 6)
        _check_range("base_width", self.base_width, 1, 1024)
        _check_range("scales", self.scales, 1, 3)

    @property
    def smallest_patch(self) -> int:
        """Side of the smallest image for which every scale has a logit."""
        finest = 1 if self.layers == 0 else 3 << self.layers
        return finest << (self.scales - 1)


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """``G* = arg min_G max_D  gan_weight * L_cGAN(G, D) + l1_weight * L_L1(G)`` (paper, section 3.1, equation 4).

    `gan_mode` "none" leaves L1 alone; `conditional` False hides the source from the discriminator.
    `feature_matching_weight` adds the distance of the discriminator's features between target and translation
    (pix2pixHD, equation 4, where it is 10).
    """

    gan_mode: GanMode = "vanilla"
    gan_weight: float = 1.0
    l1_weight: float = 100.0
    feature_matching_weight: float = 0.0
    conditional: bool = True

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_range("gan_weight", self.gan_weight, 0.0, 1e6)
        _check_range("l1_weight", self.l1_weight, 0.0, 1e6)
        _check_range("feature_matching_weight", self.feature_matching_weight, 0.0, 1e6)
        if self.gan_mode == "none" and self.l1_weight == 0:
            raise SettingsError(
                "l1_weight is 0 and gan_mode is 'none', so there is nothing to train on; set one of them"
            )
        if self.gan_mode == "none" and self.feature_matching_weight > 0:
            raise SettingsError(
                "feature_matching_weight needs a discriminator, and gan_mode is 'none'; set one of them"
            )


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Random changes of a patch: those of its geometry are the same for source and target, others are of the source.

    `scale_jitter` enlarges the image before the crop, as 286 -> 256 of the reference does (286 / 256 = 1.1171875).
    `intensity_jitter` changes contrast and brightness of a source that is not made of categories, by up to so many
    standard deviations of what they are among the images to train on.
    """

    flips: Flips = "horizontal"
    quarter_turns: bool = False
    scale_jitter: float = 1.0
    intensity_jitter: float = 0.0

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_range("scale_jitter", self.scale_jitter, 1.0, 4.0)
        _check_range("intensity_jitter", self.intensity_jitter, 0.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Which patches are taken from the images.

    `placement` "uniform" makes all positions equally likely, "content" as likely as the target varies there.
    `skip_constant` draws patches again where source or target has a single value.
    """

    placement: Placement = "uniform"
    skip_constant: bool = True

    def __post_init__(self) -> None:
        _check_choices(self)


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """The function that a trained generator stands for at translation.

    `statistics`: norm layers use running averages of training, or the statistics of the whole image, or of each tile.
    `dropout`: "off", or noise drawn from `seed` and the image coordinate.
    """

    statistics: Statistics = "running"
    dropout: DropoutMode = "off"
    seed: int = 0

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_range("seed", self.seed, 0, 2**63 - 1)


@dataclass(frozen=True, kw_only=True)
class Credits:
    """Whom a model comes from and how it may be used; free text, kept in the model file for people to read.

    `license` is an SPDX identifier such as CC-BY-4.0; `citation` names a publication, best with its DOI.
    """

    authors: tuple[str, ...] = ()
    license: str | None = None
    citation: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything that decides a training run, data apart. One of `epochs`, `steps`, `minutes` is its length.

    `keep` chooses the model that is saved: the best by validation MAE, which favours smooth results, or the last.
    `ema_decay` validates and saves the generator with the moving average of its weights, over about 1 / (1 - ema_decay)
    steps (0: as they are). `patience` ends the run after so many validations without a better MAE (0: never). `compile`
    has PyTorch compile the networks, which takes a minute or more and makes steps faster on some devices.
    """

    preset: Preset = "seamless"
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    credits: Credits = field(default_factory=Credits)
    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    patch_size: int = 256
    batch_size: int = 1
    learning_rate: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    schedule: Schedule = "constant"
    source_values: Values = "auto"
    target_values: Values = "auto"
    precision: Precision = "auto"
    seed: int = 0
    checkpoint_every: int = 500
    validate_every: int = 500
    keep: Keep = "best"
    validation_images: int = 16
    validation_size: int = 512
    ema_decay: float = 0.0
    patience: int = 0
    compile: bool = False

    def __post_init__(self) -> None:
        _check_choices(self)
        lengths = [name for name in ("epochs", "steps", "minutes") if getattr(self, name) is not None]
        if len(lengths) > 1:
            raise SettingsError(
                f"{' and '.join(lengths)} are both given; a run has one length, so give only one of them"
            )
        for name in ("epochs", "steps", "patch_size", "batch_size", "checkpoint_every", "validate_every"):
            if getattr(self, name) is not None:
                _check_range(name, getattr(self, name), 1, 10**9)
        for name in ("validation_images", "validation_size", "seed", "patience"):
            _check_range(name, getattr(self, name), 0, 2**63 - 1)
        _check_range("batch_size", self.batch_size, 1, 4096)
        _check_range("learning_rate", self.learning_rate, 0.0, 1.0)
        _check_range("ema_decay", self.ema_decay, 0.0, 0.999999)
        if self.minutes is not None:
            _check_range("minutes", self.minutes, 1e-3, 10**6)
        if self.generator.norm == "instance" and self.inference.statistics == "running":
            raise SettingsError("instance norm keeps no running statistics; set inference statistics to 'image'")
        if self.compile and self.objective.gan_mode == "wgangp":
            raise SettingsError(
                "compile cannot take the gradient of a gradient, which wgangp needs; leave compile out, or choose "
                "another gan_mode"
            )
        smallest = self.discriminator.smallest_patch
        if self.objective.gan_mode != "none" and self.patch_size < smallest:
            raise SettingsError(
                f"patch_size {self.patch_size} is too small for this discriminator, which needs {smallest}; choose a "
                "larger patch, or fewer layers or scales of the discriminator"
            )
        stride = self.generator.stride
        if self.patch_size % stride or self.patch_size < stride:
            raise SettingsError(
                f"patch_size {self.patch_size} is not a multiple of {stride}, which this generator needs; choose "
                f"{max(stride, self.patch_size // stride * stride)}"
                + (", or a smaller depth" if self.generator.architecture != "resnet" else "")
            )


DEFAULT_EPOCHS = 200
JITTER_OF_THE_PAPER = 286 / 256


def preset(name: Preset) -> TrainingConfig:
    """Settings of a preset.

    "paper": U-Net-256 with dropout noise, 70 x 70 PatchGAN, batch 1, 286 -> 256 jitter, test-time mode of the paper.
    "seamless": batch renorm with running statistics, twice the paper's rate, averaged weights, and intensities that are
    jittered as images differ, the best of the screening in docs/quality.md; no noise. For other patches than of 256
    pixels, `usual_depth` says how often it down-samples.
    """
    if name == "paper":
        return TrainingConfig(
            preset="paper",
            generator=GeneratorConfig(dropout="paper"),
            augmentation=AugmentationConfig(scale_jitter=JITTER_OF_THE_PAPER),
            inference=InferenceConfig(statistics="image", dropout="seeded"),
        )
    if name == "seamless":
        return TrainingConfig(
            preset="seamless",
            generator=GeneratorConfig(norm="batch-renorm"),
            inference=InferenceConfig(statistics="running"),
            augmentation=AugmentationConfig(intensity_jitter=2.5),
            learning_rate=4e-4,
            ema_decay=0.999,
        )
    raise SettingsError(f"preset {name!r} is not known; choose seamless or paper")


def usual_depth(name: Preset, patch_size: int) -> int:
    """Down-samplings of a preset for patches of `patch_size` pixels.

    "paper" has eight, "seamless" up to eight, as many as the patch can be halved, but at least five.
    """
    if name == "paper":
        return 8
    halvings = (patch_size & -patch_size).bit_length() - 1
    return min(8, max(5, halvings))


T = TypeVar("T")


def from_dict(cls: type[T], data: Mapping[str, Any], *, where: str = "settings") -> T:
    """Build a settings dataclass from plain data, checking names and types; nested dataclasses from nested tables.

    Raises `SettingsError` that names the entry.
    """
    if not isinstance(data, Mapping):
        raise SettingsError(f"{where} should be a table of settings, not {type(data).__name__}")
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    for name in data:
        if name not in known:
            raise SettingsError(f"{where} has an unknown entry {name!r}; known are {', '.join(sorted(known))}")
    for f in fields(cls):  # type: ignore[arg-type]
        if f.name not in data and f.default is MISSING and f.default_factory is MISSING:
            raise SettingsError(f"{where} lacks the entry {f.name!r}")
    return cls(**{name: _convert(hints[name], value, f"{where}.{name}") for name, value in data.items()})


def to_toml(config: Any) -> str:
    """A settings dataclass as TOML; entries that are None are left out."""
    return "\n".join(_toml_lines(asdict(config), prefix="")) + "\n"


def _toml_lines(table: Mapping[str, Any], prefix: str) -> list[str]:
    lines = [f"{name} = {_toml_value(value)}" for name, value in table.items() if not isinstance(value, dict | None)]
    for name, value in table.items():
        if isinstance(value, dict):
            lines += ["", f"[{prefix}{name}]", *_toml_lines(value, f"{prefix}{name}.")]
    return lines


def _toml_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else repr(value)


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(kind):
            return None
        return _convert(next(a for a in get_args(kind) if a is not type(None)), value, where)
    if origin is Literal:
        if value not in get_args(kind):
            raise SettingsError(f"{where} is {value!r}; choose one of {', '.join(map(str, get_args(kind)))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise SettingsError(f"{where} should be a list, not {type(value).__name__}")
        args = get_args(kind)
        item_kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(item_kinds) != len(value):
            raise SettingsError(f"{where} should have {len(item_kinds)} entries, not {len(value)}")
        return tuple(_convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(item_kinds, value, strict=True)))
    if is_dataclass(kind):
        return from_dict(kind, value, where=where)  # type: ignore[arg-type]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is not Any and (type(value) is not kind):
        raise SettingsError(f"{where} is {value!r}, a {type(value).__name__}; it should be a {kind.__name__}")
    return value


def _check_choices(config: Any) -> None:
    """Refuse a value that is none of the choices of a ``Literal`` entry."""
    for name, kind in get_type_hints(type(config)).items():
        if get_origin(kind) is Literal and getattr(config, name) not in get_args(kind):
            choices = ", ".join(map(str, get_args(kind)))
            raise SettingsError(f"{name} is {getattr(config, name)!r}; choose one of {choices}")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SettingsError(f"{name} is {value}; it must lie between {low} and {high}")
