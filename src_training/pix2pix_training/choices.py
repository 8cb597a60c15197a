"""The values that settings can take, with the words that people read for them."""

from __future__ import annotations

from typing import Annotated, Literal

from pix2pix_training.validated import Labels, labels

Architecture = Annotated[
    Literal["unet", "encoder-decoder", "resnet"],
    Labels({"unet": "U-Net", "encoder-decoder": "encoder-decoder", "resnet": "ResNet"}),
]
Norm = Annotated[
    Literal["batch", "batch-renorm", "instance", "none"],
    Labels({"batch": "batch norm", "batch-renorm": "batch renorm", "instance": "instance norm", "none": "no norm"}),
]
Decoder = Annotated[
    Literal["transposed", "resize", "pixel-shuffle"],
    Labels(
        {"transposed": "transposed convolution", "resize": "resizing and convolution", "pixel-shuffle": "pixel shuffle"}
    ),
]
DropoutPlacement = Annotated[
    Literal["none", "paper", "reference"],
    Labels({"none": "no dropout", "paper": "dropout as in the paper", "reference": "dropout as in the reference"}),
]
OutputActivation = Annotated[Literal["tanh", "linear"], Labels({"tanh": "tanh", "linear": "nothing (linear)"})]
GanMode = Annotated[
    Literal["vanilla", "lsgan", "wgangp", "hinge", "none"],
    Labels(
        {
            "vanilla": "cross-entropy, as in the paper",
            "lsgan": "least squares (LSGAN)",
            "wgangp": "Wasserstein with penalty (WGAN-GP)",
            "hinge": "hinge",
            "none": "none: L1 alone",
        }
    ),
]
Statistics = Annotated[
    Literal["running", "image", "tile"],
    Labels(
        {
            "running": "running averages of training",
            "image": "statistics of the whole image",
            "tile": "statistics of each tile",
        }
    ),
]
DropoutMode = Annotated[Literal["off", "seeded"], Labels({"off": "off", "seeded": "on, from a seed"})]
Schedule = Annotated[
    Literal["constant", "linear"], Labels({"constant": "constant", "linear": "falls over the second half"})
]
Precision = Annotated[
    Literal["fp32", "bf16", "fp16", "auto"],
    Labels({"fp32": "32-bit", "bf16": "bfloat16", "fp16": "float16", "auto": "automatic"}),
]
TranslationPrecision = Annotated[
    Literal["fp32", "bf16", "fp16", "int8", "auto"], Labels({**labels(Precision), "int8": "8-bit integers"})
]
Flips = Annotated[
    Literal["none", "horizontal", "both"],
    Labels({"none": "none", "horizontal": "left and right", "both": "left and right, up and down"}),
]
Placement = Annotated[
    Literal["uniform", "content"], Labels({"uniform": "anywhere", "content": "where the target varies"})
]
Preset = Annotated[
    Literal["seamless", "paper", "faithful"],
    Labels({"seamless": "seamless, to look real", "paper": "as in the paper", "faithful": "faithful, to be measured"}),
]
BestBy = Annotated[
    Literal["mae", "psnr", "ssim", "pearson"],
    Labels({"mae": "MAE", "psnr": "PSNR", "ssim": "SSIM", "pearson": "Pearson"}),
]
Keep = Annotated[Literal["best", "last"], Labels({"best": "the best", "last": "the last"})]
Values = Annotated[
    Literal["auto", "dtype", "training-set", "image", "categories", "foreground"],
    Labels(
        {
            "auto": "automatic",
            "dtype": "range of the pixel type",
            "training-set": "range of the training set",
            "image": "range of each image",
            "categories": "categories",
            "foreground": "labelled or not",
        }
    ),
]
Align = Annotated[
    Literal["none", "shift", "affine"],
    Labels({"none": "as they are", "shift": "shifted", "affine": "shifted, turned, stretched"}),
]
AlphaChoice = Annotated[
    Literal["auto", "keep", "mask", "drop"],
    Labels({"auto": "automatic", "keep": "a channel", "mask": "a mask of no data", "drop": "nothing"}),
]
"""What becomes of alpha: a channel (keep), a mask of what holds no data (mask), nothing (drop), or what fits (auto)."""
