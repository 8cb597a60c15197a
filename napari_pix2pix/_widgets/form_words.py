"""Lines that speak of options of the command line, in the words of the forms. No napari, no Qt."""

from __future__ import annotations

import re
from collections.abc import Iterator

from napari_pix2pix.translation.option_words import in_other_words
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.setting_options import setting_options

_LENGTHS = ("epochs", "steps", "minutes")
_FIELDS_OF_IMAGES = {
    "--device": "Device",
    "--init": "Start from",
    "--novelty-map": "Show where",
    "--match-pixel-size": "rescale to the model's pixel size",
    "--resume": "Resume",
}


def _fields() -> Iterator[tuple[str, str]]:
    """What the forms have for an option, and for an option with a value."""
    for option in (*setting_options(), *setting_options(TranslationSettings)):
        if option.name not in (*_LENGTHS, "alpha"):
            yield from ((word, option.label) for word in option.option.split("/"))
            yield from (
                (f"{option.option} {value}", f"{option.label}: {words}") for value, words in option.labels.items()
            )
    yield from _FIELDS_OF_IMAGES.items()


_FIELDS = dict(_fields())
_SETTINGS = {option.paths[0][-1]: f"“{option.label}”" for option in setting_options()}
_QUOTED = {option: f"“{field}”" for option, field in _FIELDS.items()}


def in_form_words(line: str) -> str:
    """A line in which options are fields of the form; what it advises without there being a field is left out."""
    return in_other_words(line, _QUOTED)


def named_as_fields(line: str) -> str:
    """A line in which settings of a run are called like their fields: “Patch size” for patch_size."""
    return re.sub(r"\b[a-z]+(?:_[a-z]+)+\b", lambda found: _SETTINGS.get(found[0], found[0]), line)
