"""Settings of networks, objective and training: frozen, validated, each default stated once.

Each setting says in a few words what it is; the options of the command line are made of that (`setting_options`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, assert_never, get_args, get_origin, get_type_hints

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
Values = Literal["auto", "dtype", "training-set", "image", "categories", "foreground"]


@dataclass(frozen=True)
class Setting:
    """What a setting is in a few words, and its option on the command line where that is not called like the setting.

    The option of a truth value is ``--on/--off``, else ``--name/--no-name``.
    """

    help: str
    option: str | None = None


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Shape of a generator network.

    `depth` counts the down-samplings of a U-Net or encoder-decoder; `blocks` the residual blocks of a ResNet.
    `dropout` places the noise after the deepest three decoder norms (paper: d1 to d3), or where the PyTorch
    reference has it (d2 to d4 at depth 8; inside the residual blocks of a ResNet). `decoder` is how a U-Net or
    encoder-decoder doubles the resolution: transposed convolutions as in the paper, or, against their checkerboard,
    nearest neighbours or a pixel shuffle followed by a 3x3 convolution.
    """

    architecture: Annotated[Architecture, Setting("The generator:")] = "unet"
    source_channels: int = 3
    target_channels: int = 3
    base_width: Annotated[int, Setting("Channels of the first layer, of both networks.")] = 64
    depth: Annotated[int, Setting("Down-samplings of the U-Net.")] = 8
    blocks: Annotated[int, Setting("Residual blocks of a ResNet.")] = 9
    norm: Annotated[Norm, Setting("Norm layers of the generator:")] = "batch"
    dropout: Annotated[DropoutPlacement, Setting("Its dropout layers:", "--dropout-layers")] = "none"
    decoder: Annotated[Decoder, Setting("How the U-Net doubles the resolution:")] = "transposed"
    output: Annotated[OutputActivation, Setting("What the generator ends with:", "--output-activation")] = "tanh"

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

    layers: Annotated[int, Setting("1 to 5: 16 to 286 pixels; 0: PixelGAN.", "--discriminator-layers")] = 3
    base_width: Annotated[int, Setting("If other than --base-width.", "--discriminator-base-width")] = 64
    norm: Annotated[Norm, Setting("Norm layers of the discriminator:", "--discriminator-norm")] = "batch"
    scales: Annotated[int, Setting("Each for an image half as large.", "--discriminator-scales")] = 1
    spectral_norm: Annotated[bool, Setting("Spectral norm in the discriminator.")] = False

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

    gan_mode: Annotated[GanMode, Setting("Adversarial loss (none: L1 alone):")] = "vanilla"
    gan_weight: Annotated[float, Setting("Weight of the adversarial loss.")] = 1.0
    l1_weight: Annotated[float, Setting("Weight of the L1 loss.")] = 100.0
    feature_matching_weight: Annotated[float, Setting("Weight of the likeness of the discriminator's features.")] = 0.0
    conditional: Annotated[bool, Setting("The discriminator sees the source.", "--conditional/--unconditional")] = True

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

    flips: Annotated[Flips, Setting("Random flips of patches:")] = "horizontal"
    quarter_turns: Annotated[bool, Setting("Random quarter turns of patches.")] = False
    scale_jitter: Annotated[float, Setting("Enlarge images by this before patches are cut.")] = 1.0
    intensity_jitter: Annotated[float, Setting("Vary contrast and brightness by so many deviations.")] = 0.0

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

    placement: Annotated[Placement, Setting("Patches from anywhere, or where targets vary:", "--sampling")] = "uniform"
    skip_constant: Annotated[bool, Setting("Leave out constant patches.", "--skip-constant/--keep-constant")] = True

    def __post_init__(self) -> None:
        _check_choices(self)


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """The function that a trained generator stands for at translation.

    `statistics`: norm layers use running averages of training, or the statistics of the whole image, or of each tile.
    `dropout`: "off", or noise drawn from `seed` and the image coordinate.
    """

    statistics: Annotated[Statistics, Setting("Norms of the model at translation use:")] = "running"
    dropout: Annotated[DropoutMode, Setting("Noise of dropout layers at translation:")] = "off"
    seed: Annotated[int, Setting("Seed of the noise at translation.", "--dropout-seed")] = 0

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_range("seed", self.seed, 0, 2**63 - 1)


