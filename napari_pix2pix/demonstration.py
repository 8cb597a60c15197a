"""The demo: simulate cells, train on one field, translate another one much larger than a patch, score it, draw it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_pix2pix.evaluation import evaluate_pairs
from napari_pix2pix.figures import Panel, composite, contrast_limits, curves, grey, write_figure
from napari_pix2pix.formats import ImageMetadata, OutputSpec, open_image, write_image
from napari_pix2pix.formats.pairing import pairs_from_paths
from napari_pix2pix.sample_data import PIXEL_SIZE_UM, TARGET_CHANNELS, simulate_cells
from napari_pix2pix.training_data import DataRequest, load_training_data
from napari_pix2pix.translation.pipeline import file_events
from napari_pix2pix.translation.progress import ended
from napari_pix2pix.translation.sinks import FileSink
from pix2pix_training.array_source import AnyArray, whole_plane
from pix2pix_training.atomic import working_folder
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
