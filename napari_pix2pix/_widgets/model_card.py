"""What a model file says about itself, in words, and whether an image fits it. Imports neither napari nor Qt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pix2pix._widgets.form_words import in_form_words
from napari_pix2pix._widgets.layer_sources import pixel_size_in_words
from napari_pix2pix._widgets.score_words import shown_score
from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.units import size_ratio, sizes_differ
from pix2pix_training.array_source import ArraySource

if TYPE_CHECKING:
    from napari_pix2pix.translation.image_fit import Fit
    from pix2pix_training.error_network import ErrorTraits
    from pix2pix_training.image_description import ImageDescription
    from pix2pix_training.model_file import Model

_NO_BREAK = "\N{NO-BREAK SPACE}"
_NO_OPTIONS: Mapping[str, Any] = {}
_OTHER_SCORES = {"psnr": "PSNR", "ssim": "SSIM", "pearson": "Pearson r"}
"""Of intensities; of classes they say nothing."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The facts about a model that a user chooses it by.

    `statistics` are those of its norm layers; `has_noise`: it has dropout layers that can be left active.
    `errors`: what its error map promises, None without one.
    """

    path: Path
    architecture: str
    source: ImageDescription
    target: ImageDescription
    statistics: str
    has_noise: bool
    metrics: Mapping[str, float]
    steps: int | None
    errors: ErrorTraits | None = None

    def rows(self) -> list[tuple[str, str]]:
        """Label and text of each line."""
        return [
            ("Network", self.architecture + (f", {self.steps} steps" if self.steps is not None else "")),
            ("Source", _side(self.source)),
            ("Target", _side(self.target)),
            ("Pixel size", pixel_size_in_words(self.source.pixel_size, self.source.unit)),
            ("Validation", ", ".join(self._scores()) or "none; Evaluate says how good it is"),
            *([("Error map", _promise(self.errors))] if self.errors else []),
        ]

    @property
    def details(self) -> str:
        """What is more than a line of the card has room for."""
        from pix2pix_training.in_words import describe_errors

        return f"Error map: {describe_errors(self.errors)}." if self.errors else ""

    def _scores(self) -> list[str]:
        from pix2pix_training.intensity import CategoryMapping
        from pix2pix_training.preparation import stored_span

        mapping = self.target.mapping
        is_classes = isinstance(mapping, CategoryMapping)
        known = {name: value for name, value in self.metrics.items() if isinstance(value, int | float)}
        others = {} if is_classes else {_OTHER_SCORES[name]: known[name] for name in _OTHER_SCORES if name in known}
        first = shown_score(is_classes=is_classes, span=stored_span(mapping)).words(known)
        return [*([first] if first else []), *(f"{name} {value:.3g}" for name, value in others.items())]


def _promise(errors: ErrorTraits) -> str:
    measured = "" if errors.measured is None else f"; measured {100 * errors.measured:.3g}{_NO_BREAK}%"
    return f"intervals for {100 * errors.coverage:.3g} % of pixels{measured}"


def _side(image: ImageDescription) -> str:
    named = f" ({', '.join(image.channel_names)})" if image.channel_names else ""
    neighbours = f", {image.z_context} neighbouring in Z on each side" if image.z_context else ""
    channels = f"{image.channels} channel{'s' if image.channels != 1 else ''}{named}"
    return f"{channels}, {image.mapping.dtype}{_classes(image)}{neighbours}"


def _classes(image: ImageDescription) -> str:
    from pix2pix_training.intensity import CategoryMapping

    if not isinstance(image.mapping, CategoryMapping):
        return ""
    return ", labelled or not" if image.mapping.foreground else f", {len(image.mapping.values)} classes"


def load_card(path: Path) -> ModelCard:
    """Read a model file as a whole, so that a damaged one is noticed now.

    Raises
    ------
    ModelFileError
        The file is missing, damaged, of another kind or of a newer version.
    """
    from pix2pix_training.model_file import load_model

    return card_of(load_model(path), path)


def card_of(model: Model, path: Path) -> ModelCard:
    steps = model.training.get("step")
    return ModelCard(
        path=path,
        architecture=_architecture(model),
        source=model.source,
        target=model.target,
        statistics=model.inference.statistics,
        has_noise=model.generator_config.dropout != "none",
        metrics=dict(model.metrics),
        steps=steps if isinstance(steps, int) else None,
        errors=None if model.error is None else model.error.traits,
    )


def _architecture(model: Model) -> str:
    from pix2pix_training.in_words import architecture_name

    config = model.generator_config
    size = f"{config.blocks} blocks" if config.architecture == "resnet" else f"depth {config.depth}"
    return f"{architecture_name(config)}, {size}, width {config.base_width}"


def fit_problem(card: ModelCard, source: ArraySource, options: Mapping[str, Any] = _NO_OPTIONS) -> str | None:
    """Why an image cannot go through the model, in words; None where it can.

    `options` are fields of `TranslationSettings`.
    """
    problem = _fit(card, source, options).problem
    return None if problem is None else f"{in_form_words(problem)}."


def fit_warnings(
    card: ModelCard, source: ArraySource, metadata: ImageMetadata | None, options: Mapping[str, Any] = _NO_OPTIONS
) -> list[str]:
    """What may make the result poor: channels of other names, or pixels of another size than in the training images.

    `metadata` says how large the pixels are; None where that does not matter. `options` as for `fit_problem`.
    """
    warnings = [f"{in_form_words(remark)}." for remark in _fit(card, source, options).remarks]
    if metadata is not None and rescaling(card, metadata) is not None:
        warnings.append(f"{size_comparison(card, metadata)} Rescale for a good result.")
    return warnings


def _fit(card: ModelCard, source: ArraySource, options: Mapping[str, Any]) -> Fit:
    from napari_pix2pix.translation.image_fit import fit_of
    from napari_pix2pix.translation.settings import TranslationSettings

    chosen = {name: options[name] for name in ("channels", "convert_values") if name in options}
    return fit_of(source, card.source, settings=TranslationSettings(**chosen))


def rescaling(card: ModelCard, metadata: ImageMetadata) -> tuple[float, float] | None:
    """Pixel size of an image over that of training, (y, x); None where they hardly differ or one is unknown."""
    ratio = size_ratio(metadata.pixel_size, metadata.unit, card.source.pixel_size, card.source.unit)
    return ratio if ratio is not None and sizes_differ(ratio) else None


def size_comparison(card: ModelCard, metadata: ImageMetadata) -> str:
    """Both pixel sizes in words."""
    own, trained = (pixel_size_in_words(each.pixel_size, each.unit) for each in (metadata, card.source))
    return f"Pixels are {own}, the model was trained on {trained}."