@dataclass(frozen=True, kw_only=True)
class Credits:
    """Whom a model comes from and how it may be used; free text, kept in the model file for people to read.

    `license` is an SPDX identifier such as CC-BY-4.0; `citation` names a publication, best with its DOI.
    """

    authors: Annotated[tuple[str, ...], Setting("Author of the model; again for more.", "--author")] = ()
    license: Annotated[str | None, Setting("Licence of the model, such as CC-BY-4.0 (SPDX).")] = None
    citation: Annotated[str | None, Setting("Publication to cite, with its DOI.")] = None


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything that decides a training run, data apart. One of `epochs`, `steps`, `minutes` is its length.

    `keep` chooses the model that is saved: the best by validation MAE, which favours smooth results, or the last.
    `ema_decay` validates and saves the generator with the moving average of its weights, over about 1 / (1 - ema_decay)
    steps (0: as they are). `patience` ends the run after so many validations without a better MAE (0: never). `compile`
    has PyTorch compile the networks, which takes a minute or more and makes steps faster on some devices.
    """

    preset: Annotated[Preset, Setting("Settings to start from:")] = "seamless"
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    credits: Credits = field(default_factory=Credits)
    epochs: Annotated[int | None, Setting("Length of the run in epochs (200 if no length is given).")] = None
    steps: Annotated[int | None, Setting("Length of the run in steps.")] = None
    minutes: Annotated[float | None, Setting("Length of the run in minutes.")] = None
    patch_size: Annotated[int, Setting("Side of a training patch in pixels.")] = 256
    batch_size: Annotated[int, Setting("Patches per step.")] = 1
    learning_rate: Annotated[float, Setting("Step width of the optimisers.")] = 2e-4
    beta1: Annotated[float, Setting("Of the optimisers: decay of the mean gradient.")] = 0.5
    beta2: Annotated[float, Setting("Of the optimisers: decay of the mean squared gradient.")] = 0.999
    schedule: Annotated[Schedule, Setting("Learning rate over the run:")] = "constant"
    source_values: Annotated[Values, Setting("How values of sources are mapped:")] = "auto"
    target_values: Annotated[Values, Setting("How values of targets are mapped:")] = "auto"
    precision: Annotated[Precision, Setting("Arithmetic of the training:")] = "auto"
    seed: Annotated[int, Setting("Makes runs repeatable.")] = 0
    checkpoint_every: Annotated[int, Setting("Steps between checkpoints.")] = 500
    validate_every: Annotated[int, Setting("Steps between validations.")] = 500
    keep: Annotated[Keep, Setting("Model to keep, by validation MAE:")] = "best"
    validation_images: Annotated[int, Setting("Images that are scored at most.")] = 16
    validation_size: Annotated[int, Setting("Central pixels of them that are scored, per side.")] = 512
    ema_decay: Annotated[float, Setting("Average the generator's weights, for example 0.999.")] = 0.0
    patience: Annotated[int, Setting("Stop after so many validations without a better MAE.")] = 0
    compile: Annotated[bool, Setting("Have PyTorch compile the networks; for long runs.")] = False

    def __post_init__(self) -> None:
        _check_choices(self)
        lengths = [name for name in ("epochs", "steps", "minutes") if getattr(self, name) is not None]
        if len(lengths) > 1:
            raise SettingsError(
                f"{' and '.join(lengths)} are both given; a run has one length, so give only one of them"
            )
        counts = (
            "epochs",
            "steps",
            "patch_size",
            "batch_size",
            "checkpoint_every",
            "validate_every",
            "validation_size",
        )
        for name in counts:
            if getattr(self, name) is not None:
                _check_range(name, getattr(self, name), 1, 10**9)
        for name in ("validation_images", "seed", "patience"):
            _check_range(name, getattr(self, name), 0, 2**63 - 1)
        _check_range("batch_size", self.batch_size, 1, 4096)
        _check_range("learning_rate", self.learning_rate, 0.0, 1.0)
        _check_range("beta1", self.beta1, 0.0, 0.999999)
        _check_range("beta2", self.beta2, 0.0, 0.999999999)
        _check_range("ema_decay", self.ema_decay, 0.0, 0.999999)
        if self.minutes is not None:
            _check_range("minutes", self.minutes, 1e-3, 10**6)
        if self.generator.norm == "instance" and self.inference.statistics == "running":
            raise SettingsError("instance norm keeps no running statistics; set statistics to 'image'")
        if self.compile and self.objective.gan_mode == "wgangp":
            raise SettingsError(
                "compile cannot take the gradient of a gradient, which wgangp needs; leave compile out, or choose "
                "another gan_mode"
            )
        self._check_patch_size()

    def _check_patch_size(self) -> None:
        stride, needed = self.generator.stride, self._smallest_seen()
        smallest = -(-max(stride, needed) // stride) * stride
        if self.patch_size < needed:
            raise SettingsError(
                f"patch_size {self.patch_size} is too small for this discriminator, which needs {needed}; choose "
                f"{smallest} or more, or fewer layers or scales of the discriminator"
            )
        if self.patch_size % stride:
            raise SettingsError(
                f"patch_size {self.patch_size} is not a multiple of {stride}, which this generator needs; choose "
                f"{max(smallest, self.patch_size // stride * stride)}"
                + (", or a smaller depth" if self.generator.architecture != "resnet" else "")
            )

    def _smallest_seen(self) -> int:
        """Side of the smallest patch that gives the discriminator something to judge."""
        return 1 if self.objective.gan_mode == "none" else self.discriminator.smallest_patch

    def patch_within(self, room_px: int) -> TrainingConfig | None:
        """These settings with the largest patch of at most `room_px`, of fewer down-samplings if need be.

        None where a patch would be too small for any generator or the discriminator.
        """
        tried: list[tuple[int, int]] = []
        if self.generator.architecture == "resnet":
            tried.append((room_px // 4 * 4, self.generator.depth))
        elif self.preset == "seamless" and (size := room_px // 32 * 32):
            tried.append((size, usual_depth("seamless", size)))
        if self.generator.architecture != "resnet":
            tried += [(room_px >> depth << depth, depth) for depth in range(self.generator.depth, 1, -1)]
        for size, depth in tried:
            if size >= max(self._smallest_seen(), 1):
                return replace(self, patch_size=size, generator=replace(self.generator, depth=depth))
        return None


DEFAULT_EPOCHS = 200
JITTER_OF_THE_PAPER = 286 / 256


def preset(name: Preset) -> TrainingConfig:
    """Settings of a preset.

    "paper": U-Net-256 with dropout noise, 70 x 70 PatchGAN, batch 1, 286 -> 256 jitter, test-time mode of the paper.
    "seamless": batch renorm with running statistics, twice the paper's rate, averaged weights, and intensities that are
    jittered as images differ, the best of the screening in docs/quality.md; no noise. For other patches than of 256
    pixels, `usual_depth` says how often it down-samples.
    """
    match name:
        case "paper":
            return TrainingConfig(
                preset="paper",
                generator=GeneratorConfig(dropout="paper"),
                augmentation=AugmentationConfig(scale_jitter=JITTER_OF_THE_PAPER),
                inference=InferenceConfig(statistics="image", dropout="seeded"),
            )
        case "seamless":
            return TrainingConfig(
                preset="seamless",
                generator=GeneratorConfig(norm="batch-renorm"),
                inference=InferenceConfig(statistics="running"),
                augmentation=AugmentationConfig(intensity_jitter=2.5),
                learning_rate=4e-4,
                ema_decay=0.999,
            )
        case _:
            raise SettingsError(f"preset {name!r} is not known; choose {' or '.join(get_args(Preset))}")


def usual_depth(name: Preset, patch_size: int) -> int:
    """Down-samplings of a preset for patches of `patch_size` pixels.

    "paper" has eight, "seamless" up to eight, as many as the patch can be halved, but at least five.
    """
    match name:
        case "paper":
            return 8
        case "seamless":
            halvings = (patch_size & -patch_size).bit_length() - 1
            return min(8, max(5, halvings))
        case _:
            assert_never(name)


def _check_choices(config: Any) -> None:
    """Refuse a value that is none of the choices of a ``Literal`` entry."""
    for name, kind in get_type_hints(type(config)).items():
        if get_origin(kind) is Literal and getattr(config, name) not in get_args(kind):
            choices = ", ".join(map(str, get_args(kind)))
            raise SettingsError(f"{name} is {getattr(config, name)!r}; choose one of {choices}")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SettingsError(f"{name} is {value}; it must lie between {low} and {high}")
