"""A narrower network taught by a model's own results (knowledge distillation, Hinton et al. 2015), to be faster.

The teacher translates the user's images; the student is trained on these translations, and on true targets too where
there are some. Its width is the largest that is measured to be as fast as is asked for.
"""

from __future__ import annotations

import logging
import math
import re
import statistics
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from napari_pix2pix.class_evaluation import Foreground
from napari_pix2pix.evaluation import TranslationOf, evaluate_pairs, translations
from napari_pix2pix.formats import open_image
from napari_pix2pix.training_data import DataRequest, in_context, load_training_data
from napari_pix2pix.translation.batch import OfOne, of_one
from napari_pix2pix.translation.pipeline import translate
from napari_pix2pix.translation.progress import ended
from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.sinks import ArraySink, PlainFileSink
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import ArraySource, CroppedSource, plane_size
from pix2pix_training.choices import TranslationPrecision
from pix2pix_training.config import TrainingConfig
from pix2pix_training.device import resolve_device
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.export_form import fold_norms
from pix2pix_training.image_description import ImageDescription, ImageTraits
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.intensity import Mapping as IntensityMapping
from pix2pix_training.model_file import Model, model_digest
from pix2pix_training.networks import build_generator
from pix2pix_training.pairs import Pair, Split
from pix2pix_training.preparation import require_type
from pix2pix_training.quantisation import Int8Traits, RangeSurvey, int8_problem, without_last
from pix2pix_training.regions import Region
from pix2pix_training.setting_options import training_config
from pix2pix_training.student_record import StudentRecord
from pix2pix_training.training import TrainingData
from pix2pix_training.training_step import settings_of

logger = logging.getLogger(__name__)

_USUAL_PATCH = 256
_TIMED_PIXELS = 1024 * 1024
"""Of an image that is smaller, the same is translated again and again in a turn."""
_TURNS = 5
_WIDTHS = 16
"""Widths that are tried are multiples of such a part of the teacher's."""
_INT8_CHANNELS = 16
"""Integers of 8 bits are multiplied for so many channels at a time, so widths that are tried for them are multiples."""
_HOPE = 1.3
"""The widest that is tried has so many times the arithmetic that is asked for."""


def _go_on() -> None:
    """Of those whom nobody stops."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a student learns on.

    Attributes
    ----------
    data : sources with the teacher's translations, and with their true targets where those are known; held out are
        translations alone.
    held_out : these, without neighbouring planes.
    targets : their sources with their true targets; empty where there are none.
    """

    data: TrainingData
    held_out: tuple[Pair, ...]
    targets: tuple[Pair, ...]


def lesson(
    teacher: Model, request: DataRequest, folder: Path, *, device: str, seed: int
) -> Generator[OfOne, None, Lesson]:
    """Have the teacher translate all images of `request` into files in `folder`.

    Parameters
    ----------
    request : where sources and true targets are, if there are any.

    Raises
    ------
    InputError
        The images cannot be opened, do not fit the model, or leave nothing to hold out.
    """
    split = load_training_data(request, patch_size=_usual_patch(teacher), seed=seed).split
    if not split.validation:
        raise SettingsError(
            "a student is compared with its teacher on images that are held out, and none are; give more or larger "
            "images, and a --validation above 0"
        )
    has_targets = not request.targets_to_come
    pairs = [_fitting(teacher, pair, has_targets) for pair in (*split.training, *split.validation)]
    translator = Translator(teacher, TranslationSettings(device=device))
    reach = teacher.source.z_context
    taught, true = list[Pair](), list[Pair]()
    for number, pair in enumerate(pairs):
        sink = PlainFileSink(folder / f"{number}.tif")
        yield from of_one(translate(pair.source, translator, sink), number, len(pairs))
        taught.append(Pair(sink.image, TranslationOf(sink.image, open_image(sink.path)), pair.name))
        true.append(Pair(sink.image, pair.target, pair.name))
    count = len(split.training)
    learnt = in_context(taught, reach)
    also_true = (
        [replace(seen, target=own.target) for seen, own in zip(learnt, true, strict=True)] if has_targets else []
    )
    return Lesson(
        data=TrainingData(
            split=Split((*learnt[:count], *also_true[:count]), learnt[count:]),
            source_traits=_traits(teacher.source),
            target_traits=_traits(teacher.target),
            mappings=(teacher.source.mapping, teacher.target.mapping),
            held_out=split.held_out,
        ),
        held_out=tuple(taught[count:]),
        targets=tuple(true[count:]) if has_targets else (),
    )


def _fitting(teacher: Model, pair: Pair, has_target: bool) -> Pair:
    """A pair to learn from, its target in the values of the teacher's results; `ImageError` where it is not fit."""
    (height, width), least = plane_size(pair.source), teacher.generator_config.stride
    if min(height, width) < least:
        raise ImageError(
            f"{pair.source.name} has {height} x {width} pixels, and patches to learn on have at least {least}; leave "
            "it out, or enlarge the images"
        )
    mapping = teacher.target.mapping
    if not has_target:
        return pair
    if isinstance(mapping, CategoryMapping) and mapping.foreground:
        pair = replace(pair, target=Foreground(pair.target))
    require_type(pair.target, mapping)
    return pair


