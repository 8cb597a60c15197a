"""The work behind the Train button: frozen settings and images, and a generator of events. No napari, no Qt."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pix2pix._widgets.form_words import in_form_words
from napari_pix2pix._widgets.layer_sources import size_in_words
from napari_pix2pix._widgets.training_pace import no_trials
from napari_pix2pix.output_paths import MODEL_NAME
from pix2pix_training.array_source import ArraySource, plane_size, whole_plane
from pix2pix_training.atomic import check_nameable
from pix2pix_training.config import TrainingConfig
from pix2pix_training.errors import CheckpointError, Pix2PixError, SettingsError
from pix2pix_training.events import StepDone
from pix2pix_training.locks import RUN_LOCK, is_locked
from pix2pix_training.neighbouring_planes import with_neighbouring_planes
from pix2pix_training.regions import Region
from pix2pix_training.remarks import remarks
from pix2pix_training.settings_tables import settings_from_toml
from pix2pix_training.validated import from_dict

if TYPE_CHECKING:
    from pix2pix_training.events import PreviewReady
    from pix2pix_training.intensity import Mapping as ValueMapping
    from pix2pix_training.model_file import Model
    from pix2pix_training.pairs import Pair, Split

VALIDATION_FRACTION = 0.1
PREVIEW_SECONDS = 15.0
"""Between previews; the first comes after the first step."""
_PATCHES = (256, 128, 64, 32)
_PATCHES_ALONG_IMAGE = 3  # one to train on, one to validate on, a gap between them
_COLORS = ((0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1))
"""Of several channels, in the order in which results of them are coloured."""

ClassColors = Callable[[NDArray[np.int64]], NDArray[np.floating[Any]]]
"""Labels (n,) -> their colours in the viewer, (n, 4) RGBA from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """What layers say of their images besides pixels; `pixel_size` is (y, x) in `unit`."""

    channel_names: tuple[str, ...] = ()
    pixel_size: tuple[float, float] | None = None
    unit: str | None = None


@dataclass(frozen=True, kw_only=True)
class LayerPair:
    """A source and a target from layers."""

    source: ArraySource
    target: ArraySource
    source_facts: LayerFacts
    target_facts: LayerFacts


