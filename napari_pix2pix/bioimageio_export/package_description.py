"""The description of a package: ``bioimageio.yaml`` (BioImage Model Zoo, model description 0.5)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_pix2pix.bioimageio_export.blocks import BlockSizes
from napari_pix2pix.bioimageio_export.operations import postprocessing, preprocessing, tensor_dtype
from pix2pix_training.config import Credits, InferenceConfig
from pix2pix_training.errors import SettingsError
from pix2pix_training.in_words import describe_generator, describe_mapping
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.model_file import ImageDescription, Model, model_header

FORMAT_VERSION = "0.5.4"
TEST_SOURCE, TEST_TARGET = "test_input.npy", "test_output.npy"
SAMPLE_SOURCE, SAMPLE_TARGET = "sample_input.tif", "sample_output.tif"
COVER, README = "cover.png", "README.md"

_PIX2PIX = {
    "text": "Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017",
    "doi": "10.1109/CVPR.2017.632",
}
_UNITS = {"m": "meter", "cm": "centimeter", "mm": "millimeter", "µm": "micrometer", "nm": "nanometer", "Å": "angstrom"}


@dataclass(frozen=True, kw_only=True)
class PackageInfo:
    """What people must know of a package and a model file may lack.

    Raises
    ------
    SettingsError
        Something is missing, or not of the form that the model zoo asks for.
    """

    name: str
    credits: Credits

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_+\- ()]{5,128}", self.name):
            raise SettingsError(
                f"the name {self.name!r} of a package must have 5 to 128 letters, digits, spaces or characters of _+-()"
            )
        if not self.credits.authors:
            raise SettingsError("a BioImage Model Zoo package names its authors; give --author NAME")
        if wrong := next((name for name in self.credits.authors if "/" in name or not name.strip()), None):
            raise SettingsError(f"{wrong!r} is not a name of an author; it must not be empty or contain a /")
        if not re.fullmatch(r"[A-Za-z0-9.+-]+", self.credits.license or ""):
            raise SettingsError(
                "a BioImage Model Zoo package states its licence; give --license with an SPDX identifier such as "
                "CC-BY-4.0"
            )
        self.citations()

    def citations(self) -> list[dict[str, str]]:
        """The paper on pix2pix, and what the model asks to be cited for."""
        text = self.credits.citation
        if text is None:
            return [_PIX2PIX]
        doi, url = re.search(r"10\.\d{4,9}/[^\s,;]+", text), re.search(r"https?://\S+", text)
        if doi is None and url is None:
            raise SettingsError(f"the citation {text!r} needs a DOI (10.xxxx/...) or an address in a package")
        return [{"text": text, **({"doi": doi[0]} if doi else {"url": url[0] if url else ""})}, _PIX2PIX]


def description(
    model: Model, inference: InferenceConfig, info: PackageInfo, sizes: BlockSizes, weights: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of ``bioimageio.yaml``; `weights` is its entry of that name."""
    source, target = model.source, model.target
    return {
        "format_version": FORMAT_VERSION,
        "type": "model",
        "name": info.name,
        "description": f"pix2pix image translation: {describe_generator(model.generator_config)}",
        "authors": [{"name": name} for name in info.credits.authors],
        "cite": info.citations(),
        "license": info.credits.license,
        "tags": ["pix2pix", "image-translation", model.generator_config.architecture, "2d"],
        "documentation": README,
        "covers": [COVER],
        "inputs": [
            {
                "id": "input",
                "description": _shortened(describe_mapping(source.mapping)),
                "axes": _input_axes(source, sizes),
                "data": {"type": tensor_dtype(source.mapping)},
                "preprocessing": preprocessing(source.mapping),
                "test_tensor": {"source": TEST_SOURCE},
                "sample_tensor": {"source": SAMPLE_SOURCE},
            }
        ],
        "outputs": [
            {
                "id": "output",
                "description": _shortened(describe_mapping(target.mapping)),
                "axes": _output_axes(source, target, sizes),
                "data": {"type": tensor_dtype(target.mapping)},
                "postprocessing": postprocessing(target.mapping),
                "test_tensor": {"source": TEST_TARGET},
                "sample_tensor": {"source": SAMPLE_TARGET},
            }
        ],
        "weights": dict(weights),
        "config": {
            "bioimageio": {"reproducibility_tolerance": [_tolerance(target)]},
            "napari_pix2pix": model_header(model),
        },
    }


def _input_axes(source: ImageDescription, sizes: BlockSizes) -> list[dict[str, Any]]:
    def spatial(name: str) -> dict[str, Any]:
        size = {"min": sizes.minimum, "step": sizes.step}
        return {**_space(name, source), "size": size, "concatenable": sizes.halo > 0}

    return [{"type": "batch"}, _channels(source), spatial("y"), spatial("x")]


def _output_axes(source: ImageDescription, target: ImageDescription, sizes: BlockSizes) -> list[dict[str, Any]]:
    """The output's pixels are those of the input."""
    halo = {"halo": sizes.halo} if sizes.halo else {}
    spatial = [{**_space(name, source), "size": {"tensor_id": "input", "axis_id": name}, **halo} for name in "yx"]
    return [{"type": "batch"}, _channels(target), *spatial]


def _space(name: str, image: ImageDescription) -> dict[str, Any]:
    """Readers compute ``n * scale / scale`` and cut off: n again where the scale has no more digits than a float32."""
    axis: dict[str, Any] = {"type": "space", "id": name}
    unit = _UNITS.get(image.unit or "")
    if image.pixel_size is not None and unit is not None:
        axis |= {"unit": unit, "scale": float(np.float32(image.pixel_size["yx".index(name)]))}
    return axis


def _channels(image: ImageDescription) -> dict[str, Any]:
    mapping = image.mapping
    if isinstance(mapping, CategoryMapping):
        names: Sequence[str] = ["category " + " ".join(map(str, value)) for value in mapping.values]
    else:
        names = _plane_names(image.channel_names or [f"channel {n}" for n in range(image.channels)], image.z_context)
    return {"type": "channel", "channel_names": _identifiers(names)}


def _plane_names(names: Sequence[str], z_context: int) -> Sequence[str]:
    """Names of the channels of all planes that the network sees at once."""
    if z_context == 0:
        return names
    return [f"{name} plane {number}" for number in range(1, 2 * z_context + 2) for name in names]


def _identifiers(names: Sequence[str]) -> list[str]:
    """Names of letters, digits and underscores, all different."""
    cleaned = [re.sub(r"\W", "_", name, flags=re.ASCII) for name in names]
    cleaned = [name if re.match(r"[A-Za-z_]", name) else f"channel_{name}" for name in cleaned]
    if len(set(cleaned)) == len(cleaned):
        return cleaned
    return [f"{name}_{number}" for number, name in enumerate(cleaned)]


def _tolerance(target: ImageDescription) -> dict[str, float]:
    """Integers may be rounded the other way, floats differ by a ten-thousandth of their range."""
    if np.dtype(tensor_dtype(target.mapping)).kind in "iu":
        return {"absolute_tolerance": 1.0}
    if isinstance(target.mapping, CategoryMapping):
        return {"absolute_tolerance": 2e-4}
    reach = max(high - low for low, high in zip(target.mapping.low, target.mapping.high, strict=True))
    return {"absolute_tolerance": 1e-4 * reach}


def _shortened(text: str) -> str:
    return text if len(text) <= 128 else text[:125] + "..."
