"""Axes of arrays in any order, and the order in which this project reads them: leading axes, then CYX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pix2pix_training.errors import ImageError

_SPARE = "ABDEFGHIJKLMNOP"


@dataclass(frozen=True)
class AxisOrder:
    """One letter per axis of an array, as somebody gave them: X and Y, C for channels or none, others for planes."""

    letters: str

    @property
    def leading(self) -> str:
        """The axes of planes: any others, then T, then Z."""
        return "".join(sorted(self.letters.translate({ord(c): None for c in "CYX"}), key="TZ".find))

    @property
    def normal(self) -> str:
        """The axes in the order of `ArraySource`, with C where the array has none."""
        return f"{self.leading}CYX"

    @property
    def has_channels(self) -> bool:
        return "C" in self.letters

    def with_channels(self) -> AxisOrder:
        """Itself where there is an axis of channels, else with one before Y and X."""
        if self.has_channels:
            return self
        first = min(self.letters.index("Y"), self.letters.index("X"))
        return AxisOrder(f"{self.letters[:first]}C{self.letters[first:]}")

    def positions(self) -> tuple[int, ...]:
        """Of the axes in `normal` order, of an array with channels: what `numpy.transpose` takes."""
        return tuple(self.letters.index(letter) for letter in self.normal)


def axis_order(axes: str | None, shape: Sequence[int], name: str) -> AxisOrder:
    """What the axes of an array are.

    Parameters
    ----------
    axes : such as "YXC", "ZYX" or "TCZYX"; S stands for C. Without it, arrays are (Y, X) or (*planes, C, Y, X).

    Raises
    ------
    ImageError
        The axes do not fit the shape, or are none.
    """
    count = len(shape)
    if axes is None:
        if count < 2:
            raise ImageError(f"{name}: an array of shape {tuple(shape)} is no image; it needs two axes or more")
        return AxisOrder("YX" if count == 2 else _SPARE[: count - 3] + "CYX")
    if not isinstance(axes, str):
        raise ImageError(f"{name}: the axes {axes!r} are no text; give one letter for each axis, such as 'YXC'")
    letters = axes.upper()
    letters = letters if "C" in letters else letters.replace("S", "C")
    problem = None
    if len(letters) != count:
        problem = f"are {len(letters)}, and its shape {tuple(shape)} has {count}"
    elif not letters.isalpha() or not letters.isascii() or len(set(letters)) != count:
        problem = "must be different letters"
    elif "Y" not in letters or "X" not in letters:
        problem = "must name Y and X"
    if problem is not None:
        raise ImageError(f"{name}: the axes {axes!r} {problem}; give one letter for each axis, such as YXC or TCZYX")
    return AxisOrder(letters)
