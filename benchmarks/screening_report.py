"""The screening as tables, learning curves and pictures, of whatever is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean

from benchmarks.real_data import TASKS, Drawing, draw_grey, read
from benchmarks.screening_trial import Measured, Trial, TrialResult, Variant, load_data
from napari_pix2pix.demonstration import Panel, curves, write_figure
from napari_pix2pix.translation.pipeline import translate_array
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.array_source import AnyArray
from pix2pix_training.atomic import atomic_write
from pix2pix_training.choices import Statistics
from pix2pix_training.metrics import GRID_PERIODS
from pix2pix_training.metrics_table import read_metrics
from pix2pix_training.model_file import load_model

Results = Mapping[Trial, TrialResult]
_PICTURED_ROWS = 2
_PICTURED_PX = 256
_COLUMNS: tuple[tuple[str, Callable[[Measured], str]], ...] = (
    ("MAE", lambda m: f"{m.scores.mae:.4f}"),
    ("PSNR", lambda m: f"{m.scores.psnr:.2f}"),
    ("SSIM", lambda m: f"{m.scores.ssim:.4f}"),
    ("Pearson", lambda m: f"{m.scores.pearson:.3f}"),
    ("tile mismatch", lambda m: f"{m.tile_mismatch:.4f}"),
    ("disparity", lambda m: f"{m.disparity:+.4f}"),
    ("grid 2 / 4 / 8 px", lambda m: " / ".join(f"{value:.2f}" for value in m.grid.values())),
)


def write_report(phases: Mapping[str, Results], ranks: Mapping[tuple[Variant, Statistics], float], out: Path) -> str:
    """Write ``screening.md``, curves of every phase and data set, and pictures of the preset phase; returns the text.

    Parameters
    ----------
    phases : what is finished of each phase, by its title.
    ranks : mean rank of each candidate of the short phase.
    """
    lines: list[str] = []
    for title, phase in phases.items():
        for data_set, results in _by_data_set(phase):
            lines += [f"### {title}: {data_set}", "", *_table(results), ""]
            figure = out / f"screening_{title.lower()}_{data_set}.png"
            write_figure([[Panel(_caption(results), curves(_learning_curves(results)))]], figure, side=840)
    if ranks:
        lines += ["### Mean rank of the short phase", "", *_rank_table(ranks), ""]
    presets = phases.get("Preset", {})
    for title in ("Decoder", "Preset", "Pairs", "Precision", "Losses", "Augmentation"):
        if compared := phases.get(title):
            lines += [f"### {title}, means over seeds", "", *_comparison(compared), ""]
    for _, results in _by_data_set(presets):
        _draw({t: r for t, r in results.items() if t.seed == 0}, out)
    text = "\n".join(lines)
    with atomic_write(out / "screening.md") as partial:
        partial.write_text(text, encoding="utf-8")
    return text


def _by_data_set(results: Results) -> Iterator[tuple[str, Results]]:
    for data_set in dict.fromkeys(trial.data_set for trial in results):
        yield data_set, {t: r for t, r in results.items() if t.data_set == data_set}


def _table(results: Results) -> Iterable[str]:
    """A row per candidate: the mean over seeds, and their values where there are several."""
    titles = [title for title, _ in _COLUMNS]
    yield f"| network | statistics | seeds | {' | '.join(titles)} | MAE, SSIM calibrated | CPU s per step |"
    yield "|---" * (len(titles) + 5) + "|"
    for variant in dict.fromkeys(trial.variant for trial in results):
        runs = [result for trial, result in results.items() if trial.variant == variant]
        pace = mean(result.cpu_seconds_per_step for result in runs)
        for same in zip(*(result.measured for result in runs), strict=True):
            cells = [_cell([show(measured) for measured in same]) for _, show in _COLUMNS]
            is_first = same[0] is runs[0].measured[0]
            again = [result.calibrated for result in runs if is_first and result.calibrated is not None]
            cells.append(_cell([f"{scores.mae:.4f}, {scores.ssim:.4f}" for scores in again]))
            yield f"| {variant.name} | {same[0].statistics} | {len(runs)} | {' | '.join(cells)} | {pace:.2f} |"


def _cell(values: Sequence[str]) -> str:
    return " / ".join(values)


def _comparison(results: Results) -> Iterable[str]:
    """Means over the seeds, a column per variant; the grid relative to real targets."""
    variants = list(dict.fromkeys(trial.variant for trial in results))
    yield f"| data | score | {' | '.join(variant.name for variant in variants)} |"
    yield "|---" * (len(variants) + 2) + "|"
    for data_set, those in _by_data_set(results):
        for score, digits in (("mae", 4), ("psnr", 2), ("ssim", 4), ("pearson", 3)):
            means = [
                mean(getattr(r.measured[0].scores, score) for t, r in those.items() if t.variant == variant)
                for variant in variants
            ]
            yield f"| {data_set} | {score} | {' | '.join(f'{value:.{digits}f}' for value in means)} |"
        for period in map(str, GRID_PERIODS):
            means = [
                mean(r.measured[0].grid[period] for t, r in those.items() if t.variant == variant)
                for variant in variants
            ]
            yield f"| {data_set} | grid {period} px | {' | '.join(f'{value:.2f}' for value in means)} |"


def _rank_table(ranks: Mapping[tuple[Variant, Statistics], float]) -> Iterable[str]:
    yield "| network | statistics | mean rank |"
    yield "|---|---|---|"
    for (variant, statistics), rank in ranks.items():
        yield f"| {variant.name} | {statistics} | {rank:.2f} |"


def _caption(results: Results) -> str:
    trial = next(iter(results))
    return f"{trial.data_set}: validation MAE in [-1, 1] over steps, seed 0, base width {trial.base_width}"


def _learning_curves(results: Results) -> dict[str, list[tuple[float, float]]]:
    return {
        trial.variant.name: [(row["step"], row["mae"]) for row in read_metrics(trial.folder / "metrics.csv")]
        for trial in results
        if trial.seed == 0
    }


def _draw(results: Results, out: Path) -> None:
    """Source, what each variant makes of it, and target of held-out images, at full resolution."""
    models = {t.variant.name: load_model(t.folder / "model.safetensors") for t in results}
    trial = next(iter(results))
    drawing = next((task.drawn for task in TASKS if task.name == trial.data_set), draw_grey)
    rows = []
    for pair in load_data(trial.data_set, trial.data).split.validation[:_PICTURED_ROWS]:
        source, target = read(pair.source), read(pair.target)
        translated = {
            name: translate_array(source, model, TranslationSettings(scheme="whole")) for name, model in models.items()
        }
        rows.append(_row(drawing, source, translated, target))
    write_figure(rows, out / f"screening_{trial.data_set}.jpg", side=_PICTURED_PX)


def _row(drawing: Drawing, source: AnyArray, results: Mapping[str, AnyArray], target: AnyArray) -> list[Panel]:
    """Crops of the middle."""
    y0, x0 = ((side - _PICTURED_PX) // 2 for side in target.shape[-2:])
    crop = (slice(None), slice(y0, y0 + _PICTURED_PX), slice(x0, x0 + _PICTURED_PX))
    pictures = {name: drawing(source[crop], result[crop], target[crop]) for name, result in results.items()}
    first, _, last = next(iter(pictures.values()))
    return [first, *(Panel(name, panels[1].pixels) for name, panels in pictures.items()), last]
