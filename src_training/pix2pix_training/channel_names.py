"""Channels of images matched by what they are called, so that DAPI is never taken for GFP."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from pix2pix_training.array_source import ArraySource, SelectedChannels
from pix2pix_training.errors import ImageError

log = logging.getLogger(__name__)

_NUMBERED = re.compile(r"((channel|chan|ch|c|band|b|sample|image|img|component)[ :#.]*)?\d{1,2}([ :]+\d{1,2})*")
_COLOURS = {"r": "red", "g": "green", "b": "blue"}


@dataclass(frozen=True, kw_only=True)
class NameMatch:
    """What two lists of channel names say about each other.

    Attributes
    ----------
    order : for each expected channel its index among those found; None where the names do not tell.
    contradiction : some names are the same, yet the channels do not fit together by them.
    unrelated : both sides are named, and no name is on both.
    """

    order: tuple[int, ...] | None = None
    contradiction: bool = False
    unrelated: bool = False


def match_names(found: Sequence[str], expected: Sequence[str]) -> NameMatch:
    """Where the expected channels stand among those found.

    Case, spaces, hyphens and underscores do not count. Names such as "Channel 1", "C0" or "Band 3" only number the
    channels, so they say as little as no name.
    """
    own, wanted = [_known(name) for name in found], [_known(name) for name in expected]
    if not any(own) or not any(wanted):
        return NameMatch()
    if all(wanted) and all(own.count(name) == 1 and wanted.count(name) == 1 for name in wanted):
        return NameMatch(order=tuple(own.index(name) for name in wanted))
    if len(own) == len(wanted) and all(a is None or b is None or a == b for a, b in zip(own, wanted, strict=True)):
        return NameMatch()
    shared = {name for name in own if name} & {name for name in wanted if name}
    return NameMatch(contradiction=bool(shared), unrelated=not shared)


def ordered_like(image: ArraySource, names: Sequence[str], whose: str) -> ArraySource:
    """The image with its channels in the order of `names`, where both are named so that it is clear; else as it is.

    What is done is said in a warning, and so is that no name is on both sides.

    Parameters
    ----------
    whose : what has the channels `names`, for messages.

    Raises
    ------
    ImageError
        The names contradict each other: some are the same, and the channels still do not fit together.
    """
    match = match_names(image.channel_names, names)
    found, expected = listed(image.channel_names), listed(names)
    if match.contradiction:
        raise ImageError(
            f"{image.name}: its channels are called {found}, those of {whose} {expected}; give images with the same "
            "channels, or correct the names"
        )
    if match.unrelated and len(names) == image.shape[-3]:
        log.warning(
            "%s: its channels are called %s, those of %s %s; they are taken in the order in which they are stored",
            image.name,
            found,
            whose,
            expected,
        )
    if match.order is None or match.order == tuple(range(image.shape[-3])):
        return image
    log.warning("%s: of its channels %s, those of %s are taken by name: %s", image.name, found, whose, expected)
    return SelectedChannels(image, match.order)


def say_other_channels(found: Sequence[str], start: Sequence[str], side: str) -> None:
    """A word where a model to start from has other channels on a side, or the same in another order."""
    match = match_names(found, start)
    in_order = match.order in (None, tuple(range(len(found))))
    if len(found) == len(start) and (match.contradiction or match.unrelated or not in_order):
        log.warning(
            "the channels of the %ss are called %s, those of the model to start from %s; each takes the place of the "
            "one that stands where it does, which --%s-channels can change",
            side,
            listed(found),
            listed(start),
            side,
        )


def in_common_order(images: Sequence[ArraySource], channels: Sequence[int] | None = None) -> list[ArraySource]:
    """Images of one kind, such as all sources of a training, with the same channels in the same order.

    Parameters
    ----------
    channels : those to take, by their numbers in the first image; in others by the names of these, where there are any.

    Raises
    ------
    ImageError
        The names of an image contradict those of the first; see `ordered_like`.
    """
    first = _selected(images[0], channels)
    return [first, *(_like(image, first, channels) for image in images[1:])]


def _like(image: ArraySource, first: ArraySource, channels: Sequence[int] | None) -> ArraySource:
    order = match_names(image.channel_names, first.channel_names).order
    if order is None or (channels is not None and order == tuple(channels)):
        image = _selected(image, channels)
    return ordered_like(image, first.channel_names, first.name)


def _selected(image: ArraySource, channels: Sequence[int] | None) -> ArraySource:
    return image if channels is None else SelectedChannels(image, channels)


def listed(names: Sequence[str]) -> str:
    """Names as a list in a sentence; long ones are cut."""
    shown = [" ".join(name.split())[:_LONGEST] or "(no name)" for name in names[:_MOST]]
    return ", ".join(shown) + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")


_LONGEST, _MOST = 60, 12


def _known(name: str) -> str | None:
    """A name in the spelling in which names are compared; None for one that only numbers its channel."""
    cleaned = re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()
    if not cleaned or _NUMBERED.fullmatch(cleaned):
        return None
    return _COLOURS.get(cleaned, cleaned)
