"""The work behind the buttons that judge a result by true targets, and that export a model. No napari, no Qt."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pix2pix._widgets.saving_job import as_image, save_image
from pix2pix_training.cancel import Cancel
from pix2pix_training.errors import SettingsError

if TYPE_CHECKING:
    from napari_pix2pix._widgets.translation_job import Translated
    from napari_pix2pix.evaluation import Evaluation
    from pix2pix_training.array_source import ArraySource
    from pix2pix_training.model_file import Model

_WORDS = {
    "mae": "mean difference",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "pearson": "Pearson r",
    "accuracy": "share of right pixels",
    "iou": "IoU",
    "dice": "Dice",
}


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """A result of the model at `model`, and the true targets of the same pixels."""

    result: Translated
    target: ArraySource
    model: Path


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Scores in words, and all of them as plain data."""

    words: str
    report: Mapping[str, Any]


def evaluation_events(request: EvaluationRequest, *, cancel: Cancel) -> Generator[Evaluated, None, None]:
    """Score a result.

    Raises
    ------
    ImageError
        The images are of different sizes or channels, or have no valid pixels.
    """
    from napari_pix2pix.evaluation import evaluate_pairs
    from pix2pix_training.model_file import load_model
    from pix2pix_training.pairs import Pair

    mapping = load_model(request.model).target.mapping
    pair = Pair(as_image(request.result), request.target, str(request.result.provenance["source"]))
    found = evaluate_pairs([pair], mapping=mapping, progress=lambda _done, _total: cancel.check())
    report = {"model": str(request.model), "target": request.target.name, **found.as_dict()}
    yield Evaluated(words=_in_words(found), report=report)


def _in_words(found: Evaluation) -> str:
    """The scores of the result, and those of the best image of a single value to compare them with."""
    if found.classes is None:
        own, constant = found.mean.as_dict(), found.constant.as_dict()
    else:
        own, constant = found.classes.mean.as_dict(), found.classes.constant.as_dict()
    lines = [
        f"{_WORDS.get(name, name)}: {_number(value)} (a single value everywhere: {_number(constant.get(name))})"
        for name, value in own.items()
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """A model and the file to write: ``.onnx``, or ``.zip`` for the BioImage Model Zoo.

    `author` and `license` are for a package whose model does not name them; `sample` is an image to test it with.
    """

    model: Path
    path: Path
    author: str = ""
    license: str = ""
    sample: ArraySource | None = None


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The file is complete."""

    path: Path


def export_events(request: ExportRequest) -> Generator[Exported, None, None]:
    """Write the file of `request`, in place of one that is there.

    Raises
    ------
    SettingsError
        The file has another ending, or the package lacks an author, a licence or a sample.
    BackendError
        The packages of the extra ``onnx`` are missing.
    """
    from pix2pix_training.model_file import load_model

    model = load_model(request.model)
    if request.path.suffix == ".onnx":
        from pix2pix_training.onnx_export import export_model

        export_model(model, request.path)
    elif request.path.suffix == ".zip":
        _export_package(model, request)
    else:
        raise SettingsError(f"{request.path.name}: choose a name that ends in .onnx or .zip")
    yield Exported(path=request.path)


def _export_package(model: Model, request: ExportRequest) -> None:
    from napari_pix2pix.bioimageio_export.package import export_bioimageio
    from napari_pix2pix.bioimageio_export.package_description import PackageInfo
    from napari_pix2pix.formats.metadata import ImageMetadata
    from napari_pix2pix.formats.writing import OutputSpec
    from pix2pix_training.atomic import temporary_folder

    image = request.sample
    if image is None:
        raise SettingsError("a package is tested with an image; tick a layer that the model is made for")
    authors = tuple(name.strip() for name in request.author.split(",") if name.strip()) or model.credits.authors
    if not authors or not (request.license or model.credits.license):
        raise SettingsError("a package for the BioImage Model Zoo names its author and licence; fill in both fields")
    credits = replace(model.credits, authors=authors, license=request.license or model.credits.license)
    info = PackageInfo(name=request.path.stem, credits=credits)
    with temporary_folder() as folder:
        sample = Path(folder) / "sample.tif"
        spec = OutputSpec(axes=image.axes, shape=image.shape, dtype=image.dtype, metadata=ImageMetadata())
        save_image(sample, spec, image)
        export_bioimageio(model, request.path, info, sample)
