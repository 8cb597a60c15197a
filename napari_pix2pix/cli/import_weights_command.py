"""``import-weights``: checkpoints of the PyTorch reference implementation become a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_pix2pix.cli import interrupts
from napari_pix2pix.cli.command_options import changed, with_setting_options
from napari_pix2pix.cli.console import say
from napari_pix2pix.output_paths import output_file
from pix2pix_training.choices import Statistics
from pix2pix_training.inference_config import Credits, InferenceConfig

Option = typer.Option
_STATISTICS: Statistics = "image"
"""As in the reference implementation's usual test mode."""


@with_setting_options(
    InferenceConfig,
    Credits,
    panel="What the files do not say",
    default=lambda option: _STATISTICS if option.name == "statistics" else option.usual,
)
def import_weights(
    file: Annotated[Path, typer.Argument(help="Generator checkpoint, such as latest_net_G.pth.")],
    out: Annotated[Path, Option(help="Model file to write (.safetensors), or a folder for it.")],
    discriminator: Annotated[
        Path | None, Option(help="Its discriminator, such as latest_net_D.pth, to continue training with.")
    ] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace an existing model file.")] = False,
    **settings: Any,
) -> None:
    from pix2pix_training.atomic import reserved
    from pix2pix_training.in_words import describe_discriminator, describe_generator, describe_inference
    from pix2pix_training.model_file import save_model
    from pix2pix_training.networks import parameter_count
    from pix2pix_training.reference_import import import_model

    inference = changed(InferenceConfig(statistics=_STATISTICS), settings)
    out = output_file(out, (".safetensors",), file.stem)
    interrupts.keeps("nothing was written")
    with reserved(out, overwrite):
        model = import_model(
            file,
            discriminator,
            statistics=inference.statistics,
            dropout=inference.dropout,
            seed=inference.seed,
            credits=changed(Credits(), settings),
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
