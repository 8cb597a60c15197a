"""How a model is applied, and whom it comes from: settings that its file keeps."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pix2pix_training.choices import DropoutMode, Statistics
from pix2pix_training.validated import LARGEST_INTEGER, Lenient, Setting, Text, validated


@validated
class InferenceConfig:
    """The function that a trained generator stands for at translation.

    `statistics`: norm layers use running averages of training, or the statistics of the whole image, or of each tile.
    `dropout`: "off", or noise drawn from `seed` and the image coordinate.
    """

    statistics: Annotated[Statistics, Setting("What a translation evens out brightness and contrast by.")] = "running"
    dropout: Annotated[DropoutMode, Setting("Whether layers that drop values at random do so in translations too.")] = (
        "off"
    )
    seed: Annotated[
        int,
        Field(ge=0, le=LARGEST_INTEGER),
        Setting("Translations of one number drop the same values.", option="--dropout-seed"),
    ] = 0


@validated
class Credits:
    """Whom a model comes from and how it may be used; free text, kept in the model file for people to read.

    `license` is an SPDX identifier such as CC-BY-4.0; `citation` names a publication, best with its DOI.
    """

    authors: Annotated[
        tuple[Text, ...],
        Lenient,
        Setting("Who made the model.", option="--author", label="Authors", unset="none"),
    ] = ()
    license: Annotated[
        Text | None,
        Setting("How the model may be used, such as CC-BY-4.0 (an SPDX identifier).", label="Licence", unset="none"),
    ] = None
    citation: Annotated[Text | None, Setting("Publication to cite for the model, with its DOI.", unset="none")] = None
