"""``compile``: engines of a model's generator, for this machine's GPU or for named ones; or a model for int8."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_pix2pix.cli import interrupts
from napari_pix2pix.cli.command_options import with_setting_options
from napari_pix2pix.cli.console import print_json, print_line, progress_bar, say
from napari_pix2pix.output_paths import output_file, output_folder
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
    out: Annotated[
        Path | None, Option(help="Folder for engines of named architectures; or model file to write for int8.")
    ] = None,
    sample: Annotated[
        list[Path] | None,
        Option(
            help="Image to compare engines for this machine's GPU with PyTorch on, or file or folder of images for "
            "int8 in place of those that the model was trained on; again for more channels."
        ),
    ] = None,
    target: Annotated[
        list[Path] | None,
        Option(help="Targets of the sample, to see what int8 costs against them; again for more channels."),
    ] = None,
    device: Annotated[str, Option(help="GPU: cuda or cuda:N.")] = "cuda",
    overwrite: Annotated[bool, Option("--overwrite", help="Replace existing engines.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print the result as one JSON object.")] = False,
    **settings: Any,
) -> None:
    from dataclasses import asdict

    from napari_pix2pix.formats.image_files import open_images
    from napari_pix2pix.translation.backends.compilation import compile_ahead, compile_here
    from pix2pix_training.device import resolve_device
    from pix2pix_training.model_file import load_model
    from pix2pix_trt.flavours import require

    given = settings_of_options(settings, CompileRequest)
    if given.get("precision") == "int8":
        given.setdefault("backend", "openvino")
    elif given.get("backend") == "openvino":
        given.setdefault("precision", "int8")
    request = CompileRequest(**given)
    if request.backend == "openvino":
        _make_ready_for_int8(
            model, sample or [], target or [], out, given=architectures, overwrite=overwrite, as_json=as_json
        )
        return
    if target:
        raise SettingsError("--target is for precision int8; leave it out")
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
            require(request.engines[0])
            if not sample:
                raise SettingsError(
                    "give an image like those to be translated (--sample): engines are compared with PyTorch on it"
                )
            with open_images(sample) as image:
                files = _kept(compile_here(loaded, request, image, resolve_device(device), **watched))
    if as_json:
        print_json({"backend": request.backend, "files": [asdict(file) for file in files]})
    else:
        for file in files:
            print_line(file.path)


def _make_ready_for_int8(
    model: Path, sample: list[Path], target: list[Path], out: Path | None, *, given: str | None, **options: bool
) -> None:
    """Write a model that can compute in int8."""
    from napari_pix2pix.formats.caching import PixelCache
    from napari_pix2pix.script_inputs import sample_of_paths
    from napari_pix2pix.translation.int8_calibration import with_int8
    from napari_pix2pix.translation.progress import ended
    from pix2pix_training.atomic import reserved
    from pix2pix_training.in_words import describe_int8
    from pix2pix_training.model_file import load_model, model_header, save_model
    from pix2pix_training.quantisation import require_int8

    if given is not None:
        raise SettingsError("--architectures are GPUs, for TensorRT; leave it out for backend openvino")
    if target and not sample:
        raise SettingsError("--target belongs to the images of --sample; give both, or leave it out")
    stem = f"{model.stem}-int8"
    out = output_file(out or model.parent, (".safetensors",), stem)
    known = load_model(model)
    if not sample:
        require_int8(known.generator_config, known.inference, known.int8)
    interrupts.keeps("nothing was written")
    with (
        reserved(out, options["overwrite"]),
        PixelCache() as cache,
        progress_bar("int8", "parts") as bar,
        interrupts.stoppable(bar.say) as cancel,
    ):

        def show(fraction: float) -> None:
            cancel.check()
            bar.update(fraction, 0)

        made = ended(with_int8(known, *sample_of_paths(sample, target, cache=cache)), show) if sample else known
        save_model(made, out)
    interrupts.keeps(f"{out} is written")
    assert made.int8 is not None
    say(f"int8: {describe_int8(made.int8)}")
    if options["as_json"]:
        print_json({"backend": "openvino", "model": str(out), "int8": model_header(made)["int8"]})
    else:
        print_line(out)


def _kept(making: Iterable[CompiledFile]) -> list[CompiledFile]:
    """All engines; an interruption says how many are kept."""
    files: list[CompiledFile] = []
    interrupts.keeps("no engine was finished")
    for file in making:
        files.append(file)
        interrupts.keeps(f"finished engines that are kept: {len(files)}")
    return files
