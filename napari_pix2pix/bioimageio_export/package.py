"""Writing a model as a BioImage Model Zoo package: description, weights in two formats, test tensors, cover."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import tifffile
import torch

from napari_pix2pix.bioimageio_export.operations import preprocessing
from napari_pix2pix.bioimageio_export.package_description import (
    COVER,
    README,
    SAMPLE_SOURCE,
    SAMPLE_TARGET,
    TEST_SOURCE,
    TEST_TARGET,
    PackageInfo,
    block_sizes,
    description,
    readme,
)
from napari_pix2pix.bioimageio_export.sample import test_sample
from pix2pix_training.array_source import AnyArray
from pix2pix_training.atomic import atomic_write
from pix2pix_training.errors import InputError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.model_file import Model
from pix2pix_training.onnx_export import OPSET, onnx_of_model
from pix2pix_training.standalone_source import CALLABLE, standalone_arguments, standalone_source

_ONNX, _STATE_DICT, _SOURCE = "weights.onnx", "weights.pt", "pix2pix_network.py"


def export_bioimageio(
    model: Model, path: Path, info: PackageInfo, sample: Path, *, inference: InferenceConfig | None = None
) -> None:
    """Write a zip that bioimageio.core, Fiji (deepImageJ), ilastik and QuPath can run, atomically.

    Parameters
    ----------
    sample : image that the model is made for; its middle becomes the package's test tensor and cover.
    inference : mode to export; default is the model's own. Noise cannot be exported.

    Raises
    ------
    SettingsError
        The model cannot be expressed in such a package.
    ImageError
        The sample cannot be read or does not fit the model.
    BackendError
        The packages of the extra ``onnx`` are missing.
    """
    inference = inference or model.inference
    preprocessing(model.source.mapping)  # refuses categories before anything is computed
    onnx = onnx_of_model(model, inference=inference)
    sizes = block_sizes(model.generator_config, inference)
    tested = test_sample(model, inference, sample, sizes)
    files = {
        _ONNX: onnx,
        _STATE_DICT: _saved(model.weights),
        _SOURCE: standalone_source().encode(),
        TEST_SOURCE: _npy(tested.source),
        TEST_TARGET: _npy(tested.target),
        SAMPLE_SOURCE: _tiff(tested.source),
        SAMPLE_TARGET: _tiff(tested.target),
        COVER: tested.cover,
        README: readme(model, inference, info, sizes).encode(),
    }
    weights = _weights_entry(model, inference, files)
    files["bioimageio.yaml"] = _yaml(description(model, inference, info, sizes, weights))
    with atomic_write(path) as partial, ZipFile(partial, "w") as archive:
        for name, content in files.items():
            archive.writestr(_entry(name), content)


def _entry(name: str) -> ZipInfo:
    """A compressed file that, once unpacked, others may read too; without the time of writing."""
    entry = ZipInfo(name)
    entry.compress_type = ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def _weights_entry(model: Model, inference: InferenceConfig, files: Mapping[str, bytes]) -> dict[str, Any]:
    def described(name: str) -> dict[str, str]:
        return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}

    architecture = {
        **described(_SOURCE),
        "callable": CALLABLE,
        "kwargs": standalone_arguments(model.generator_config, inference),
    }
    version = torch.__version__.partition("+")[0]
    return {
        "pytorch_state_dict": {**described(_STATE_DICT), "architecture": architecture, "pytorch_version": version},
        "onnx": {**described(_ONNX), "opset_version": OPSET, "parent": "pytorch_state_dict"},
    }


def _saved(weights: Mapping[str, torch.Tensor]) -> bytes:
    content = io.BytesIO()
    torch.save(dict(weights), content)
    return content.getvalue()


def _npy(array: AnyArray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def _tiff(array: AnyArray) -> bytes:
    """(1, C, Y, X) as a TIFF of (C, Y, X)."""
    content = io.BytesIO()
    tifffile.imwrite(content, array[0], photometric="minisblack", compression="zlib")
    return content.getvalue()


def _yaml(data: Mapping[str, Any]) -> bytes:
    try:
        import yaml
    except ImportError as error:
        raise InputError(
            'a BioImage Model Zoo package needs the package pyyaml; pip install "napari-pix2pix[onnx]"'
        ) from error
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
    return text.encode()
