"""A piece of a real image with what the model makes of it: to test a package with, and to show on its cover."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from napari_pix2pix.bioimageio_export.operations import tensor_dtype
from napari_pix2pix.bioimageio_export.package_description import BlockSizes
from napari_pix2pix.formats import open_image
from napari_pix2pix.translation.image_fit import fit_of
from pix2pix_training.array_source import AnyArray, ArraySource, SelectedChannels, plane_indices, plane_size
from pix2pix_training.errors import ImageError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.intensity import PERCENTILES, CategoryMapping, LinearMapping, to_tensor
from pix2pix_training.invalid_pixels import FilledSource
from pix2pix_training.model_file import Model
from pix2pix_training.neighbouring_planes import with_neighbouring_planes
from pix2pix_training.regions import Region

_SIDE_PX = 256
_COVER_PX = 256


@dataclass(frozen=True)
class TestSample:
    """Input and output (1, C, Y, X) in the types of the package; `cover` is a PNG of both side by side, 2:1."""

    source: AnyArray
    target: AnyArray
    cover: bytes


def test_sample(model: Model, inference: InferenceConfig, path: Path, sizes: BlockSizes) -> TestSample:
    """Translate the middle of the first plane of an image, without padding, on the CPU in float32.

    Images that are too small are continued by reflection. Invalid pixels are filled.

    Raises
    ------
    ImageError
        The image cannot be read or does not fit the model.
    """
    height = sizes.side_of_at_least(_SIDE_PX)
    with open_image(path) as image:
        fit = fit_of(image, model.source, metadata=image.metadata)
        if fit.problem is not None:
            raise ImageError(fit.problem)
        seen = with_neighbouring_planes(SelectedChannels(image, fit.channels), model.source.z_context)
        stored = _middle(seen, height, height + sizes.step)  # not square, so that a confusion of axes shows
    target_mapping = model.target.mapping
    with torch.inference_mode():
        x = _input_mapping(model, stored).to_network(to_tensor(stored)[None])
        y = model.generator(inference)(x)
        output = y if isinstance(target_mapping, CategoryMapping) else target_mapping.from_network(y)
    return TestSample(
        source=stored[None].astype(tensor_dtype(model.source.mapping)),
        target=output.numpy().astype(tensor_dtype(target_mapping)),
        cover=_cover(x[0], y[0]),
    )


def _middle(image: ArraySource, height: int, width: int) -> AnyArray:
    """(C, height, width) from the middle of the first plane."""
    filled, plane = FilledSource(image), next(iter(plane_indices(image)))
    filled.require_valid_pixel(plane)
    rows, columns = plane_size(image)
    y0, x0 = max(0, rows - height) // 2, max(0, columns - width) // 2
    stored = filled.read(Region.at(y0, x0, height, width).common(Region.whole(rows, columns)), plane)
    missing = ((0, 0), (0, height - stored.shape[1]), (0, width - stored.shape[2]))
    return np.pad(stored, missing, mode="symmetric")


def _input_mapping(model: Model, stored: AnyArray) -> LinearMapping:
    """The source's mapping; ends that are found per image are found as the package's operations find them."""
    mapping = model.source.mapping
    assert isinstance(mapping, LinearMapping)  # `preprocessing` refuses others
    if mapping.low:
        return mapping
    low, high = np.percentile(stored, PERCENTILES, axis=(1, 2))
    return replace(mapping, low=tuple(map(float, low)), high=tuple(map(float, high)))


def _cover(source: Tensor, target: Tensor) -> bytes:
    pictures = [_picture(image) for image in (source, target)]
    sheet = Image.new("RGB", (2 * _COVER_PX, _COVER_PX))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number * _COVER_PX, 0))
    content = io.BytesIO()
    sheet.save(content, format="PNG")
    return content.getvalue()


def _picture(image: Tensor) -> Image.Image:
    """(C, H, W) in [-1, 1] as a square of its upper left: three channels as colours, else the first as grey."""
    side = min(image.shape[-2:])
    shown = image if image.shape[0] == 3 else image[:1].expand(3, -1, -1)
    pixels: NDArray[np.uint8] = ((shown[:, :side, :side].clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels).resize((_COVER_PX, _COVER_PX))
