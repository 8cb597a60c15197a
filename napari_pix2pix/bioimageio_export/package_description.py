"""The description of a package: ``bioimageio.yaml`` (BioImage Model Zoo, model description 0.5)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_pix2pix.bioimageio_export.operations import postprocessing, preprocessing, tensor_dtype
from napari_pix2pix.translation.cost import receptive_radius
from pix2pix_training.errors import SettingsError
from pix2pix_training.image_description import ImageDescription
from pix2pix_training.in_words import describe_generator, describe_inference, describe_mapping
from pix2pix_training.inference_config import Credits, InferenceConfig
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.model_file import Model, model_header
from pix2pix_training.network_config import GeneratorConfig

FORMAT_VERSION = "0.5.4"
TEST_SOURCE, TEST_TARGET = "test_input.npy", "test_output.npy"
SAMPLE_SOURCE, SAMPLE_TARGET = "sample_input.tif", "sample_output.tif"
COVER, README = "cover.png", "README.md"

_PIX2PIX = {
    "text": "Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017",
    "doi": "10.1109/CVPR.2017.632",
}
_UNITS = {"m": "meter", "cm": "centimeter", "mm": "millimeter", "µm": "micrometer", "nm": "nanometer", "Å": "angstrom"}
_IN_BLOCKS = """Large images can be run in blocks: with the halo of {halo} pixels the result is that of the whole image,
except within {halo} pixels of its border, where programs differ in how they continue it."""
_WHOLE = """The norm layers use statistics of the whole image, so run whole images: in blocks, brightness and contrast
would jump from one block to the next. napari-pix2pix translates images of any size in tiles that equal the whole."""
_SCORES = "The output has a score in [-1, 1] for each category; the largest wins."


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


@dataclass(frozen=True, kw_only=True)
class BlockSizes:
    """Sides of an input are ``minimum + n * step`` pixels.

    Where `halo` is positive, a block's output is that of the whole image except for `halo` pixels at each of its sides.
    Where it is 0, the output depends on the whole image, and blocks would give something else.
    """

    minimum: int
    step: int
    halo: int

    def side_of_at_least(self, pixels: int) -> int:
        return self.minimum + -(-max(0, pixels - self.minimum) // self.step) * self.step


def block_sizes(config: GeneratorConfig, inference: InferenceConfig) -> BlockSizes:
    """Blocks that start at multiples of the network's stride are in phase with the whole image."""
    stride = config.stride
    if config.norm != "none" and inference.statistics != "running":
        smallest = 2 * stride if config.architecture == "resnet" else stride  # a ResNet reflects at a quarter of it
        return BlockSizes(minimum=smallest, step=stride, halo=0)
    halo = receptive_radius(config)
    return BlockSizes(minimum=2 * halo + stride, step=stride, halo=halo)


def readme(model: Model, inference: InferenceConfig, info: PackageInfo, sizes: BlockSizes) -> str:
    """The text, in Markdown."""
    metrics = [f"- {name}: {value:.4g}" for name, value in model.metrics.items() if isinstance(value, float)]
    citations = [f"- {citation['text']}" for citation in info.citations()]
    target = describe_mapping(model.target.mapping)
    if isinstance(model.target.mapping, CategoryMapping):
        target += f". {_SCORES}"
    return f"""# {info.name}

{describe_generator(model.generator_config)}; {describe_inference(inference)}. Trained with napari-pix2pix.

- Source: {describe_mapping(model.source.mapping)}
- Target: {target}

## Use

Input sides are {sizes.minimum} + n * {sizes.step} pixels; pixel values are mapped by the operations of the description.
Invalid pixels (NaN, nodata) must be filled beforehand.

{_IN_BLOCKS.format(halo=sizes.halo) if sizes.halo else _WHOLE}

## Validation

{_lines(metrics) or "No validation scores are recorded."}

Scores are those of the held-out images of training, with pixels in [-1, 1]. Judge the model on images of your own with
a known target, for example by `napari-pix2pix evaluate`.

## Credits

By {", ".join(info.credits.authors)}. Licence: {info.credits.license}. Please cite:

{_lines(citations)}
"""


def _lines(items: Sequence[str]) -> str:
    return "\n".join(items)
