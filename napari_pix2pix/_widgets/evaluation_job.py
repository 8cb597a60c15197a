"""The work behind the buttons that judge a result by true targets, and write what was found. No napari, no Qt."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pix2pix._widgets.result_jobs import Saved, as_image
from napari_pix2pix._widgets.score_words import DIFFERENCE, TARGET_UNITS
from napari_pix2pix._widgets.translation_job import Translated
from napari_pix2pix.translation.progress import TilesDone
from pix2pix_training.array_source import ArraySource, plane_size
from pix2pix_training.cancel import Cancel
from pix2pix_training.regions import Region
from pix2pix_training.retelling import retold

if TYPE_CHECKING:
    from napari_pix2pix.evaluation import Comparison, Evaluation
    from napari_pix2pix.report.judgement import Seen
    from napari_pix2pix.translation.batch import OfOne
    from pix2pix_training.model_file import Model

_WORDS = {
    "mae": f"{DIFFERENCE} {TARGET_UNITS}",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "pearson": "Pearson r",
    "accuracy": "share of right pixels",
    "iou": "IoU",
    "dice": "Dice",
}


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """A result of a model, and the true targets of the same pixels.

    Attributes
    ----------
    whole : the image that `target` is a part of.
    corner : row and column of the part in the image.
    """

    result: Translated
    target: ArraySource
    whole: ArraySource
    corner: tuple[int, int]

    @property
    def model(self) -> Path:
        return Path(self.result.provenance["model"])

    @property
    def name(self) -> str:
        return str(self.result.provenance["source"])


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Scores in words, and all of them as plain data; and what `report_events` needs to say more.

    Attributes
    ----------
    region : the part of the target that was scored, None for all of it.
    seen : whether that part was trained on.
    """

    words: str
    scores: Mapping[str, Any]
    request: EvaluationRequest
    wanted: Comparison
    found: Evaluation
    region: Region | None
    seen: Seen


def evaluation_events(request: EvaluationRequest, *, cancel: Cancel) -> Generator[TilesDone | Evaluated, None, None]:
    """Score a result of a model by the true targets of the same pixels.

    Where the targets are an image that the model was trained on and hold the part that was held out, only that part is
    scored; the words say it, and where pixels are scored that were trained on.

    Raises
    ------
    ImageError
        The images are of different sizes or channels, or have no valid pixels.
    """
    from napari_pix2pix.evaluation import comparison, scored
    from pix2pix_training.model_file import load_model
    from pix2pix_training.pairs import Pair

    model = load_model(request.model)
    region, seen, about = _scored_part(model, request)
    pair = Pair(as_image(request.result), request.target, request.name)
    wanted = comparison([pair], region=region, mapping=model.target.mapping)
    found = yield from retold(scored(wanted), partial(_not_cancelled, cancel))
    yield Evaluated(
        words="\n".join(filter(None, [_in_words(found), f"True targets: {request.target.name}.", about])),
        scores={"model": str(request.model), "target": request.target.name, "pixels": about, **found.as_dict()},
        request=request,
        wanted=wanted,
        found=found,
        region=region,
        seen=seen,
    )


def report_events(evaluated: Evaluated, path: Path, *, cancel: Cancel) -> Generator[TilesDone | Saved, None, None]:
    """Write all scores as ``.json``, or the page with scores in words, controls and pictures as ``.html``.

    A file that is there is replaced.

    Raises
    ------
    SettingsError
        The file has another ending.
    OutputError
        It cannot be written.
    """
    from napari_pix2pix.report.intervals import half_widths
    from napari_pix2pix.report.judgement import judging, model_facts
    from napari_pix2pix.report.page import check_report_name, write_report
    from napari_pix2pix.translation.settings import TranslationSettings
    from pix2pix_training.atomic import atomic_write, temporary_folder
    from pix2pix_training.machine import scratch_folder
    from pix2pix_training.model_file import load_model
    from pix2pix_training.pairs import Pair

    request = evaluated.request
    if path.suffix == ".json":
        with atomic_write(path, overwrite=True) as partial_file:
            partial_file.write_text(json.dumps(evaluated.scores, indent=1), encoding="utf-8")
    else:
        check_report_name(path)
        model = load_model(request.model)
        settings = TranslationSettings(**request.result.provenance["options"])
        given = [Pair(request.result.source, request.target, request.name)]
        with temporary_folder(scratch_folder()) as folder:
            maps = yield from retold(half_widths(given, model, settings, folder), partial(_tiles_of_one, cancel))
            steps = judging(
                request.model.parent.name,
                evaluated.wanted,
                evaluated.found,
                given=given,
                model=model,
                card=model_facts(model),
                maps=maps,
                region=evaluated.region,
            )
            judged = yield from retold(steps, partial(_not_cancelled, cancel))
            judged = replace(judged, seen=(evaluated.seen,))  # which is known of the whole image
            how = f"napari: Evaluate, Save report; image {request.name}, true targets {request.target.name}"
            write_report(path, [judged], command=how)
    yield Saved(path=path)


def _not_cancelled(cancel: Cancel, event: TilesDone) -> TilesDone:
    cancel.check()
    return event


def _tiles_of_one(cancel: Cancel, event: OfOne) -> TilesDone:
    cancel.check()
    return event.event if isinstance(event.event, TilesDone) else TilesDone(done=0, total=1)


def _scored_part(model: Model, request: EvaluationRequest) -> tuple[Region | None, Seen, str]:
    """The part of the target to score, None for all of it; whether it was trained on, also in words."""
    from pix2pix_training.pairs import part_in_words
    from pix2pix_training.seen_parts import seen_by

    seen = seen_by(model.training)
    if seen is None:
        return None, "not stated", "The model does not say whether it was trained on these pixels."
    trained_on, held_out = seen.found_in(request.whole)
    shown = Region.at(*request.corner, *plane_size(request.target))
    shown_held_out = [part for region in held_out if not (part := region.common(shown)).is_empty]
    if trained_on and shown_held_out:
        part = shown_held_out[0]
        where = part_in_words(part, plane_size(request.whole))
        words = f"Scored: {where}, which was held out; most else was trained on."
        return part.seen_from(shown), "held out", words
    if any(not region.common(shown).is_empty for region in trained_on):
        return None, "trained on", "This includes pixels that were trained on: expect less of new images."
    return None, "held out" if shown_held_out else "not recognised", ""


def _in_words(found: Evaluation) -> str:
    """The scores of the result, and those of the best image of a single value to compare them with."""
    if found.classes is None:
        own, constant = found.mean.as_dict(), found.constant.as_dict()
    else:
        own, constant = found.classes.mean.as_dict(), found.classes.constant.as_dict()
    lines = [
        f"{_WORDS.get(name, name)}: {_number(value)} (a single value everywhere: {_number(constant.get(name))})"
        for name, value in own.items()
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"
