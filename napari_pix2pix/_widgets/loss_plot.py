"""The curve of a run: how far the output is from held-out targets; and behind a switch what the two networks do."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QFont, QMouseEvent, QPalette, QWheelEvent
from qtpy.QtWidgets import QCheckBox, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_pix2pix._widgets.messages import CHANGES_OF_THEME, Colour, Message, background_of, status_colour
from napari_pix2pix._widgets.score_words import shown_score
from pix2pix_training.choices import BestBy
from pix2pix_training.events import Started, Validated
from pix2pix_training.validated import labels

_HELD_OUT, _TRAINED = "violet", "blue"
_CONTEST = {"G_GAN": "warning", "D_real": "good", "D_fake": "error"}
"""With their kinds of colour, see `status_colour`."""
_CONTEST_WORDS = {
    "G_GAN": "generator: high while its output is recognised as made",
    "D_real": "discriminator on true targets: low where it recognises them",
    "D_fake": "discriminator on outputs: low where it recognises them; all three near 0.7 are in balance",
}
_SMALLEST_PX, _USUAL_PX, _LARGEST_PX = 110, 190, 800
_EDGE_PX = 5
_MOST_POINTS = 1000


class LossPlot(QWidget):
    """Redrawn by `redraw` only, so that many steps cost one drawing; dragging its lower edge makes it higher."""

    def __init__(self) -> None:
        super().__init__()
        self.words = Message()
        self.title = QLabel()
        self.title.setWordWrap(True)
        self.graphs = _Graphs()
        self.main = self.graphs.plot("")
        self._trained = self.main.plot()
        self._held_out = self.main.plot(symbol="o", symbolSize=6)
        self._best_line = pg.InfiniteLine(angle=0)
        self._best_line.setVisible(False)
        self.main.addItem(self._best_line)
        self.contest_button = QCheckBox("how the two networks compete")
        self.contest_button.setToolTip("Curves that tell whether generator and discriminator keep each other going.")
        self.contest_words = QLabel()
        self.contest_words.setWordWrap(True)
        self.contest = _Graphs()
        self._contest_plot = self.contest.plot("loss")
        self._contest_curves = {name: self._contest_plot.plot() for name in _CONTEST}
        self._dragged_from: tuple[int, int] | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(_EDGE_PX)
        for part in (self.words, self.title, self.graphs, self.contest_button, self.contest_words, self.contest):
            part.setCursor(Qt.CursorShape.ArrowCursor)
            layout.addWidget(part)
        self.setCursor(Qt.CursorShape.SizeVerCursor)  # of the edges between the parts
        self._look: tuple[Colour, float] | None = None
        self.clear_run()
        self.contest_button.toggled.connect(self._show_contest)
        self._show_contest(False)

    def _show_contest(self, shown: bool) -> None:
        self.contest_words.setVisible(shown)
        self.contest.setVisible(shown)
        self.redraw()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """The edge below the plot is where it is dragged to another height."""
        position = event.position().toPoint()
        edge = self.graphs.geometry().bottom()
        if edge < position.y() <= edge + _EDGE_PX:
            self._dragged_from = position.y(), self.graphs.height()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._dragged_from is not None:
            start, height = self._dragged_from
            wanted = height + event.position().toPoint().y() - start
            self.graphs.setFixedHeight(min(max(wanted, _SMALLEST_PX), _LARGEST_PX))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        del event
        self._dragged_from = None

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in CHANGES_OF_THEME and hasattr(self, "_look"):
            self._colour()

    def _colour(self) -> None:
        """Curves and words in colours that can be read in the theme, words as large as those of the form."""
        background = background_of(self)
        size = self.words.font().pointSizeF()
        if (background, size) == self._look:
            return
        self._look = background, size
        kinds = (_HELD_OUT, _TRAINED, *_CONTEST.values())
        self.colours = {kind: status_colour(kind, background) for kind in kinds}
        self._trained.setPen(pg.mkPen(self.colours[_TRAINED]))
        self._held_out.setPen(pg.mkPen(self.colours[_HELD_OUT], width=2))
        self._held_out.setSymbolBrush(self.colours[_HELD_OUT])
        self._best_line.setPen(pg.mkPen(self.colours[_HELD_OUT], style=Qt.PenStyle.DashLine))
        for name, curve in self._contest_curves.items():
            curve.setPen(pg.mkPen(self.colours[_CONTEST[name]]))
        self.contest_words.setText(
            "<br>".join(
                f'<span style="color: {self.colours[_CONTEST[name]]}">{words}</span>'
                for name, words in _CONTEST_WORDS.items()
            )
        )
        words = self.palette().color(QPalette.ColorRole.WindowText)
        for graphs in (self.graphs, self.contest):
            graphs.colour(words, self.words.font())
        self._title()

    # The run

    def clear_run(self) -> None:
        """Forget all points, for a new run."""
        self._losses, self._scores = History(), History()
        self._score = shown_score(is_classes=False, span=None)
        self._first = ""
        self._l1_factor: float | None = None
        self._best: tuple[float, str] | None = None
        self._best_by: BestBy = "mae"
        self.words.say("")
        self._colour()
        self._title()
        self.redraw()
        for graphs in (self.graphs, self.contest):
            graphs.forget_range()

    def begin(self, run: Started) -> None:
        """In which units to say what comes; scores of the run are those of values from -1 to 1."""
        self._score = shown_score(is_classes=run.target_is_classes, span=run.target_span)
        self._first = _first_validation(run)
        self.words.say(f"Held out: {run.held_out}.")
        self._best_by = run.config.best_by
        self.contest_button.setVisible(run.config.objective.is_adversarial)
        self.contest_button.setChecked(self.contest_button.isChecked() and run.config.objective.is_adversarial)
        weight = run.config.objective.l1_weight
        self._l1_factor = self._score.factor / weight if weight and run.target_span is not None else None
        self._title()

    def add_losses(self, step: int, losses: Mapping[str, float]) -> None:
        shown = {name: value for name, value in losses.items() if name in _CONTEST}
        if self._l1_factor is not None and "G_L1" in losses:
            shown["difference"] = losses["G_L1"] * self._l1_factor
        self._losses.add(step, shown)

    def add_scores(self, event: Validated) -> None:
        """Scores after a validation; of classes their overlap with the true ones."""
        self._first = ""
        value = self._score.value(event.scores)
        if value is None:
            return
        self._scores.add(event.step, {"difference": value})
        if event.is_best:
            self._best = value, self._best_in_words(event, value)
        if self._best is not None:
            self.words.say(f"now {self._said(value)}; {self._best[1]}")
        self._title()

    def _best_in_words(self, event: Validated, value: float) -> str:
        """With the score that decided, which need not be the one that is shown; see `BestBy`."""
        decided = None if self._best_by == "mae" else event.scores.get(self._best_by)
        if decided is None and self._score.key == "mae":
            return f"best so far {self._said(value)} (step {event.step})"
        by = "MAE" if decided is None else f"{labels(BestBy)[self._best_by]} {decided:.4g}"
        return f"best so far step {event.step}, by {by}: {self._said(value)}"

    def _said(self, value: float) -> str:
        sign = " %" if self._score.unit.startswith("%") else ""
        return f"{'IoU ' if self._is_overlap else ''}{value:.4g}{sign}"

    def _title(self) -> None:
        """What the curves are, above them in their colours."""
        what = "overlap with held-out labels" if self._is_overlap else "difference on held-out images"
        unit = "IoU, 1 is perfect" if self._is_overlap else self._score.unit
        title = f'<span style="color: {self.colours[_HELD_OUT]}">{what}</span>{self._first}, {unit}'
        if self._l1_factor is not None and not self._is_overlap:
            title += f'; <span style="color: {self.colours[_TRAINED]}">on trained patches</span>'
        self.title.setText(title)

    @property
    def _is_overlap(self) -> bool:
        return self._score.key == "iou"

    def redraw(self) -> None:
        self._held_out.setData(*self._scores.curve("difference"))
        shows_trained = not self._is_overlap
        self._trained.setData(*(self._losses.curve("difference") if shows_trained else ([], [])))
        self._best_line.setVisible(self._best is not None)
        if self._best is not None:
            self._best_line.setValue(self._best[0])
        if not self.contest.isHidden():
            for name, curve in self._contest_curves.items():
                curve.setData(*self._losses.curve(name))


def _first_validation(run: Started) -> str:
    """When the first point of the curve comes, in words."""
    if not run.validation_pairs:
        return " (none are held out)"
    step = (run.resumed_from_step // run.config.validate_every + 1) * run.config.validate_every
    if run.total_steps is not None and run.total_steps <= step:
        return f" (first at the end, step {run.total_steps})"
    return f" (first at step {step}{'' if run.total_steps is not None else ', or at the end'})"


class _Graphs(pg.GraphicsLayoutWidget):
    """One plot over the steps of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.setBackground(None)
        self.setCacheMode(self.CacheModeFlag.CacheNone)  # else what is behind the curves keeps its first theme
        self.setFixedHeight(_USUAL_PX)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)  # the form decides how wide it is

    def plot(self, label: str) -> Any:
        self._plot = self.addPlot(row=0, col=0)
        self._plot.setLabel("left", label or None)
        self._plot.setLabel("bottom", "step")
        self._plot.getAxis("left").enableAutoSIPrefix(False)
        self._plot.showGrid(x=True, y=True, alpha=0.2)
        self._plot.setMenuEnabled(False)
        self._plot.hideButtons()
        return self._plot

    def forget_range(self) -> None:
        """Axes without a curve do not stand where an earlier one was."""
        self._plot.setRange(xRange=(0, 1), yRange=(0, 1))
        self._plot.enableAutoRange()

    def colour(self, words: Any, font: QFont) -> None:
        for side in ("left", "bottom"):
            axis = self._plot.getAxis(side)
            axis.setTextPen(words)
            axis.setPen(words)
            axis.setStyle(tickFont=font)
            axis.label.setFont(font)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """The wheel scrolls the form and zooms no curve."""
        event.ignore()


Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


class History:
    """Values by name over steps; of long runs, means of neighbouring steps."""

    def __init__(self) -> None:
        self._steps = array("d")  # of which numpy makes an array in no time, also of a million steps
        self._values: dict[str, array[float]] = {}

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Values that are None or not finite leave a gap."""
        self._steps.append(step)
        for name in {**self._values, **values}:
            value = values.get(name)
            column = self._values.setdefault(name, array("d", [np.nan]) * (len(self._steps) - 1))
            column.append(value if value is not None and isfinite(value) else np.nan)

    def curve(self, name: str) -> Curve:
        """Steps and values of one name, at most a thousand points; none where the name never came."""
        steps, values = np.array(self._steps), np.array(self._values.get(name, array("d")))
        if values.size == 0:
            return np.zeros(0), np.zeros(0)
        width = -(-len(steps) // _MOST_POINTS)
        return _means(steps, width), _means(values, width)


def _means(numbers: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    whole = len(numbers) // width * width
    means = [numbers[:whole].reshape(-1, width).mean(1)]
    if whole < len(numbers):
        means.append(numbers[whole:].mean(keepdims=True))
    return np.concatenate(means)
