"""``compile``: engines of a model's generator, for this machine's GPU or ahead of time for named ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_pix2pix.cli import interrupts
from napari_pix2pix.cli.command_options import with_setting_options
from napari_pix2pix.cli.console import print_json, print_line, progress_bar
from napari_pix2pix.output_paths import output_folder
from napari_pix2pix.translation.settings import CompileRequest
from pix2pix_training.errors import SettingsError
from pix2pix_training.setting_options import settings_of_options

if TYPE_CHECKING:
    from napari_pix2pix.translation.backends.compilation import CompiledFile

Option = typer.Option


@with_setting_options(CompileRequest)
def compile_model(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    architectures: Annotated[
        str | None, Option(help="GPUs such as sm86,sm89,sm120, on any machine (tensorrt-rtx); else this machine's GPU.")
    ] = None,
    out: Annotated[Path | None, Option(help="Folder for engines of named architectures.")] = None,
    sample: Annotated[
        Path | None, Option(help="Image to compare engines for this machine's GPU with PyTorch on.")
    ] = None,
    device: Annotated[str, Option(help="GPU: cuda or cuda:N.")] = "cuda",
    overwrite: Annotated[bool, Option("--overwrite", help="Replace existing engines.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print the result as one JSON object.")] = False,
    **settings: Any,
) -> None:
    from dataclasses import asdict

    from napari_pix2pix.formats import open_image
    from napari_pix2pix.translation.backends.compilation import compile_ahead, compile_here
    from pix2pix_training.device import resolve_device
    from pix2pix_training.model_file import load_model
    from pix2pix_trt.flavours import require

    request = CompileRequest(**settings_of_options(settings, CompileRequest))
    if (architectures is None) != (out is None):
        raise SettingsError("--architectures and --out belong together; leave out both to compile for this machine")
    if out is not None:
        output_folder(out)
    loaded = load_model(model)
    with progress_bar("compile", "stages") as bar, interrupts.stoppable(bar.say) as cancel:

        def progress(done: int, count: int, fraction: float) -> None:
            bar.update((done + fraction) / count, done)

        watched: dict[str, Any] = {"progress": progress, "cancel": cancel}
        if architectures is not None and out is not None:
            named = architectures.split(",")
            making = compile_ahead(loaded, model.stem, request, named, out, overwrite=overwrite, **watched)
            files = _kept(making)
        else:
            require(request.backend)
            if sample is None:
                raise SettingsError(
                    "give an image like those to be translated (--sample): engines are compared with PyTorch on it"
                )
            with open_image(sample) as image:
                files = _kept(compile_here(loaded, request, image, resolve_device(device), **watched))
    if as_json:
        print_json({"backend": request.backend, "files": [asdict(file) for file in files]})
    else:
        for file in files:
            print_line(file.path)


def _kept(making: Iterable[CompiledFile]) -> list[CompiledFile]:
    """All engines; an interruption says how many are kept."""
    files: list[CompiledFile] = []
    interrupts.keeps("no engine was finished")
    for file in making:
        files.append(file)
        interrupts.keeps(f"finished engines that are kept: {len(files)}")
    return files
