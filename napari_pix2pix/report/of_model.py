"""The page about one model in a script: what `evaluate --report` does, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_pix2pix.evaluation import Comparison, Evaluation, scored
from napari_pix2pix.report.intervals import half_widths
from napari_pix2pix.report.judgement import judging, model_facts
from napari_pix2pix.report.page import check_report_name, write_report
from napari_pix2pix.translation.progress import ended
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.atomic import temporary_folder
from pix2pix_training.errors import OutputError
from pix2pix_training.model_file import Model
from pix2pix_training.pairs import Pair


def check_report_place(path: Path, *, overwrite: bool) -> None:
    """Refuse a page of another ending, or one that is there without `overwrite`, before anything is computed."""
    check_report_name(path)
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; choose another name, or overwrite=True")


def write_report_of(
    path: Path,
    model: Model,
    settings: TranslationSettings,
    given: Sequence[Pair],
    wanted: Comparison,
    *,
    scratch: Path,
    overwrite: bool,
) -> Evaluation:
    """Score what a model made of pairs, and write the page about it.

    Parameters
    ----------
    given : the pairs, and `wanted` what was made of them beside their targets.
    scratch : folder for error maps.

    Raises
    ------
    OutputError
        The page cannot be written, or is there without `overwrite`.
    """
    result = ended(scored(wanted))
    with temporary_folder(scratch) as folder:
        maps = ended(half_widths(given, model, settings, folder))
        steps = judging("the model", wanted, result, given=given, model=model, card=model_facts(model), maps=maps)
        command = f'Pix2Pix.load(...).evaluate(source, target, report="{path.name}")'
        write_report(path, [ended(steps)], command=command, overwrite=overwrite)
    return result
