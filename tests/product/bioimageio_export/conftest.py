"""A small model with its package, made once, and an image that fits it."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_pix2pix.bioimageio_export.package import export_bioimageio
from napari_pix2pix.bioimageio_export.package_description import PackageInfo
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import Credits, InferenceConfig
from pix2pix_training.intensity import LinearMapping, dtype_mapping
from pix2pix_training.model_file import Model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator, initialize_weights, norm_layers

INFO = PackageInfo(
    name="phase to nuclei (test)",
    credits=Credits(authors=("A. Author",), license="CC-BY-4.0", citation="Author 2026, doi:10.1234/test.5"),
)


def model_with(norm: str = "batch", statistics: str = "running", architecture: str = "unet") -> Model:
    """Two channels of 16 bits to one of 8; random weights, and running averages that differ from the image's."""
    torch.manual_seed(0)
    config = GeneratorConfig(
        architecture=architecture,  # type: ignore[arg-type]
        source_channels=2,
        target_channels=1,
        base_width=4,
        depth=3,
        blocks=1,
        norm=norm,  # type: ignore[arg-type]
    )
    network = build_generator(config)
    initialize_weights(network)
    for layer in norm_layers(network):
        if layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.005, 0.02)
    return Model(
        generator_config=config,
        weights=network.state_dict(),
        source=ImageDescription(
            mapping=LinearMapping(
                dtype="uint16", scope="training-set", channels=2, low=(100.0, 50.0), high=(4000.0, 3000.0)
            ),
            channel_names=("phase", "DAPI 405"),
            pixel_size=(0.5, 0.65),
            unit="µm",
        ),
        target=ImageDescription(mapping=dtype_mapping(np.dtype(np.uint8), 1)),
        inference=InferenceConfig(statistics=statistics),  # type: ignore[arg-type]
        metrics={"mae": 0.05},
    )


def smooth_image(height: int, width: int) -> NDArray[np.uint16]:
    noise = np.random.default_rng(0).random((2, height, width))
    smooth = gaussian_filter(noise, (0, 3, 3))
    image: NDArray[np.uint16] = ((smooth - smooth.min()) / np.ptp(smooth) * 4200).astype(np.uint16)
    return image


@pytest.fixture(scope="session")
def image_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smaller than the test tensors in one direction, larger in the other."""
    path = tmp_path_factory.mktemp("image") / "image.tif"
    tifffile.imwrite(path, smooth_image(200, 300), imagej=True, metadata={"axes": "CYX"})
    return path


@pytest.fixture(scope="session")
def package(image_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked package of a model with running statistics."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("yaml")
    folder = tmp_path_factory.mktemp("package")
    export_bioimageio(model_with(), folder / "package.zip", INFO, image_file)
    with ZipFile(folder / "package.zip") as archive:
        archive.extractall(folder)
    return folder
