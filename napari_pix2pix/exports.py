"""A model as a file for other programs, whatever the format."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pix2pix_training.errors import SettingsError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.model_file import Model

ExportFormat = Literal["onnx", "bioimageio", "state-dict"]
OnnxPrecision = Literal["fp32", "int8"]
SUFFIXES = {"onnx": (".onnx",), "state-dict": (".pth", ".pt"), "bioimageio": (".zip",)}


def export_format(path: Path, asked: str | None) -> str:
    """The format that is asked for, else that of the ending."""
    chosen = asked or next((name for name, endings in SUFFIXES.items() if path.suffix.lower() in endings), None)
    if chosen is None or chosen not in get_args(ExportFormat):
        raise SettingsError(f"{path}: the ending says no format; choose file_format onnx, bioimageio or state-dict")
    return chosen


def write_export(
    model: Model,
    path: Path,
    file_format: str,
    *,
    inference: InferenceConfig | None = None,
    with_mapping: bool = False,
    precision: OnnxPrecision = "fp32",
    name: str | None = None,
    sample: Path | None = None,
) -> None:
    """Write a model; see `Pix2Pix.export`."""
    if file_format == "onnx":
        from pix2pix_training.onnx_export import export_model

        export_model(model, path, precision=precision, inference=inference, with_mapping=with_mapping)
        return
    if file_format == "state-dict":
        from pix2pix_training.reference_weights import generator_state, write_state_dict

        write_state_dict(generator_state(model), path)
        return
    from napari_pix2pix.bioimageio_export.package import export_bioimageio
    from napari_pix2pix.bioimageio_export.package_description import PackageInfo

    if name is None or sample is None:
        raise SettingsError("a BioImage Model Zoo package needs a name, and a sample image to be tested with")
    info = PackageInfo(name=name, credits=model.credits)
    export_bioimageio(model, path, info, sample, inference=inference or model.inference)
