"""What people read about a package: its ``README.md``."""

from __future__ import annotations

from collections.abc import Sequence

from napari_pix2pix.bioimageio_export.blocks import BlockSizes
from napari_pix2pix.bioimageio_export.package_description import PackageInfo
from pix2pix_training.config import InferenceConfig
from pix2pix_training.in_words import describe_generator, describe_inference, describe_mapping
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.model_file import Model

_IN_BLOCKS = """Large images can be run in blocks: with the halo of {halo} pixels the result is that of the whole image,
except within {halo} pixels of its border, where programs differ in how they continue it."""

_WHOLE = """The norm layers use statistics of the whole image, so run whole images: in blocks, brightness and contrast
would jump from one block to the next. napari-pix2pix translates images of any size in tiles that equal the whole."""

_SCORES = "The output has a score in [-1, 1] for each category; the largest wins."


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
