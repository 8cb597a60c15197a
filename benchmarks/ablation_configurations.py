"""The ablations of the paper: which configuration stands in which row of which table, with the paper's own scores.

The paper's scores are on Cityscapes, its tables 1 to 3 (labels -> photos) and 6 (Isola et al. 2017, arXiv
1611.07004v3). Knows no images and trains nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pix2pix_training.choices import Architecture
from pix2pix_training.config import ObjectiveConfig, TrainingConfig
from pix2pix_training.network_config import DiscriminatorConfig
from pix2pix_training.presets import preset

Scores = tuple[float, float, float]
"""Per-pixel accuracy, per-class accuracy, class IoU."""

MAX_DEPTH = 8


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What an ablation varies; everything else is as in the preset "paper".

    `discriminator_layers` 0, 1, 3 and 5 have receptive fields of 1, 16, 70 and 286 pixels. `from_photos` learns labels
    from photos.
    """

    name: str
    caption: str
    objective: ObjectiveConfig
    architecture: Architecture = "unet"
    discriminator_layers: int = 3
    from_photos: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table: how the paper calls it there, the configuration, and the paper's scores."""

    label: str
    configuration: Configuration
    paper: Scores


@dataclass(frozen=True)
class Table:
    """One of the paper's tables; `name` is its short name on the command line."""

    name: str
    title: str
    rows: tuple[Row, ...]


_L1_CGAN = ObjectiveConfig()
_L1 = ObjectiveConfig(gan_mode="none")

L1 = Configuration(name="l1", caption="L1", objective=_L1)
GAN = Configuration(name="gan", caption="GAN", objective=ObjectiveConfig(l1_weight=0, conditional=False))
CGAN = Configuration(name="cgan", caption="cGAN", objective=ObjectiveConfig(l1_weight=0))
L1_GAN = Configuration(name="l1-gan", caption="L1+GAN", objective=ObjectiveConfig(conditional=False))
L1_CGAN = Configuration(name="l1-cgan", caption="L1+cGAN (U-Net, 70x70)", objective=_L1_CGAN)
ENCODER_DECODER_L1 = Configuration(
    name="encoder-decoder-l1", caption="encoder-decoder, L1", objective=_L1, architecture="encoder-decoder"
)
ENCODER_DECODER_L1_CGAN = Configuration(
    name="encoder-decoder-l1-cgan",
    caption="encoder-decoder, L1+cGAN",
    objective=_L1_CGAN,
    architecture="encoder-decoder",
)
PIXEL = Configuration(name="pixel", caption="L1+cGAN, D 1x1", objective=_L1_CGAN, discriminator_layers=0)
PATCH_16 = Configuration(name="patch-16", caption="L1+cGAN, D 16x16", objective=_L1_CGAN, discriminator_layers=1)
PATCH_286 = Configuration(name="patch-286", caption="L1+cGAN, D 286x286", objective=_L1_CGAN, discriminator_layers=5)

LABELS_L1 = Configuration(name="labels-l1", caption="photo -> labels, L1", objective=_L1, from_photos=True)
LABELS_CGAN = Configuration(
    name="labels-cgan", caption="photo -> labels, cGAN", objective=ObjectiveConfig(l1_weight=0), from_photos=True
)
LABELS_L1_CGAN = Configuration(
    name="labels-l1-cgan", caption="photo -> labels, L1+cGAN", objective=_L1_CGAN, from_photos=True
)

TABLES = (
    Table(
        "objective",
        "Objective (paper: table 1)",
        (
            Row("L1", L1, (0.42, 0.15, 0.11)),
            Row("GAN", GAN, (0.22, 0.05, 0.01)),
            Row("cGAN", CGAN, (0.57, 0.22, 0.16)),
            Row("L1+GAN", L1_GAN, (0.64, 0.20, 0.15)),
            Row("L1+cGAN", L1_CGAN, (0.66, 0.23, 0.17)),
        ),
    ),
    Table(
        "generator",
        "Generator (paper: table 2)",
        (
            Row("encoder-decoder, L1", ENCODER_DECODER_L1, (0.35, 0.12, 0.08)),
            Row("encoder-decoder, L1+cGAN", ENCODER_DECODER_L1_CGAN, (0.29, 0.09, 0.05)),
            Row("U-Net, L1", L1, (0.48, 0.18, 0.13)),
            Row("U-Net, L1+cGAN", L1_CGAN, (0.55, 0.20, 0.14)),
        ),
    ),
    Table(
        "receptive-field",
        "Receptive field of the discriminator (paper: table 3)",
        (
            Row("1 x 1", PIXEL, (0.39, 0.15, 0.10)),
            Row("16 x 16", PATCH_16, (0.65, 0.21, 0.17)),
            Row("70 x 70", L1_CGAN, (0.66, 0.23, 0.17)),
            Row("286 x 286", PATCH_286, (0.42, 0.16, 0.11)),
        ),
    ),
    Table(
        "labels",
        "Photo -> labels, by the nearest colour of a class (paper: table 6)",
        (
            Row("L1", LABELS_L1, (0.86, 0.42, 0.35)),
            Row("cGAN", LABELS_CGAN, (0.74, 0.28, 0.22)),
            Row("L1+cGAN", LABELS_L1_CGAN, (0.83, 0.36, 0.29)),
        ),
    ),
)

PAPER_REAL_PHOTOS: Scores = (0.80, 0.26, 0.21)
"""Of the paper's scorer on real photos (table 1, ground truth)."""


def distinct_configurations(tables: Iterable[Table]) -> list[Configuration]:
    """The configurations of all rows in order, each once however many tables it stands in."""
    return list(dict.fromkeys(row.configuration for table in tables for row in table.rows))


def training_config(
    configuration: Configuration, *, base_width: int, size: int, steps: int, seed: int
) -> TrainingConfig:
    """Settings of one training: the preset "paper" with what the configuration changes; the last model is kept.

    The generator goes down to 1 x 1, as in the paper, up to 256 pixels; `size` is a power of two.
    """
    config = preset("paper")
    return replace(
        config,
        generator=replace(
            config.generator,
            architecture=configuration.architecture,
            base_width=base_width,
            depth=min(MAX_DEPTH, size.bit_length() - 1),
        ),
        discriminator=DiscriminatorConfig(layers=configuration.discriminator_layers, base_width=base_width),
        objective=configuration.objective,
        patch_size=size,
        steps=steps,
        seed=seed,
        keep="last",
        validate_every=steps,
        target_values="dtype" if configuration.from_photos else config.target_values,  # colours, as in the paper
    )
