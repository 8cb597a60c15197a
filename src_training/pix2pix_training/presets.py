"""Settings to start from."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from pix2pix_training.choices import Preset
from pix2pix_training.config import ObjectiveConfig, TrainingConfig
from pix2pix_training.errors import SettingsError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.patch_config import AugmentationConfig
from pix2pix_training.validated import choices

DEFAULT_EPOCHS = 200
JITTER_OF_THE_PAPER = 286 / 256


def preset(name: Preset) -> TrainingConfig:
    """Settings of a preset.

    "paper": U-Net-256 with dropout noise, 70 x 70 PatchGAN, batch 1, 286 -> 256 jitter, test-time mode of the paper.
    "seamless": batch renorm with running statistics, a decoder that leaves no grid, twice the paper's rate, averaged
    weights, and intensities that are jittered as images differ, the best of the screening in
    docs/measurements/quality.md; no noise.
    Its best model is that of the best SSIM, as structure makes results look right.
    "faithful": the network of "seamless" for results that are measured: L1 and MS-SSIM without a discriminator, which
    adds texture, and without jitter, as brightness is part of the answer; the rate falls to zero, and the best model is
    that of the best PSNR.
    For other patches than of 256 pixels, `usual_depth` says how often the last two down-sample.
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
                generator=GeneratorConfig(norm="batch-renorm", decoder="resize"),
                inference=InferenceConfig(statistics="running"),
                augmentation=AugmentationConfig(intensity_jitter=2.5),
                learning_rate=4e-4,
                ema_decay=0.999,
                best_by="ssim",
            )
        case "faithful":
            return TrainingConfig(
                preset="faithful",
                generator=GeneratorConfig(norm="batch-renorm", decoder="resize"),
                objective=ObjectiveConfig(gan_weight=0.0, ssim_weight=10.0),
                inference=InferenceConfig(statistics="running"),
                learning_rate=4e-4,
                schedule="linear",
                ema_decay=0.999,
                best_by="psnr",
            )
        case _:
            raise SettingsError(f"preset {name!r} is not known; choose one of {', '.join(choices(Preset))}")


def usual_depth(name: Preset, patch_size: int) -> int:
    """Down-samplings of a preset for patches of `patch_size` pixels.

    "paper" has eight, the others up to eight, as many as the patch can be halved, but at least five.
    """
    match name:
        case "paper":
            return 8
        case "seamless" | "faithful":
            halvings = (patch_size & -patch_size).bit_length() - 1
            return min(8, max(5, halvings))
        case _:
            assert_never(name)


def patch_within(config: TrainingConfig, room_px: int) -> TrainingConfig | None:
    """Settings with the largest patch of at most `room_px`, of fewer down-samplings if need be.

    None where a patch would be too small for any generator or the discriminator.
    """
    tried: list[tuple[int, int]] = []
    if config.generator.architecture == "resnet":
        tried.append((room_px // 4 * 4, config.generator.depth))
    elif config.preset != "paper" and (size := room_px // 32 * 32):
        tried.append((size, usual_depth(config.preset, size)))
    if config.generator.architecture != "resnet":
        tried += [(room_px >> depth << depth, depth) for depth in range(config.generator.depth, 1, -1)]
    for size, depth in tried:
        if size >= max(config.smallest_seen, 1):
            return replace(config, patch_size=size, generator=replace(config.generator, depth=depth))
    return None
