"""Colours of words and curves, readable on whatever is behind them. No napari, no Qt."""

from __future__ import annotations

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

LEAST_CONTRAST = 4.5
"""Of text, by WCAG 2.2, success criterion 1.4.3."""

_ON_DARK = {"error": "#ff8a80", "warning": "#e3b341", "good": "#7ee787"}
_ON_LIGHT = {"error": "#a40e26", "warning": "#7a4a00", "good": "#14602b"}
_ON_DARK |= {"blue": "#58a6ff", "violet": "#d2a8ff"}
_ON_LIGHT |= {"blue": "#0a4fa8", "violet": "#6e3bb5"}


def status_colour(kind: str, background: Colour) -> str | None:
    """The colour of words of a kind, as "#rrggbb": of a light and a dark one, what stands out more from `background`.

    Kinds are "good", "warning", "error", and "blue" and "violet" of curves; others have the colour of the theme, None.
    """
    if kind not in _ON_DARK:
        return None
    return max((_ON_DARK[kind], _ON_LIGHT[kind]), key=lambda colour: contrast(parsed(colour), background))


def contrast(first: Colour, second: Colour) -> float:
    """From 1 (equal) to 21 (black and white), as WCAG 2.2 defines the contrast ratio."""
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def parsed(colour: str) -> Colour:
    """ "#rrggbb" as three numbers."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


def _luminance(colour: Colour) -> float:
    """Relative luminance of an sRGB colour."""
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
