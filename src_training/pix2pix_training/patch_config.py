"""Settings of which patches are taken from the images, and how they are varied, see `config`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pix2pix_training.choices import Flips, Placement
from pix2pix_training.validated import Setting, validated


@validated
class AugmentationConfig:
    """Random changes of a patch: those of its geometry are the same for source and target, others are of the source.

    `scale_jitter` enlarges the image before the crop, as 286 -> 256 of the reference does (286 / 256 = 1.1171875).
    `intensity_jitter` changes contrast and brightness of a source that is not made of categories, by up to so many
    standard deviations of what they are among the images to train on. `rotation` is about the centre of the patch and
    `elastic` bends it smoothly; what then comes from beyond the image teaches nothing. `channel_jitter` c multiplies
    each channel of a source by 1 / (1 + c) to 1 + c and adds -c to c, in [-1, 1]; `blur` and `noise` are drawn between
    0 and these standard deviations. `hidden` puts the mean of the patch in the place of so large a share of its squares
    of 16 pixels; a generator that fills them, with sources as targets, is one to start from. A source of categories is
    neither blurred nor otherwise changed.
    `adaptive` varies nothing that is learnt from, only what the discriminator sees, see `AdaptiveAugmentation`.
    """

    flips: Annotated[
        Flips, Setting("Mirror patches at random; not where a direction means something, as of shadows.")
    ] = "horizontal"
    quarter_turns: Annotated[
        bool, Setting("Turn patches by quarter turns at random, where images have no up and down.")
    ] = False
    scale_jitter: Annotated[
        float, Field(ge=1, le=4), Setting("Enlarge images by this factor before patches are cut; 1: not.", step=0.05)
    ] = 1.0
    intensity_jitter: Annotated[
        float,
        Field(ge=0, le=10),
        Setting(
            "Vary contrast and brightness of sources, up to so many times as much as images differ in them; 0: not.",
            step=0.5,
        ),
    ] = 0.0
    rotation: Annotated[
        float, Field(ge=0, le=180), Setting("Turn patches at random by up to so many degrees; 0: not.", step=5)
    ] = 0.0
    elastic: Annotated[
        float,
        Field(ge=0, le=100),
        Setting("Bend patches by up to so many pixels, as tissue may be bent; 0: not.", step=1),
    ] = 0.0
    channel_jitter: Annotated[
        float,
        Field(ge=0, le=1),
        Setting("Vary each channel of sources by up to this share, as stains vary; 0: not.", step=0.05),
    ] = 0.0
    blur: Annotated[
        float,
        Field(ge=0, le=20),
        Setting("Blur sources by up to so many pixels, as if out of focus; 0: not.", step=0.5),
    ] = 0.0
    noise: Annotated[
        float,
        Field(ge=0, le=1),
        Setting("Add noise to sources, of up to this deviation (1: half of the range of values); 0: none.", step=0.05),
    ] = 0.0
    hidden: Annotated[
        float,
        Field(ge=0, le=1),
        Setting("Hide this share of sources, to learn from images alone, as their own targets.", step=0.1),
    ] = 0.0
    adaptive: Annotated[
        float,
        Field(ge=0, le=1),
        Setting(
            "For few pairs, such as 0.6: how sure of real targets the discriminator may be; what it sees is varied "
            "until it is not surer. 0: never.",
            option="--adaptive-augmentation",
            label="Discriminator's view",
            step=0.1,
        ),
    ] = 0.0


@validated
class SamplingConfig:
    """Which patches are taken from the images.

    `placement` "uniform" makes all positions equally likely, "content" as likely as the target varies there.
    `skip_constant` draws patches again where source or target has a single value.
    """

    placement: Annotated[
        Placement,
        Setting(
            "Where patches are taken; for mostly empty images, where the target varies (content).",
            option="--sampling",
            label="Patches from",
        ),
    ] = "uniform"
    skip_constant: Annotated[
        bool,
        Setting(
            "Take no patches in which source or target has a single value.", option="--skip-constant/--keep-constant"
        ),
    ] = True
