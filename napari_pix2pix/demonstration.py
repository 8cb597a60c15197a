"""The demo: simulate cells, train on one field, translate another one much larger than a patch, score it, draw it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from napari_pix2pix.evaluation import evaluate_pairs
from napari_pix2pix.formats import ImageMetadata, OutputSpec, open_image, write_image
from napari_pix2pix.formats.pairing import pairs_from_paths
from napari_pix2pix.sample_data import PIXEL_SIZE_UM, TARGET_CHANNELS, simulate_cells
from napari_pix2pix.training_data import DataRequest, load_training_data
from napari_pix2pix.translation.pipeline import file_events
from napari_pix2pix.translation.progress import ended
from napari_pix2pix.translation.sinks import FileSink
from pix2pix_training.array_source import AnyArray, whole_plane
from pix2pix_training.atomic import atomic_write, working_folder
from pix2pix_training.config import TrainingConfig
from pix2pix_training.errors import OutputError
from pix2pix_training.events import Event
from pix2pix_training.metrics_table import read_metrics
from pix2pix_training.model_file import load_model
from pix2pix_training.presets import preset, usual_depth
from pix2pix_training.regions import Region
from pix2pix_training.run_folder import RunFolder
from pix2pix_training.training import train

_TRAINING_SIZE = 1024
_LARGE_SIZE = 2048
_PATCH_SIZE = 128
_DETAIL = Region(700, 956, 700, 956)
_COLORS = ((70, 110, 255), (255, 150, 40))
_MARGIN = 14
_CAPTION = 26
_INK = (30, 30, 30)
_FAINT = (205, 205, 205)
_LINES = ((31, 119, 180), (214, 98, 30), (44, 140, 60), (140, 86, 160), (190, 40, 60), (120, 120, 120))
RGB = NDArray[np.uint8]


@dataclass(frozen=True)
class Demo:
    """Files of the demo in `folder`."""

    folder: Path

    def file(self, name: str) -> Path:
        return self.folder / name

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder / "run")


def prepare_demo(folder: Path, *, overwrite: bool) -> Demo:
    """Write the simulated fields: one to train on, a larger one to translate.

    Raises
    ------
    OutputError
        The folder holds something already that is not a demo's, or `overwrite` is False.
    """
    demo = Demo(folder)
    fields = {"train": (_TRAINING_SIZE, 0), "large": (_LARGE_SIZE, 1)}
    names = [f"{field}_{side}.tif" for field in fields for side in ("source", "target")]
    if folder.exists() and (not folder.is_dir() or not _is_empty(folder, names)):
        if not overwrite:
            raise OutputError(f"{folder} exists already; choose another folder with --out, or --overwrite")
        if not any(demo.file(name).exists() for name in names):
            raise OutputError(f"{folder} is not the folder of a demo, so it is not overwritten; choose another one")
    for name, (size, seed) in fields.items():
        cells = simulate_cells(size, size, seed=seed)
        _write(demo.file(f"{name}_source.tif"), cells.source[None], ("label-free",))
        _write(demo.file(f"{name}_target.tif"), cells.target, TARGET_CHANNELS)
    return demo


def _is_empty(folder: Path, names: Sequence[str]) -> bool:
    """Whether there is nothing but what a killed demo leaves of the first of its files."""
    left = {working_folder(folder / name) for name in names}
    return all(entry in left for entry in folder.iterdir())


def demo_config(steps: int) -> TrainingConfig:
    """A network small enough for a few minutes on two CPU cores."""
    config = preset("seamless")
    return replace(
        config,
        generator=replace(config.generator, base_width=16, depth=usual_depth("seamless", _PATCH_SIZE)),
        discriminator=replace(config.discriminator, base_width=16),
        augmentation=replace(config.augmentation, flips="none"),  # the simulated contrast has a direction
        patch_size=_PATCH_SIZE,
        batch_size=4,
        learning_rate=5e-4,
        steps=steps,
        validate_every=max(1, min(50, steps // 4)),
    )


def training_events(demo: Demo, steps: int) -> Iterator[Event]:
    config = demo_config(steps)
    request = DataRequest(
        sources=(demo.file("train_source.tif"),), targets=(demo.file("train_target.tif"),), validation=0.2
    )
    data = load_training_data(request, patch_size=config.patch_size, seed=config.seed)
    return train(config, data, demo.run.path, overwrite=True)


def finish_demo(demo: Demo) -> dict[str, Any]:
    """Translate the large field, score it against its target, draw the figure; the fields of ``--json``."""
    model = load_model(demo.run.model)
    translated = demo.file("large_translated.ome.tif")
    started = time.monotonic()
    sink = FileSink(translated, overwrite=True)
    report = ended(file_events(demo.file("large_source.tif"), model, sink))
    seconds = time.monotonic() - started
    evaluation = evaluate_pairs(pairs_from_paths([translated], [demo.file("large_target.tif")]))
    figure = demo.file("figure.png")
    _draw(demo, translated, figure)
    return {
        "figure": str(figure),
        "model": str(demo.run.model),
        "translated": str(translated),
        "seconds_translating": seconds,
        "scheme": report.scheme,
        "scores": evaluation.mean.as_dict(),
        "scores_of_best_constant": evaluation.constant.as_dict(),
    }


def _write(path: Path, pixels: AnyArray, channel_names: tuple[str, ...]) -> None:
    metadata = ImageMetadata(pixel_size=(PIXEL_SIZE_UM, PIXEL_SIZE_UM), unit="µm", channel_names=channel_names)
    spec = OutputSpec(axes="CYX", shape=pixels.shape, dtype=pixels.dtype, metadata=metadata)
    region = Region.whole(*pixels.shape[1:])
    write_image(path, spec, iter([((), region, pixels)]), file_format="tiff", overwrite=True)


def _draw(demo: Demo, translated: Path, figure: Path) -> None:
    """Two rows: the whole field, and a detail of it beside the learning curves."""
    source, result, target = (
        _read(path) for path in (demo.file("large_source.tif"), translated, demo.file("large_target.tif"))
    )
    source_limits = contrast_limits(source[0])
    target_limits = [contrast_limits(plane) for plane in target]

    def panels(part: Region, where: str) -> list[Panel]:
        rows, columns = part.slices
        shown = [composite(image[:, rows, columns], target_limits, _COLORS) for image in (result, target)]
        return [
            Panel(f"source, {where}", grey(source[0, rows, columns], source_limits)),
            Panel("translated", shown[0]),
            Panel("target (held out)", shown[1]),
        ]

    height, width = source.shape[1:]
    whole = [*panels(Region.whole(height, width), f"{height} x {width}, trained on 128 x 128"), _curves(demo)]
    write_figure([whole, panels(_DETAIL, "detail of 256 x 256")], figure)


def _curves(demo: Demo) -> Panel:
    rows = read_metrics(demo.run.metrics)
    lines = {
        "L1, training patch": [(row["step"], row["G_L1"] / 100) for row in rows],
        "MAE, validation": [(row["step"], row["mae"]) for row in rows if "mae" in row],
    }
    return Panel("error in [-1, 1] by step", curves(lines))


def _read(path: Path) -> AnyArray:
    with open_image(path) as image:
        return image.read(whole_plane(image))


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
