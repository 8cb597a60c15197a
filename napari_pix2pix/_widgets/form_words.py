"""Lines that speak of options of the command line, in the words of the forms. No napari, no Qt."""

from __future__ import annotations

import re

_FIELDS = {
    "--base-width": "Base width",
    "--batch-size": "Patch, batch",
    "--channels": "Channels",
    "--convert-values image": "Values of another type: fitted to each image",
    "--convert-values type": "Values of another type: from range to range of the types",
    "--convert-values values": "Values of another type: as they are",
    "--convert-values": "Values of another type",
    "--depth": "Depth",
    "--device": "Device",
    "--init": "Start from",
    "--learning-rate": "Learning rate",
    "--match-pixel-size": "rescale to the model's pixel size",
    "--max-memory": "Memory",
    "--patch-size": "Patch, batch",
    "--precision": "Precision",
    "--preset": "Preset",
    "--resume": "Resume",
    "--sampling": "Patches from",
    "--source-values categories": "Source values: categories",
    "--source-values dtype": "Source values: range of the pixel type",
    "--source-values training-set": "Source values: range of the training set",
    "--target-values categories": "Target values: categories",
    "--target-values dtype": "Target values: range of the pixel type",
    "--target-values foreground": "Target values: labelled or not",
    "--target-values training-set": "Target values: range of the training set",
    "--tile": "Tile",
}
"""What the forms have for an option."""

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
