"""Axes as this project orders them: any others, then T, then Z, then CYX."""

from __future__ import annotations

from collections.abc import Sequence

_SPARE_LETTERS = "QPRABDEFGH"


def sorted_leading(letters: str, lengths: Sequence[int]) -> list[int]:
    """Positions of the axes that are neither C, S, Y nor X and longer than 1, in the order of this project."""
    leading = [i for i, letter in enumerate(letters) if letter not in "CSYX" and lengths[i] > 1]
    return sorted(leading, key=lambda i: "TZ".find(letters[i]))


def distinct(letters: str) -> str:
    """Replace repeated letters, so that each names one axis."""
    result = ""
    for letter in letters:
        spare = (other for other in _SPARE_LETTERS if other not in result and other not in letters)
        result += next(spare) if letter in result else letter
    return result


def time_and_depth(leading: str) -> str:
    """Leading axes as the T and Z that OME and ImageJ know; another axis takes the place of a missing one."""
    result = leading
    for letter in leading:
        if letter not in "TZ":
            result = result.replace(letter, "Z" if "Z" not in result else "T", 1)
    return result