@dataclass(frozen=True, kw_only=True)
class FolderPair:
    """Folders of images, paired by name."""

    source: Path
    target: Path


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """All that a run needs.

    `within` are rectangles of layers to train in, none for all; `held_out` is one that validates, in place of the
    fraction `validation`; `z_context` planes on each side of a stack's plane are seen with it; `init` is a model to
    start from. `colors` are those of classes in previews of source and target, where their files have none.
    """

    config: TrainingConfig
    images: LayerPair | FolderPair
    out: Path
    device: str = "auto"
    validation: float = VALIDATION_FRACTION
    within: tuple[Region, ...] = ()
    held_out: Region | None = None
    z_context: int = 0
    resume: bool = False
    init: Path | None = None
    colors: tuple[ClassColors, ClassColors] | None = None


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A validation image as RGB, shape (H, W, 3), uint8; a title where it shows a part of its channels."""

    step: int
    images: Mapping[str, NDArray[np.uint8]]
    titles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FoldersChecked:
    """What two folders hold, in words, or the problem that keeps them from being trained on.

    `remarks` are lines about what was decided while the files were looked at.
    """

    folders: FolderPair
    words: str = ""
    remarks: tuple[str, ...] = ()
    problem: str | None = None


def started_from(config: TrainingConfig, model: Model) -> TrainingConfig:
    """The settings of a run that starts from a model, which decides its networks.

    Raises
    ------
    SettingsError
        They do not fit the networks of the model.
    """
    from pix2pix_training.training_step import settings_of

    merged = asdict(config)
    for name, table in settings_of(model).items():
        merged[name] |= table
    return from_dict(TrainingConfig, merged)


def suggested_patch_size(height: int, width: int, stride: int) -> int:
    """The largest usual patch of which the image holds a few, so that a part can be held out for validation."""
    fitting = (
        size
        for size in _PATCHES
        if size % stride == 0 and size <= min(height, width) and _PATCHES_ALONG_IMAGE * size <= max(height, width)
    )
    return next(fitting, stride)


def training_events(request: TrainingRequest) -> Generator[Any, None, None]:
    """The events of `pix2pix_training.training.train`, previews as RGB; close the generator to stop and save.

    Raises
    ------
    InputError
        Settings, images or the run folder cannot be used.
    TrainingError
        Training failed midway.
    """
    with no_trials():
        yield from _run_events(request)


def _run_events(request: TrainingRequest) -> Generator[Any, None, None]:
    from napari_pix2pix.training_data import DataRequest, load_training_data
    from pix2pix_training.events import PreviewReady, Started
    from pix2pix_training.model_file import load_model
    from pix2pix_training.training import train

    init = load_model(request.init) if request.init is not None else None
    config, images = request.config if init is None else started_from(request.config, init), request.images
    if isinstance(images, FolderPair):
        wanted = DataRequest(
            sources=(images.source,),
            targets=(images.target,),
            z_context=request.z_context,
            validation=request.validation,
        )
        data = load_training_data(wanted, patch_size=config.patch_size, seed=config.seed)
    else:
        data = _data_of_layers(images, config, request)
    colors: dict[str, NDArray[np.uint8] | None] = {}
    for event in train(
        config,
        data,
        request.out,
        device=request.device,
        resume=request.resume,
        init=init,
        preview_seconds=PREVIEW_SECONDS,
    ):
        if isinstance(event, Started) and event.mappings is not None and request.colors is not None:
            source, target = map(class_colors, event.mappings, request.colors)
            colors = {"source": source, "output": target, "target": target}
        if isinstance(event, PreviewReady):
            yield _preview(event, colors)
        else:
            yield event


def _preview(event: PreviewReady, colors: Mapping[str, NDArray[np.uint8] | None]) -> Preview:
    """Of several channels of the source, which are often planes of one thing, the first in grey."""
    sides = {"source": event.source.numpy(), "output": event.output.numpy(), "target": event.target.numpy()}
    count, titles = len(sides["source"]), {}
    if count not in (1, 3) and colors.get("source") is None:
        sides["source"], titles["source"] = sides["source"][:1], f"source, 1st of {count}"
    images = {name: as_rgb(image, colors.get(name)) for name, image in sides.items()}
    return Preview(step=event.step, images=images, titles=titles)


def class_colors(mapping: ValueMapping, shown: ClassColors) -> NDArray[np.uint8] | None:
    """Colour of each class, (C, 3) RGB: that of its file or of the viewer; None for intensities."""
    from pix2pix_training.intensity import CategoryMapping

    if not isinstance(mapping, CategoryMapping):
        return None
    if mapping.colors or mapping.image_channels != 1:
        return np.array(mapping.colors or [value[:3] for value in mapping.values], np.uint8)
    rgba = shown(np.array([value for (value,) in mapping.values]))
    return np.asarray((255 * rgba[:, :3] * rgba[:, 3:]).round(), np.uint8)


def _data_of_layers(images: LayerPair, config: TrainingConfig, request: TrainingRequest) -> Any:
    from pix2pix_training.pairs import Pair
    from pix2pix_training.training import TrainingData

    source = with_neighbouring_planes(images.source, request.z_context)
    return TrainingData(
        split=_split(Pair(source, images.target, source.name), config, request),
        source_traits=replace(_traits(images.source, images.source_facts), z_context=request.z_context),
        target_traits=_traits(images.target, images.target_facts),
    )


def held_out_words(request: TrainingRequest) -> str:
    """What the run would hold out, in words; of folders, whose files are not open, how many.

    Raises
    ------
    SettingsError
        It leaves nothing to train on.
    """
    from pix2pix_training.pairs import Pair

    images = request.images
    if isinstance(images, LayerPair):
        split = _split(Pair(images.source, images.target, images.source.name), request.config, request)
        held_out, side = split.held_out, request.config.validation_size
        if any(max(plane_size(pair.source)) > side for pair in split.validation):
            held_out += f". The curve is of its middle, at most {side} pixels a side; Evaluate scores all of it"
    else:
        share = f"{100 * request.validation:.2g} %"
        held_out = (
            f"{share} of the pairs, drawn at random; of a single pair its end" if request.validation else "nothing"
        )
    return f"Held out to judge the model by: {held_out}."


def _split(pair: Pair, config: TrainingConfig, request: TrainingRequest) -> Split:
    from pix2pix_training.pairs import split_fraction, split_regions

    within = request.within or (whole_plane(pair.source),)
    if request.held_out is not None:
        return split_regions(pair, within, request.held_out, patch_size=config.patch_size)
    parts = [pair.crop(region) for region in within]
    return split_fraction(parts, request.validation, patch_size=config.patch_size, seed=config.seed)


def _traits(image: ArraySource, facts: LayerFacts) -> Any:
    from pix2pix_training.image_description import ImageTraits

    return ImageTraits(axes=image.axes, channel_names=facts.channel_names, pixel_size=facts.pixel_size, unit=facts.unit)


def check_folders(folders: FolderPair) -> Generator[FoldersChecked, None, None]:
    """Pair the files of two folders and say what was found, or why they cannot be paired.

    A problem is an answer, not an error: it belongs to these folders, and others may be chosen by the time it is found.
    """
    from napari_pix2pix.formats.pairing import pairs_from_paths
    from pix2pix_training.pairs import check_consistent

    with remarks() as lines:
        try:
            pairs = pairs_from_paths([folders.source], [folders.target])
            check_consistent(pairs)
        except Pix2PixError as error:
            yield FoldersChecked(folders=folders, problem=in_form_words(str(error)))
            return
    count = f"{len(pairs)} pair{'s' if len(pairs) != 1 else ''}"
    words = f"{count}. Source: {size_in_words(pairs[0].source)}. Target: {size_in_words(pairs[0].target)}."
    yield FoldersChecked(folders=folders, words=words, remarks=tuple(map(in_form_words, lines)))


def as_rgb(image: NDArray[np.floating[Any]], colors: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """(C, H, W) in [-1, 1] -> (H, W, 3): one channel grey, three as they are, others in colours of their own, added.

    With `colors` (C, 3) the channels are classes, and each pixel has the colour of the one that wins; black where it is
    of none.
    """
    if colors is not None:
        return np.ascontiguousarray(np.where((image.max(0) > -1)[..., None], colors[image.argmax(0)], 0), np.uint8)
    unit = (np.clip(image, -1, 1) + 1) / 2
    if len(unit) == 1:
        unit = np.repeat(unit, 3, axis=0)
    elif len(unit) != 3:
        mixed = np.array([_COLORS[i % len(_COLORS)] for i in range(len(unit))], unit.dtype)
        unit = np.minimum(np.einsum("chw,cr->rhw", unit, mixed), 1)
    return np.ascontiguousarray(np.moveaxis((unit * 255).round().astype(np.uint8), 0, -1))


def run_state(folder: Path) -> str:
    """What a run folder holds: "nothing", "run" (which can be resumed), "model" (without a checkpoint) or "other".

    It is "busy" while a run writes to it.

    Raises
    ------
    OutputError
        There can be no folder of that name, or it cannot be read.
    """
    check_nameable(folder, folder / "last.pt")
    if is_locked(folder / RUN_LOCK):
        return "busy"
    if (folder / "last.pt").is_file():
        return "run"
    if (folder / MODEL_NAME).is_file():
        return "model"
    try:
        return "other" if any(entry.name != RUN_LOCK for entry in folder.iterdir()) else "nothing"
    except OSError:
        return "other" if folder.exists() else "nothing"


def resumed_config(folder: Path, length: Mapping[str, float], patience: int) -> TrainingConfig:
    """The settings that the run in `folder` was started with, with what may change: its length, and its patience.

    Raises
    ------
    CheckpointError
        The folder's ``config.toml`` is missing or damaged.
    """
    path = folder / "config.toml"
    try:
        saved = from_dict(TrainingConfig, settings_from_toml(path))
    except SettingsError as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); start a new run") from error
    unset = {"epochs": None, "steps": None, "minutes": None}
    return replace(saved, patience=patience, **{**unset, **length})  # type: ignore[arg-type]


def time_left(first: StepDone, last: StepDone) -> str:
    """ ", 3 min left", from the pace between two steps of this session; empty where it is not known yet."""
    done = last.fraction - first.fraction
    if done <= 0:
        return ""
    return seconds_left((last.seconds - first.seconds) / done * (1 - last.fraction))


def seconds_left(seconds: float) -> str:
    """ ", 3 min left" """
    return f", {seconds / 60:.0f} min left" if seconds >= 90 else f", {seconds:.0f} s left"
