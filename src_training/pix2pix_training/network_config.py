"""Settings of the generator and the discriminator, see `config`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pix2pix_training.choices import Architecture, Decoder, DropoutPlacement, Norm, OutputActivation
from pix2pix_training.errors import SettingsError
from pix2pix_training.validated import Setting, validated


@validated
class GeneratorConfig:
    """Shape of a generator network.

    `depth` counts the down-samplings of a U-Net or encoder-decoder; `blocks` the residual blocks of a ResNet.
    `dropout` places the noise after the deepest three decoder norms (paper: d1 to d3), or where the PyTorch
    reference has it (d2 to d4 at depth 8; inside the residual blocks of a ResNet). `decoder` is how a U-Net or
    encoder-decoder doubles the resolution: transposed convolutions as in the paper, or, against their checkerboard,
    nearest neighbours or a pixel shuffle followed by a 3x3 convolution.
    """

    architecture: Annotated[
        Architecture,
        Setting("Network that makes the result; a U-Net keeps fine structures where they are in the source."),
    ] = "unet"
    source_channels: Annotated[int, Field(ge=1, le=1024)] = 3
    target_channels: Annotated[int, Field(ge=1, le=1024)] = 3
    base_width: Annotated[
        int,
        Field(ge=1, le=1024),
        Setting(
            "How much the networks can learn: channels of their first layer; more take longer, and memory.",
            step=8,
            also=("discriminator", "base_width"),
        ),
    ] = 64
    depth: Annotated[
        int,
        Field(ge=2, le=10),
        Setting("How often the U-Net halves the image; a deeper one sees more of the surroundings."),
    ] = 8
    blocks: Annotated[
        int,
        Field(ge=0, le=64),
        Setting("Blocks of a ResNet; more can learn more, and take longer.", label="Residual blocks"),
    ] = 9
    norm: Annotated[Norm, Setting("How the generator evens out brightness and contrast between its layers.")] = "batch"
    dropout: Annotated[
        DropoutPlacement,
        Setting(
            "Layers that drop values at random, so that results of one image can differ.", option="--dropout-layers"
        ),
    ] = "none"
    decoder: Annotated[
        Decoder, Setting("How the U-Net comes back to full size; a transposed convolution may leave a grid.")
    ] = "transposed"
    output: Annotated[
        OutputActivation,
        Setting("How results end; tanh holds them within the range that was learnt.", option="--output-activation"),
    ] = "tanh"

    def __post_init__(self) -> None:
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


@validated
class DiscriminatorConfig:
    """Shape of a discriminator: `layers` 1 to 5 have receptive fields of 16, 34, 70, 142 and 286 pixels.

    `layers` 0 is the PixelGAN (1 x 1). With several `scales` there is one such network for the image and one for each
    image half as large as the one before (pix2pixHD, Wang 2018, section 3.2). `spectral_norm` divides the weights of
    all convolutions by their largest singular value (Miyato 2018).
    """

    layers: Annotated[
        int,
        Field(ge=0, le=6),
        Setting(
            "Size of the parts by which the discriminator tells whether results look real: 1 to 5 for 16 to 286 "
            "pixels, 0 for single ones.",
            option="--discriminator-layers",
        ),
    ] = 3
    base_width: Annotated[
        int,
        Field(ge=1, le=1024),
        Setting(
            "How much the discriminator can learn, if other than the generator: channels of its first layer.",
            "--discriminator-base-width",
            step=8,
        ),
    ] = 64
    norm: Annotated[
        Norm,
        Setting(
            "How the discriminator evens out brightness and contrast between its layers.", option="--discriminator-norm"
        ),
    ] = "batch"
    scales: Annotated[
        int,
        Field(ge=1, le=3),
        Setting(
            "Number of discriminators, the second for the image at half and the third at a quarter of its size.",
            option="--discriminator-scales",
        ),
    ] = 1
    spectral_norm: Annotated[
        bool, Setting("Restrain the discriminator, where it tells results from targets too easily.")
    ] = False

    @property
    def smallest_patch(self) -> int:
        """Side of the smallest image for which every scale has a logit."""
        finest = 1 if self.layers == 0 else 3 << self.layers
        return finest << (self.scales - 1)
