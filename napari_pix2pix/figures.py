"""Pictures for people: images side by side with captions, and learning curves, as one PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pix2pix_training.array_source import AnyArray
from pix2pix_training.atomic import atomic_write

_MARGIN = 14
_CAPTION = 26
_INK = (30, 30, 30)
_FAINT = (205, 205, 205)
_LINES = ((31, 119, 180), (214, 98, 30), (44, 140, 60), (140, 86, 160), (190, 40, 60), (120, 120, 120))

RGB = NDArray[np.uint8]


@dataclass(frozen=True)
class Panel:
    """A picture (Y, X, 3) with its caption."""

    caption: str
    pixels: RGB


def write_figure(rows: Sequence[Sequence[Panel]], path: Path, *, side: int = 420) -> None:
    """Rows of panels, each `side` pixels wide, on white; a PNG, or a JPEG where `path` ends in .jpg."""
    columns = max(len(row) for row in rows)
    drawn = [[_scaled(panel, side) for panel in row] for row in rows]
    heights = [max(image.height for image in row) + _CAPTION + _MARGIN for row in drawn]
    canvas = Image.new("RGB", (_MARGIN + columns * (side + _MARGIN), _MARGIN + sum(heights)), "white")
    draw = ImageDraw.Draw(canvas)
    y = _MARGIN
    for row, images, height in zip(rows, drawn, heights, strict=True):
        for column, (panel, image) in enumerate(zip(row, images, strict=True)):
            x = _MARGIN + column * (side + _MARGIN)
            draw.text((x, y + 2), panel.caption, fill=_INK, font=ImageFont.load_default(15))
            canvas.paste(image, (x, y + _CAPTION))
        y += height
    content = BytesIO()
    canvas.save(content, format="JPEG" if path.suffix == ".jpg" else "PNG", quality=88)
    with atomic_write(path) as partial:
        partial.write_bytes(content.getbuffer())


def _scaled(panel: Panel, width: int) -> Image.Image:
    image = Image.fromarray(panel.pixels)
    height = max(1, round(image.height * width / image.width))
    smooth = Image.Resampling.LANCZOS if image.width > width else Image.Resampling.NEAREST
    return image.resize((width, height), smooth)


def grey(plane: AnyArray, limits: tuple[float, float]) -> RGB:
    """(Y, X) -> grey picture; `limits` become black and white."""
    return np.repeat(_bytes(plane, limits)[..., None], 3, axis=2)


def composite(channels: AnyArray, limits: Sequence[tuple[float, float]], colors: Sequence[tuple[int, int, int]]) -> RGB:
    """(C, Y, X) -> picture of the channels added in their colours."""
    total = np.zeros((*channels.shape[1:], 3), np.float32)
    for plane, ends, color in zip(channels, limits, colors, strict=True):
        total += _bytes(plane, ends)[..., None].astype(np.float32) * (np.array(color, np.float32) / 255)
    clipped: RGB = np.clip(total, 0, 255).astype(np.uint8)
    return clipped


def contrast_limits(plane: AnyArray) -> tuple[float, float]:
    """Percentiles 0.5 and 99.8."""
    low, high = np.percentile(plane, (0.5, 99.8))
    return float(low), float(max(high, low + 1e-6))


def _bytes(plane: AnyArray, limits: tuple[float, float]) -> RGB:
    scaled = (plane.astype(np.float32) - limits[0]) / (limits[1] - limits[0])
    result: RGB = (np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    return result


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], *, width: int = 840, height: int = 840) -> RGB:
    """Curves of (step, value), some value above zero, with axes from zero, and a legend."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(26)
    right = max((x for line in lines.values() for x, _ in line), default=1.0)
    top = max((y for line in lines.values() for _, y in line), default=1.0) * 1.05
    frame = (90, 20, width - 30, height - 70)

    def place(x: float, y: float) -> tuple[float, float]:
        return frame[0] + x / right * (frame[2] - frame[0]), frame[3] - y / top * (frame[3] - frame[1])

    for y in _ticks(top):
        level = place(0, y)[1]
        draw.line((frame[0], level, frame[2], level), fill=_FAINT, width=2)
        draw.text((frame[0] - 12, level), f"{y:g}", fill=_INK, font=font, anchor="rm")
    for x in _ticks(right):
        draw.text((place(x, 0)[0], frame[3] + 12), f"{x:g}", fill=_INK, font=font, anchor="ma")
    for number, (name, line) in enumerate(lines.items()):
        color = _LINES[number % len(_LINES)]
        draw.line([place(x, y) for x, y in line], fill=color, width=5)
        draw.text((frame[2], frame[1] + 14 + 36 * number), name, fill=color, font=font, anchor="ra")
    return np.asarray(image)


def _ticks(end: float) -> list[float]:
    """Three to six round numbers from zero to at most `end`."""
    power = 10.0 ** math.floor(math.log10(end / 5))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= end / 5)
    return [number * step for number in range(math.floor(end / step) + 1)]
