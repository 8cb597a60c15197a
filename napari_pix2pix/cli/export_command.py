"""``export``: a model in a form that other programs open."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_pix2pix.cli import interrupts
from napari_pix2pix.cli.command_options import changed, with_setting_options
from napari_pix2pix.cli.console import print_json, say
from napari_pix2pix.output_paths import output_file
from pix2pix_training.errors import SettingsError
from pix2pix_training.inference_config import Credits, InferenceConfig
from pix2pix_training.setting_options import setting_options

if TYPE_CHECKING:
    from pix2pix_training.model_file import Model

Option = typer.Option

_CHANGES = tuple(option.name.replace("_", "-") for cls in (InferenceConfig, Credits) for option in setting_options(cls))
_OPTIONS = {
    "onnx": ("with-mapping", "precision", *_CHANGES),
    "state-dict": ("discriminator",),
    "bioimageio": (*_CHANGES, "sample", "name"),
}


@with_setting_options(InferenceConfig, Credits, panel="Changes of the model", default=lambda _: "as the model says")
def export(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    out: Annotated[Path, Option(help="File to write (.onnx, .pth, .zip), or a folder for it.")],
    format_: Annotated[str, Option("--format", help="onnx, bioimageio or state-dict.")],
    discriminator: Annotated[
        Path | None, Option(help="state-dict: file for the discriminator, where the model carries one.")
    ] = None,
    sample: Annotated[Path | None, Option(help="bioimageio: source image to test with and to show.")] = None,
    name: Annotated[str | None, Option(help="bioimageio: name of the package.")] = None,
    with_mapping: Annotated[
        bool, Option("--with-mapping", help="onnx: stored pixels in and out, the mapping being part of the graph.")
    ] = False,
    precision: Annotated[
        str | None,
        Option(help="onnx: fp32, or int8 for models that are ready for it [default: fp32].", metavar="TEXT"),
    ] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace existing files.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print the result as one JSON object.")] = False,
    **settings: Any,
) -> None:
    given = {
        "discriminator": discriminator,
        "sample": sample,
        "name": name,
        "with-mapping": with_mapping or None,
        "precision": precision,
        **{name.replace("_", "-"): value for name, value in settings.items() if value != []},
    }
    _check_options(format_, given)

    from napari_pix2pix.exports import SUFFIXES, OnnxPrecision, write_export
    from pix2pix_training.atomic import reserved
    from pix2pix_training.model_file import load_model
    from pix2pix_training.validated import checked

    computed: OnnxPrecision = checked(OnnxPrecision, precision or "fp32", "precision")
    out = output_file(out, SUFFIXES[format_], model.stem)
    if discriminator is not None:
        discriminator = output_file(discriminator, SUFFIXES[format_], f"{model.stem}_D")
    outputs = [path for path in (out, discriminator) if path is not None]
    if out == discriminator:
        raise SettingsError(f"--out and --discriminator are both {out}; give two names")
    interrupts.keeps("nothing was written")
    with ExitStack() as stack:
        for path in outputs:
            stack.enter_context(reserved(path, overwrite))
        loaded = load_model(model)
        loaded = replace(loaded, credits=changed(loaded.credits, settings))
        if format_ == "state-dict":
            _export_state_dicts(loaded, out, discriminator)
        else:
            if format_ == "bioimageio" and (sample is None or name is None):
                raise SettingsError(
                    "a BioImage Model Zoo package needs --name TEXT, and --sample IMAGE to be tested with and shown by"
                )
            inference = changed(loaded.inference, settings)
            write_export(
                loaded,
                out,
                format_,
                inference=inference,
                with_mapping=with_mapping,
                precision=computed,
                name=name,
                sample=sample,
            )
    interrupts.keeps(f"{out} is written")
    for path in outputs:
        say(str(path))
    if as_json:
        print_json({"outputs": [str(path) for path in outputs], "format": format_})


def _check_options(format_: str, given: Mapping[str, Any]) -> None:
    """Refuse an unknown format, and options that it does not have."""
    if format_ not in _OPTIONS:
        raise SettingsError(f"format {format_!r} is not known; choose {', '.join(_OPTIONS)}")
    for name, value in given.items():
        if value is not None and name not in _OPTIONS[format_]:
            homes = " or ".join(home for home, names in _OPTIONS.items() if name in names)
            raise SettingsError(f"--{name} is for --format {homes}, not for {format_}; leave it out")


def _export_state_dicts(model: Model, out: Path, discriminator: Path | None) -> None:
    from pix2pix_training.in_words import describe_mapping
    from pix2pix_training.reference_weights import discriminator_state, generator_state, write_state_dict

    states = {out: generator_state(model)}
    if discriminator is not None:
        states[discriminator] = discriminator_state(model)
    for path, state in states.items():
        write_state_dict(state, path)
    say("a state_dict holds weights alone; the pixels that this model was trained on were mapped like this:")
    say(f"source: {describe_mapping(model.source.mapping)}")
    say(f"target: {describe_mapping(model.target.mapping)}")
