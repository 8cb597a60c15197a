"""Small images and a small trained model, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from pix2pix_training.image_description import ImageDescription
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import dtype_mapping
from pix2pix_training.model_file import Model, save_model
from pix2pix_training.network_config import GeneratorConfig
from pix2pix_training.networks import build_generator, initialize_weights


def model_for(source_channels: int, target_channels: int, source: str = "uint8", target: str = "uint8") -> Model:
    """An untrained model with random weights, as good as any for what does not concern quality."""
    torch.manual_seed(0)
    config = GeneratorConfig(
        source_channels=source_channels, target_channels=target_channels, base_width=4, depth=3, norm="instance"
    )
    network = build_generator(config)
    initialize_weights(network)
    return Model(
        generator_config=config,
        weights=network.state_dict(),
        source=ImageDescription(mapping=dtype_mapping(np.dtype(source), source_channels)),
        target=ImageDescription(mapping=dtype_mapping(np.dtype(target), target_channels)),
        inference=InferenceConfig(statistics="image"),
    )


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(model_for(1, 1), path)
    return path


@pytest.fixture
def image_path(tmp_path: Path) -> Path:
    """A grey 8-bit TIFF of 40 x 50 pixels."""
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8))
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Four pairs of grey 8-bit images of 40 x 48 pixels; the target is the negative of the source."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        image = np.repeat(rng.integers(0, 256, (10, 48), np.uint8), 4, axis=0)
        tifffile.imwrite(source / f"{number}.tif", image)
        tifffile.imwrite(target / f"{number}.tif", 255 - image)
    return source, target
