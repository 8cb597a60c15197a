"""``import-weights``: checkpoints of the PyTorch reference implementation become a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_pix2pix.cli import interrupts
from napari_pix2pix.cli.console import say
from napari_pix2pix.cli.credits_options import Authors, Citation, License, credits_from
from napari_pix2pix.cli.output_paths import output_file
from pix2pix_training.config import Credits
from pix2pix_training.errors import SettingsError

Option = typer.Option


def import_weights(
    file: Annotated[Path, typer.Argument(help="Generator checkpoint, such as latest_net_G.pth.")],
    out: Annotated[Path, Option(help="Model file to write (.safetensors), or a folder for it.")],
    discriminator: Annotated[
        Path | None, Option(help="Its discriminator, such as latest_net_D.pth, to continue training with.")
    ] = None,
    statistics: Annotated[str, Option(help="image (the reference's usual test mode) or running.")] = "image",
    dropout: Annotated[str, Option(help="off, or seeded for noise at test time.")] = "off",
    author: Authors = None,
    license_: License = None,
    citation: Citation = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace an existing model file.")] = False,
) -> None:
    """Open networks of the PyTorch reference implementation and save them as a model file."""
    from pix2pix_training.atomic import reserved
    from pix2pix_training.descriptions import describe_discriminator, describe_generator, describe_inference
    from pix2pix_training.model_file import save_model
    from pix2pix_training.networks import parameter_count
    from pix2pix_training.reference_import import import_model

    if statistics not in ("image", "running") or dropout not in ("off", "seeded"):
        raise SettingsError("statistics are image or running, dropout is off or seeded")
    out = output_file(out, (".safetensors",), file.stem)
    interrupts.keeps("nothing was written")
    with reserved(out, overwrite):
        model = import_model(
            file,
            discriminator,
            statistics=statistics,  # type: ignore[arg-type]  # checked above
            dropout=dropout,  # type: ignore[arg-type]
            credits=credits_from(author, license_, citation, Credits()),
        )
        save_model(model, out)
    interrupts.keeps(f"{out} is written")
    say(
        f"found a generator: {describe_generator(model.generator_config)}; {parameter_count(model.generator())} weights"
    )
    if model.discriminator is not None:
        say(f"found a discriminator: {describe_discriminator(model.discriminator)}")
    say(f"set, as the files do not say: {describe_inference(model.inference)} (--statistics, --dropout); 8-bit images")
    say(str(out))
