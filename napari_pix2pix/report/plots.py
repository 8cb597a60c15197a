"""Plots as SVG within a page, in the colours of its text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix.report.markup import Html, tag
from napari_pix2pix.report.measures import Fit
from napari_pix2pix.report.pictures import data_uri

_SIDE, _LEFT, _BOTTOM, _TOP = 260, 62, 44, 8
_ACCENT = np.array((0, 121, 140), np.uint8)


def scatter(histogram: NDArray[np.int64], limits: tuple[float, float], fit: Fit, label: str) -> Html:
    """Outputs over targets: how many pixels (targets, outputs), darker for more, with the line of least squares."""
    low, high = limits
    parts = [
        tag("image", href=_density(histogram), x=_LEFT, y=_TOP, width=_SIDE, height=_SIDE, preserveAspectRatio="none"),
        tag("rect", x=_LEFT, y=_TOP, width=_SIDE, height=_SIDE, class_="frame"),
        tag("line", x1=_LEFT, y1=_TOP + _SIDE, x2=_LEFT + _SIDE, y2=_TOP, class_="identity"),
    ]
    if fit.slope is not None and fit.intercept is not None:
        parts.append(_line_within(fit.slope, fit.intercept, low, high))
    for value in ticks(low, high):
        at = (value - low) / (high - low) * _SIDE
        parts.append(tag("text", _number(value), x=_LEFT + at, y=_TOP + _SIDE + 16, text_anchor="middle"))
        parts.append(tag("text", _number(value), x=_LEFT - 6, y=_TOP + _SIDE - at + 4, text_anchor="end"))
    middle = _TOP + _SIDE / 2
    parts.append(tag("text", "target", x=_LEFT + _SIDE / 2, y=_TOP + _SIDE + 36, text_anchor="middle"))
    parts.append(tag("text", "output", x=14, y=middle, text_anchor="middle", transform=f"rotate(-90 14 {middle})"))
    return _svg(_LEFT + _SIDE + 16, _TOP + _SIDE + _BOTTOM, label, parts)


def _density(histogram: NDArray[np.int64]) -> str:
    """Where there are pixels in the accent colour, denser for more, on a scale of logarithms."""
    counts = np.log1p(histogram.T[::-1].astype(np.float64))
    share = counts / max(counts.max(), 1)
    picture = np.dstack([np.broadcast_to(_ACCENT, (*share.shape, 3)), (share * 255).round().astype(np.uint8)])
    return data_uri(picture)


def _line_within(slope: float, intercept: float, low: float, high: float) -> Html:
    """The line, cut off where it leaves the square."""
    ends = [low, high, *((edge - intercept) / slope for edge in (low, high) if slope)]
    inside = sorted(x for x in ends if low <= x <= high and low - 1e-9 <= slope * x + intercept <= high + 1e-9)
    if len(inside) < 2:
        return Html("")
    places = [((x - low) / (high - low), (slope * x + intercept - low) / (high - low)) for x in (inside[0], inside[-1])]
    (x1, y1), (x2, y2) = ((_LEFT + x * _SIDE, _TOP + _SIDE - y * _SIDE) for x, y in places)
    return tag("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_="fit")


def strips(rows: Sequence[tuple[str, Sequence[float]]], marks: Sequence[tuple[str, float]], label: str) -> Html:
    """A dot for the score of each image, a row for each set, and lines at the `marks`, such as a constant image."""
    values = [value for _, points in rows for value in points] + [value for _, value in marks]
    low, high = min(values), max(values)
    room = (high - low) * 0.04 or 1.0
    low, high = low - room, high + room
    left, width, step = 170, 560, 30
    bottom = step * len(rows) + 8 + 14 * len(marks)

    def x(value: float) -> float:
        return round(left + (value - low) / (high - low) * width, 1)

    parts: list[Html] = []
    for number, (name, points) in enumerate(rows):
        y = step * number + 14 * len(marks) + step / 2
        parts.append(tag("text", _short(name), x=left - 12, y=y + 4, text_anchor="end"))
        parts.append(tag("line", x1=left, y1=y, x2=left + width, y2=y, class_="rule"))
        parts += [tag("circle", cx=x(value), cy=y, r=4, class_="dot") for value in points]
    for number, (name, value) in enumerate(marks):
        parts.append(tag("line", x1=x(value), y1=14 * number + 4, x2=x(value), y2=bottom, class_="mark"))
        is_right = value > (low + high) / 2
        place = x(value) + (-5 if is_right else 5)
        parts.append(tag("text", name, x=place, y=14 * number + 12, text_anchor="end" if is_right else "start"))
    parts.append(tag("line", x1=left, y1=bottom, x2=left + width, y2=bottom, class_="frame"))
    parts += [tag("text", _number(v), x=x(v), y=bottom + 16, text_anchor="middle") for v in ticks(low, high)]
    parts.append(tag("text", label, x=left + width / 2, y=bottom + 34, text_anchor="middle"))
    return _svg(left + width + 20, bottom + 42, label, parts)


def _svg(width: int, height: int, label: str, parts: Sequence[Html]) -> Html:
    return tag("svg", *parts, viewBox=f"0 0 {width} {height}", width=width, height=height, role="img", aria_label=label)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values within a range, in equal steps."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) > 1e-12 else "0"


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}"
