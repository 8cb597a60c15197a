"""Lines that speak of options of the command line, in the words of the forms. No napari, no Qt."""

from __future__ import annotations

import re
from collections.abc import Iterator

from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.setting_options import setting_options

_LENGTHS = ("epochs", "steps", "minutes")
_FIELDS_OF_IMAGES = {
    "--device": "Device",
    "--init": "Start from",
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
_KNOWN = re.compile("|".join(rf"{re.escape(option)}(?![\w-])" for option in sorted(_FIELDS, key=len, reverse=True)))
_OPTION = re.compile(r"--[a-z]")


def in_form_words(line: str) -> str:
    """A line in which options are fields of the form; what it advises without there being a field is left out."""
    first, *clauses = _KNOWN.sub(lambda found: f"“{_FIELDS[found.group()]}”", line).split("; ")
    return "; ".join([first, *filter(None, map(_without_options, clauses))])


def _without_options(clause: str) -> str:
    """The alternatives of a clause that can be followed in a form."""
    if not _OPTION.search(clause):
        return clause
    return ", or ".join(part for part in re.split(r",? or ", clause) if not _OPTION.search(part))
