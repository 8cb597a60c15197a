"""Settings of a run: frozen, validated, each stated once; of its objective here, the others where the imports say.

A new setting is one field of one of these classes: its type, limits, default, and a `Setting` with what people read.
The option of the command line, the row of the form, the command that the form copies, and the entry in a TOML file are
made of that (`setting_options`).
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated

from pydantic import Field

from pix2pix_training.choices import (
    Align,
    BestBy,
    GanMode,
    Keep,
    Precision,
    Preset,
    Schedule,
    Values,
)
from pix2pix_training.errors import SettingsError
from pix2pix_training.inference_config import Credits, InferenceConfig
from pix2pix_training.network_config import DiscriminatorConfig, GeneratorConfig
from pix2pix_training.patch_config import AugmentationConfig, SamplingConfig
from pix2pix_training.validated import LARGEST_INTEGER, Setting, validated

MOST_TOLERANCE_PX = 8
SSIM_WINDOW_PX = 11
"""Side of the window in which SSIM compares images."""
RECONSTRUCTION_TERMS = {
    "G_PYR": "pyramid_weight",
    "G_SSIM": "ssim_weight",
    "G_CE": "cross_entropy_weight",
    "G_DICE": "dice_weight",
}
"""Terms of the objective beside L1, as ``metrics.csv`` calls them, and the settings that weigh them."""


@validated
class ObjectiveConfig:
    """``G* = arg min_G max_D  gan_weight * L_cGAN(G, D) + l1_weight * L_L1(G)`` (paper, section 3.1, equation 4).

    `gan_mode` "none" leaves L1 alone; `conditional` False hides the source from the discriminator. Where its judgement
    has no weight there is no discriminator (`is_adversarial`).
    `feature_matching_weight` adds the distance of the discriminator's features between target and translation
    (pix2pixHD, equation 4, where it is 10). The other weights are of terms that compare pixels, see `reconstruction`;
    `cross_entropy_weight` and `dice_weight` are for targets of categories. All terms compare each patch with its target
    where L1 is least, up to `tolerance` pixels away along each axis (`tolerance`).
    """

    gan_mode: Annotated[
        GanMode,
        Setting(
            "How results are rewarded for looking real; with none only being close to the target counts.",
            label="Adversarial loss",
        ),
    ] = "vanilla"
    gan_weight: Annotated[
        float, Field(ge=0, le=1e6), Setting("How much looking real counts; 0: not at all.", label="Its weight")
    ] = 1.0
    l1_weight: Annotated[
        float,
        Field(ge=0, le=1e6),
        Setting("How much being close to the target counts, pixel by pixel.", label="Weight of L1", step=10),
    ] = 100.0
    feature_matching_weight: Annotated[
        float,
        Field(ge=0, le=1e6),
        Setting(
            "How much it counts that the discriminator finds in results what it finds in targets; 0: not at all.",
            label="Feature matching",
        ),
    ] = 0.0
    l1_focus: Annotated[
        float,
        Field(ge=0, le=4),
        Setting("Above 0 large errors count for more, for dark targets with few objects."),
    ] = 0.0
    pyramid_weight: Annotated[
        float,
        Field(ge=0, le=1e6),
        Setting(
            "How much being close to the target counts in coarser images too; 0: not at all.",
            label="Coarse L1",
            step=10,
        ),
    ] = 0.0
    ssim_weight: Annotated[
        float,
        Field(ge=0, le=1e6),
        Setting("How much likeness of structure (MS-SSIM) counts; 0: not at all.", label="MS-SSIM", step=10),
    ] = 0.0
    cross_entropy_weight: Annotated[
        float,
        Field(ge=0, le=1e6),
        Setting(
            "For categories, how much the right one at each pixel counts; 0: not at all.",
            label="Cross-entropy",
            step=10,
        ),
    ] = 0.0
    dice_weight: Annotated[
        float,
        Field(ge=0, le=1e6),
        Setting(
            "For categories, how much overlap with the true areas (Dice) counts, of small ones too; 0: not at all.",
            label="Dice",
            step=10,
        ),
    ] = 0.0
    tolerance: Annotated[
        int,
        Field(ge=0, le=MOST_TOLERANCE_PX),
        Setting(
            "Compare each patch with its target where it fits best, up to so many pixels away, for targets that lie a "
            "little beside their sources, each differently; 0: where it lies.",
            unit="px",
        ),
    ] = 0
    conditional: Annotated[
        bool,
        Setting(
            "The discriminator sees the source too, and judges whether a result belongs to it.",
            label="Sees the source",
            option="--conditional/--unconditional",
        ),
    ] = True

    def __post_init__(self) -> None:
        if not self.is_adversarial and self.l1_weight == 0 and not self.has_reconstruction_terms:
            what = "gan_mode is 'none'" if self.gan_mode == "none" else "gan_weight is 0"
            raise SettingsError(f"l1_weight is 0 and {what}, so there is nothing to train on; set one of them")
        if self.gan_mode == "none" and self.feature_matching_weight > 0:
            raise SettingsError(
                "feature_matching_weight needs a discriminator, and gan_mode is 'none'; set one of them"
            )

    @property
    def is_adversarial(self) -> bool:
        """Whether there is a discriminator to train, whose judgement or features count."""
        return self.gan_mode != "none" and (self.gan_weight > 0 or self.feature_matching_weight > 0)

    @property
    def is_for_categories(self) -> bool:
        """Whether it has a term that only targets of categories have a meaning for."""
        return self.cross_entropy_weight > 0 or self.dice_weight > 0

    @property
    def has_reconstruction_terms(self) -> bool:
        """Whether a term beside L1 compares translation and target pixel by pixel."""
        return any(getattr(self, name) > 0 for name in RECONSTRUCTION_TERMS.values())


@validated
class TrainingConfig:
    """Everything that decides a training run, data apart. One of `epochs`, `steps`, `minutes` is its length.

    `keep` chooses the model that is saved: the best of the validations by `best_by`, or the last. MAE and PSNR favour
    smooth results. Where that score is undefined MAE decides. `patience` ends the run after so many validations without
    a better score (0: never). Where pairs are held out, the model that is kept gets an error map for the share
    `coverage` of pixels (0: none). `ema_decay` validates and saves the generator with the moving average of its
    weights, over about 1 / (1 - ema_decay) steps (0: as they are). `calibration` patches are what the running
    statistics of the generator that is validated and saved are measured on; those of training are of the weights of the
    steps before.
    `compile` has PyTorch compile the networks, which takes a
    minute or more and makes steps faster on some devices.
    """

    preset: Annotated[
        Preset,
        Setting(
            "Settings to start from; seamless to look real, paper as in the paper, faithful to be measured (denoising, "
            "label-free prediction, intensities)."
        ),
    ] = "seamless"
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    credits: Credits = field(default_factory=Credits)
    epochs: Annotated[
        int | None, Field(ge=1, le=10**9), Setting("Length of the run in epochs (200 if no length is given).")
    ] = None
    steps: Annotated[int | None, Field(ge=1, le=10**9), Setting("Length of the run in steps.")] = None
    minutes: Annotated[
        float | None,
        Field(ge=1e-3, le=10**6),
        Setting("Length of the run in minutes; width, patch and batch fit it where they are not given."),
    ] = None
    patch_size: Annotated[
        int,
        Field(ge=1, le=10**9),
        Setting(
            "Side of the patches that are learnt from; larger ones show more of the surroundings, and take longer.",
            step=32,
            unit="px",
        ),
    ] = 256
    batch_size: Annotated[
        int,
        Field(ge=1, le=4096),
        Setting("Patches that are looked at in each step; more make steps steadier, and longer."),
    ] = 1
    learning_rate: Annotated[
        float,
        Field(gt=0, le=1),
        Setting(
            "How much a step changes the networks; less where the curve jumps, more where it hardly moves.",
            step=1e-4,
            group="optimisers",
        ),
    ] = 2e-4
    beta1: Annotated[
        float,
        Field(ge=0, le=0.999999),
        Setting("How much a step keeps the direction of the steps before it.", step=0.1, group="optimisers"),
    ] = 0.5
    beta2: Annotated[
        float,
        Field(ge=0, le=0.999999999),
        Setting(
            "How slowly the size of steps follows the size of errors; hardly ever to be changed.",
            step=0.001,
            group="optimisers",
        ),
    ] = 0.999
    schedule: Annotated[
        Schedule,
        Setting("Whether steps change the networks as much until the end, or less and less.", group="optimisers"),
    ] = "constant"
    source_values: Annotated[
        Values, Setting("Whether values of sources are intensities, of which range, or categories.")
    ] = "auto"
    target_values: Annotated[
        Values,
        Setting(
            "Whether values of targets are intensities, of which range, or categories, as those of labels layers are."
        ),
    ] = "auto"
    align: Annotated[
        Align,
        Setting(
            "Lay each target on its source before training, where that is certain: shifted, or turned and stretched a "
            "little as well. Where each lies is written to alignment.csv.",
            label="Align pairs",
        ),
    ] = "none"
    precision: Annotated[
        Precision,
        Setting("How exactly numbers are computed; 16 bits are faster on many devices, and take less memory."),
    ] = "auto"
    seed: Annotated[
        int,
        Field(ge=0, le=LARGEST_INTEGER),
        Setting("Runs of one number begin with the same network and draw the same patches."),
    ] = 0
    checkpoint_every: Annotated[
        int,
        Field(ge=1, le=10**9),
        Setting("After so many steps the run is saved, to be gone on with after a crash.", step=100, unit="steps"),
    ] = 500
    validate_every: Annotated[
        int,
        Field(ge=1, le=10**9),
        Setting(
            "After so many steps held-out images are scored, and one is put into the run folder as a picture.",
            step=50,
            unit="steps",
            group="validation",
        ),
    ] = 500
    keep: Annotated[
        Keep,
        Setting(
            "Which model is saved: the one that did best on held-out images, or the last.",
            label="Model to keep",
            group="validation",
        ),
    ] = "best"
    best_by: Annotated[
        BestBy,
        Setting(
            "Score of held-out images by which the best model is chosen; MAE and PSNR favour smooth results.",
            group="validation",
        ),
    ] = "mae"
    validation_images: Annotated[
        int,
        Field(ge=0, le=LARGEST_INTEGER),
        Setting(
            "How many held-out images are scored at most; more take longer, and are surer.",
            label="Scored images",
            group="validation",
        ),
    ] = 16
    validation_size: Annotated[
        int,
        Field(ge=1, le=10**9),
        Setting(
            "Side of the square in the middle of a held-out image that is scored.",
            label="Scored side",
            step=64,
            unit="px",
            group="validation",
        ),
    ] = 512
    coverage: Annotated[
        float,
        Field(ge=0, le=0.999),
        Setting(
            "Share of pixels whose target lies within the interval of the error map; 0: learn no error map.",
            step=0.01,
            group="validation",
        ),
    ] = 0.9
    ema_decay: Annotated[
        float,
        Field(ge=0, le=0.999999),
        Setting(
            "Save a mean of the network over the last steps, which is steadier (0.999: about 1000 of them); 0: do not.",
            label="Weight average",
            step=0.001,
        ),
    ] = 0.0
    calibration: Annotated[
        int,
        Field(ge=0, le=100),
        Setting("Patches to measure running statistics on for validations and models; 0: as they are.", step=16),
    ] = 0
    patience: Annotated[
        int,
        Field(ge=0, le=LARGEST_INTEGER),
        Setting("Stop after so many validations without a better score; 0: never.", group="validation"),
    ] = 0
    compile: Annotated[
        bool,
        Setting(
            "Fit the networks to this device first; a minute or more, then faster steps on some.",
            label="Compile networks",
        ),
    ] = False

    def __post_init__(self) -> None:
        lengths = [name for name in ("epochs", "steps", "minutes") if getattr(self, name) is not None]
        if len(lengths) > 1:
            raise SettingsError(
                f"{' and '.join(lengths)} are both given; a run has one length, so give only one of them"
            )
        if self.generator.norm == "instance" and self.inference.statistics == "running":
            raise SettingsError("instance norm keeps no running statistics; set statistics to 'image'")
        if self.augmentation.adaptive and (not self.objective.is_adversarial or self.objective.gan_mode == "wgangp"):
            raise SettingsError(
                "adaptive augmentation needs a discriminator that tells real from fake, so another gan_mode than none "
                "and wgangp, and a gan_weight; or leave it out"
            )
        if self.compile and self.objective.is_adversarial and self.objective.gan_mode == "wgangp":
            raise SettingsError(
                "compile cannot take the gradient of a gradient, which wgangp needs; leave compile out, or choose "
                "another gan_mode"
            )
        if self.patch_size < 4 * self.objective.tolerance:
            raise SettingsError(
                f"tolerance {self.objective.tolerance} is too large for patch_size {self.patch_size}; choose at most "
                f"{self.patch_size // 4}, or larger patches"
            )
        self._check_patch_size()

    def _check_patch_size(self) -> None:
        stride, needed = self.generator.stride, self.smallest_seen
        smallest = -(-max(stride, needed) // stride) * stride
        if self.patch_size < needed:
            is_for_ssim = self.objective.ssim_weight > 0 and needed == SSIM_WINDOW_PX
            what = "ssim_weight" if is_for_ssim else "this discriminator"
            instead = "leave ssim_weight out" if is_for_ssim else "fewer layers or scales of the discriminator"
            raise SettingsError(
                f"patch_size {self.patch_size} is too small for {what}, which needs {needed}; choose {smallest} or "
                f"more, or {instead}"
            )
        if self.patch_size % stride:
            raise SettingsError(
                f"patch_size {self.patch_size} is not a multiple of {stride}, which this generator needs; choose "
                f"{max(smallest, self.patch_size // stride * stride)}"
                + (", or a smaller depth" if self.generator.architecture != "resnet" else "")
            )

    @property
    def smallest_seen(self) -> int:
        """Side of the smallest patch that gives the discriminator, and the windows of SSIM, something to judge."""
        windows = SSIM_WINDOW_PX if self.objective.ssim_weight > 0 else 1
        return max(windows, self.discriminator.smallest_patch) if self.objective.is_adversarial else windows
