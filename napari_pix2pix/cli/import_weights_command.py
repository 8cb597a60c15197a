"""``import-weights``: a checkpoint of the PyTorch reference implementation becomes a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_pix2pix.cli.console import say
from pix2pix_training.errors import SettingsError

Option = typer.Option


def import_weights(
    file: Annotated[Path, typer.Argument(help="Generator checkpoint, such as latest_net_G.pth.")],
    out: Annotated[Path, Option(help="Model file to write.")],
    statistics: Annotated[str, Option(help="image (the reference's usual test mode) or running.")] = "image",
    dropout: Annotated[str, Option(help="off, or seeded for noise at test time.")] = "off",
    overwrite: Annotated[bool, Option("--overwrite", help="Replace an existing model file.")] = False,
) -> None:
    """Open a generator of the PyTorch reference implementation and save it as a model file."""
    from pix2pix_training.atomic import check_writable_target
    from pix2pix_training.model_file import save_model
    from pix2pix_training.networks import parameter_count
    from pix2pix_training.reference_import import import_generator

    if statistics not in ("image", "running") or dropout not in ("off", "seeded"):
        raise SettingsError("statistics are image or running, dropout is off or seeded")
    check_writable_target(out, overwrite)
    model = import_generator(file, statistics=statistics, dropout=dropout)  # type: ignore[arg-type]  # checked above
    save_model(model, out)
    config = model.generator_config
    size = f"{config.blocks} blocks" if config.architecture == "resnet" else f"{config.depth} down-samplings"
    say(
        f"found: {config.architecture}, {size}, base width {config.base_width}, {config.norm} norm, "
        f"{config.source_channels} -> {config.target_channels} channels, "
        f"{parameter_count(model.generator())} parameters"
    )
    say(f"set: statistics {statistics}, dropout {dropout}, 8-bit images")
    say(str(out))
