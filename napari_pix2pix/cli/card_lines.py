"""A model's card: what people want to know before they use it, a line for each fact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pix2pix_training.in_words import (
    describe_discriminator,
    describe_generator,
    describe_inference,
    describe_mapping,
)
from pix2pix_training.model_file import ImageDescription, Model
from pix2pix_training.networks import parameter_count

_UNKNOWN = "not stated"


def card_lines(model: Model) -> Iterator[str]:
    """Label and fact, a line each."""
    yield f"network: {describe_generator(model.generator_config)}; {parameter_count(model.generator())} parameters"
    yield f"source: {_side(model.source)}"
    yield f"target: {_side(model.target)}"
    yield f"mode: {describe_inference(model.inference)}"
    yield f"training: {_training(model.training)}"
    scores = [f"{name} {value:.4g}" for name, value in model.metrics.items() if isinstance(value, int | float)]
    yield f"validation: {', '.join(scores) + ' (pixels in [-1, 1])' if scores else 'none'}"
    if model.discriminator is not None:
        yield f"discriminator: {describe_discriminator(model.discriminator)}"
    yield f"authors: {', '.join(model.credits.authors) or _UNKNOWN}"
    yield f"licence: {model.credits.license or _UNKNOWN}"
    yield f"citation: {model.credits.citation or _UNKNOWN}"


def _side(image: ImageDescription) -> str:
    channels = image.channels
    parts = [f"{channels} channel{'' if channels == 1 else 's'}"]
    if image.channel_names:
        parts[0] += f" ({', '.join(image.channel_names)})"
    if image.z_context:
        parts.append(f"each plane with {image.z_context} neighbouring in Z on each side")
    parts.append(describe_mapping(image.mapping))
    if image.pixel_size is not None:
        rows, columns = image.pixel_size
        size = f"{columns:.4g}" if rows == columns else f"{rows:.4g} x {columns:.4g} (y, x)"
        parts.append(f"pixel size {size} {image.unit or 'units'}")
    return "; ".join(parts)


def _training(provenance: Any) -> str:
    """From the free-form entry of the model file, whatever of it is there."""
    if imported := provenance.get("imported_from"):
        return f"imported from {', '.join(imported)}"
    config = provenance.get("config", {})
    facts = [
        (f"{provenance.get('step')} steps", "step" in provenance),
        (f"{provenance.get('epochs', 0):.3g} epochs", "epochs" in provenance),
        (f"{provenance.get('training_pairs')} pairs", "training_pairs" in provenance),
        (f"{provenance.get('validation_pairs')} held out", "validation_pairs" in provenance),
        (f"preset {config.get('preset')}", "preset" in config),
        (f"patches of {config.get('patch_size')} px", "patch_size" in config),
        (f"batch {config.get('batch_size')}", "batch_size" in config),
        (f"seed {config.get('seed')}", "seed" in config),
        (f"{provenance.get('seconds', 0):.0f} s on {provenance.get('device')}", "seconds" in provenance),
    ]
    return ", ".join(text for text, known in facts if known) or _UNKNOWN