def _traits(side: ImageDescription) -> ImageTraits:
    return ImageTraits(**{each.name: getattr(side, each.name) for each in fields(ImageTraits)})


def student_config(teacher: Model, width: int, images: Sequence[Pair], length: Mapping[str, Any]) -> TrainingConfig:
    """Settings of a run for a student of `width`: the teacher's network, the objective of "faithful".

    Parameters
    ----------
    images : what it is trained on, which a patch has to fit in.
    length : `minutes` or `steps`, and further settings of the run.
    """
    network, like = teacher.generator_config, settings_of(teacher)
    return training_config(
        {name: like[name] for name in ("generator", "inference")},
        {
            "preset": "faithful",
            "patch_size": _patch_size(teacher, images),
            "coverage": 0.0,
            "credits": asdict(teacher.credits),
            "generator": {"base_width": width, "depth": network.depth, "dropout": "none"},
            "inference": {"dropout": "off"},
        },
        length,
    )


def _patch_size(teacher: Model, images: Sequence[Pair]) -> int:
    """That of the teacher's training as far as the images have room for it."""
    stride = teacher.generator_config.stride
    room = min(min(plane_size(pair.source)) for pair in images)
    return max(stride, min(_usual_patch(teacher), room) // stride * stride)


def _usual_patch(teacher: Model) -> int:
    wanted = teacher.training.get("config", {}).get("patch_size")
    return wanted if type(wanted) is int and wanted > 0 else _USUAL_PATCH


def require_precision(teacher: Model, precision: TranslationPrecision, device: str) -> None:
    """Raise `InputError` where a student of the model could not compute in `precision` on this device."""
    width = teacher.generator_config.base_width
    Translator(_untrained(teacher, width, precision), _settings(device, precision))


def width_for(
    teacher: Model,
    speed: float,
    image: ArraySource,
    device: str,
    precision: TranslationPrecision = "fp32",
    check: Callable[[], None] = _go_on,
) -> Generator[int, None, int]:
    """The largest width that translates `image` `speed` times as fast as the teacher does; tells of each it tries.

    Parameters
    ----------
    precision : of the student; the teacher computes in float32.
    check : called often, and may end the work with an error.

    Raises
    ------
    SettingsError
        None does, or the teacher would, in `precision`.
    """
    own = teacher.generator_config.base_width
    found = 0.0

    def is_enough(width: int) -> bool:
        nonlocal found
        student = _untrained(teacher, width, precision)
        # Twice, as one of several widths that were timed once may be as fast by luck.
        found = min(times_as_fast(student, teacher, image, device, precision, check) for _ in range(2))
        return found >= speed

    if precision != "fp32":
        yield own
        if is_enough(own):
            raise SettingsError(
                f"the model itself is {found:.2g} times as fast in {precision}, without a student: translate with "
                f"--precision {precision}, or ask for more"
            )
    widths = _widths(own, speed, precision)
    for width in widths:
        yield width
        if is_enough(width):
            return width
    raise SettingsError(
        f"even a network of width {widths[-1] if widths else own} is only {found:.2g} times as fast as that of width "
        f"{own} on {resolve_device(device)}; ask for less, or choose a width with --base-width. If other work went on "
        "meanwhile, measure again without it"
    )


def require_narrower(width: int, teacher: Model) -> None:
    """Refuse (`SettingsError`) a student that is as wide as its teacher."""
    own = teacher.generator_config.base_width
    if width >= own:
        raise SettingsError(f"base-width is {width}, and that of the model is {own}; a student is narrower")


def _widths(own: int, speed: float, precision: TranslationPrecision) -> list[int]:
    """Those to be tried, from the widest."""
    if precision == "int8":
        fitting = range(own // _INT8_CHANNELS * _INT8_CHANNELS, 0, -_INT8_CHANNELS)
        return [width for width in (*fitting, _INT8_CHANNELS // 2) if width < own]
    step = max(1, own // _WIDTHS)
    # Arithmetic grows with the square of the width; what 16 bits win is not known.
    widest = own * math.sqrt(_HOPE / speed) if precision == "fp32" else own
    return [width for width in range(own - step, 0, -step) if width <= max(widest, step)]


def _untrained(teacher: Model, width: int, precision: TranslationPrecision) -> Model:
    """As fast as a student of this width, which also looks whether an image is like those it was trained on."""
    config = replace(teacher.generator_config, base_width=width, dropout="none")
    inference = replace(teacher.inference, dropout="off")
    weights = build_generator(config).state_dict()
    student = replace(
        teacher,
        generator_config=config,
        weights=weights,
        inference=inference,
        discriminator=None,
        error=None,
        int8=None,
    )
    return replace(student, int8=_any_roundings(student)) if precision == "int8" else student


def _any_roundings(model: Model) -> Int8Traits:
    """Of noise, which are as good as any to measure time with."""
    problem = int8_problem(model.generator_config, model.inference)
    if problem is not None:
        raise SettingsError(problem)
    network = model.generator()
    fold_norms(network)
    survey = RangeSurvey(network)
    side = max(_USUAL_PATCH, network.config.stride)
    survey.add(torch.rand(1, network.config.source_channels, side, side) * 2 - 1)
    return Int8Traits(roundings=without_last(survey.roundings()), parts=2, deviation=0.0, worst=0.0)


def _settings(device: str, precision: TranslationPrecision) -> TranslationSettings:
    return TranslationSettings(
        device=device, precision=precision, backend="openvino" if precision == "int8" else "torch"
    )


def times_as_fast(
    student: Model,
    teacher: Model,
    image: ArraySource,
    device: str,
    precision: TranslationPrecision = "fp32",
    check: Callable[[], None] = _go_on,
) -> float:
    """How many times as fast the student translates the middle of an image: the median of turns.

    With PyTorch, the student in int8 with OpenVINO; the teacher in float32.
    """
    part = _middle(image)
    again = max(1, round(_TIMED_PIXELS / math.prod((*part.shape[:-3], *plane_size(part)))))
    translators = [
        Translator(student, _settings(device, precision)),
        Translator(teacher, _settings(device, "fp32")),
    ]
    turns = [[_seconds(part, each, again, check) for each in translators] for _ in range(_TURNS + 1)][1:]
    return statistics.median(slow / fast for fast, slow in turns)


def _middle(image: ArraySource) -> ArraySource:
    """A part of an image with about `_TIMED_PIXELS`, all planes counted."""
    height, width = plane_size(image)
    planes = math.prod(image.shape[:-3])
    side = max(_USUAL_PATCH, math.isqrt(_TIMED_PIXELS // planes))
    centre = Region.at(max(0, (height - side) // 2), max(0, (width - side) // 2), side, side)
    return CroppedSource(image, centre.common(Region.whole(height, width)))


def _seconds(image: ArraySource, translator: Translator, again: int, check: Callable[[], None]) -> float:
    started = time.perf_counter()
    for _ in range(again):
        check()
        ended(translate(image, translator, ArraySink(), may_be_empty=True))
    return time.perf_counter() - started


def compared(
    student: Model,
    teacher: Model,
    known: Lesson,
    folder: Path,
    device: str,
    precision: TranslationPrecision = "fp32",
    check: Callable[[], None] = _go_on,
) -> Generator[OfOne, None, StudentRecord]:
    """Translate what is held out with the student, into files in `folder`, and compare.

    A student that loses too much in int8 is compared in float32, which is said. `check` is as for `width_for`.
    """
    if precision == "int8" and student.int8 is None:
        logger.warning("the student would lose too much in int8, so it is compared, and is to be used, in fp32")
        precision = "fp32"
    settings = TranslationSettings(device=device, precision=precision)
    own = (yield from translations(known.held_out, Translator(student, settings), folder)).pairs
    mapping = teacher.target.mapping

    def scores(results: Iterable[ArraySource]) -> dict[str, float | None]:
        pairs = [Pair(made, pair.target, pair.name) for made, pair in zip(results, known.targets, strict=True)]
        return _mean(pairs, mapping)

    return StudentRecord(
        teacher=model_digest(teacher),
        teacher_width=teacher.generator_config.base_width,
        speed=round(times_as_fast(student, teacher, known.held_out[0].source, device, precision, check), 3),
        device=str(resolve_device(device)),
        precision=precision,
        to_teacher=_mean(own, mapping),
        student_scores=scores(pair.source for pair in own) if known.targets else {},
        teacher_scores=scores(pair.target for pair in known.held_out) if known.targets else {},
    )


def _mean(pairs: Sequence[Pair], mapping: IntensityMapping) -> dict[str, float | None]:
    result = evaluate_pairs(pairs, mapping=mapping)
    mean = (result.mean if result.classes is None else result.classes.mean).as_dict()
    return {name: value if value is not None and math.isfinite(value) else None for name, value in mean.items()}


def with_record(student: Model, record: StudentRecord) -> Model:
    """The student with what its card says of it. Its validation was by the teacher, so that its scores go."""
    return replace(student, training={**student.training, "student": asdict(record)}, metrics={})


def speed_of(text: str) -> float:
    """ "4x" or "4" -> 4.0.

    Raises
    ------
    SettingsError
        It is no number above 1.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*x?", text.strip().lower())
    if match is None or float(match[1]) <= 1:
        raise SettingsError(f"target-speed is {text!r}; give how many times as fast, above 1, such as 4x")
    return float(match[1])
