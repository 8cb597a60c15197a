"""What an ONNX file says of itself besides its graph: the mapping of stored pixel values, and the model's header."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pix2pix_training.config import InferenceConfig
from pix2pix_training.descriptions import describe_inference
from pix2pix_training.intensity import PERCENTILES, CategoryMapping, LinearMapping
from pix2pix_training.intensity import Mapping as IntensityMapping
from pix2pix_training.model_file import Model, model_header


def onnx_metadata(
    model: Model, inference: InferenceConfig | None = None, *, mapping_in_graph: bool = False
) -> dict[str, str]:
    """Entries for ``metadata_props``.

    ``pix2pix`` is the header of the model file as JSON; ``source_mapping`` and ``target_mapping`` say how stored pixels
    become the input and how the output becomes pixels, ``mapping`` whether the graph does that itself, ``inference``
    which function was exported, and ``license``, ``authors`` and ``citation`` are there where the model has them.
    """
    credits = {
        "authors": ", ".join(model.credits.authors),
        "license": model.credits.license or "",
        "citation": model.credits.citation or "",
    }
    return {
        "mapping": "part of the graph" if mapping_in_graph else "not part of the graph",
        "source_mapping": _source_formula(model.source.mapping),
        "target_mapping": _target_formula(model.target.mapping),
        "inference": describe_inference(inference or model.inference),
        **{name: text for name, text in credits.items() if text},
        "pix2pix": json.dumps(model_header(model)),
    }


def with_metadata(content: bytes, entries: Mapping[str, str]) -> bytes:
    """A serialised ONNX model with `entries` in its ``metadata_props``."""
    import onnx

    model = onnx.load_model_from_string(content)
    onnx.helper.set_model_props(model, dict(entries))
    return bytes(model.SerializeToString())


def _source_formula(mapping: IntensityMapping) -> str:
    if isinstance(mapping, CategoryMapping):
        return f"a channel per category, 1 where a pixel has its value and -1 elsewhere; {_values(mapping)}"
    formula = f"features = clip((pixel - low) * 2 / (high - low) - 1, -1, 1), pixels of type {mapping.dtype}"
    if not mapping.low:
        return f"{formula}; low and high are percentiles {PERCENTILES[0]} and {PERCENTILES[1]} of each channel"
    return f"{formula}; {_ends(mapping)}"


def _target_formula(mapping: IntensityMapping) -> str:
    if isinstance(mapping, CategoryMapping):
        return f"pixel = value of the category whose channel is largest; {_values(mapping)}"
    rounding = "" if mapping.dtype.startswith("float") else ", rounded"
    formula = f"pixel = (clip(output, -1, 1) + 1) * (high - low) / 2 + low{rounding}, of type {mapping.dtype}"
    return f"{formula}; {_ends(mapping)}"


def _ends(mapping: LinearMapping) -> str:
    return f"per channel: low = {list(mapping.low)}, high = {list(mapping.high)}"


def _values(mapping: CategoryMapping) -> str:
    return f"values = {[list(value) for value in mapping.values]}, type {mapping.dtype}"
