"""The curves of a run: losses above, the error on validation images below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyqtgraph as pg
from qtpy.QtCore import QEvent
from qtpy.QtGui import QPalette, QWheelEvent

from napari_pix2pix._widgets.loss_history import History
from napari_pix2pix._widgets.messages import CHANGES_OF_THEME, background_of
from napari_pix2pix._widgets.status_colours import Colour, status_colour

_LOSSES = {"G_L1": "blue", "G_GAN": "warning", "D_real": "good", "D_fake": "error"}
"""With their kinds of colour, see `status_colour`."""
_SCORE, _SCORE_KIND = "mae", "violet"
_HEIGHT_PX = 204


class LossPlot(pg.GraphicsLayoutWidget):
    """Redrawn by `redraw` only, so that many steps cost one drawing."""

    def __init__(self) -> None:
        super().__init__()
        self.setBackground(None)
        self.setFixedHeight(_HEIGHT_PX)
        self.losses = self._plot(0, "loss")
        self.losses.setLogMode(y=True)
        self.scores = self._plot(1, "held-out MAE")
        self.scores.setLabel("bottom", "step")
        self.scores.setXLink(self.losses)
        self._curves = {name: self.losses.plot(name=name) for name in _LOSSES}
        self._score = self.scores.plot(symbol="o", symbolSize=5)
        self._background: Colour | None = None
        self._colour()
        self.clear_run()

    def _plot(self, row: int, label: str) -> Any:
        plot = self.addPlot(row=row, col=0)
        plot.setLabel("left", label)
        plot.getAxis("left").setWidth(58)
        plot.getAxis("left").enableAutoSIPrefix(False)
        plot.showGrid(x=True, y=True, alpha=0.2)
        plot.setMenuEnabled(False)
        plot.hideButtons()
        return plot

    def wheelEvent(self, event: QWheelEvent) -> None:
        """The wheel scrolls the form and zooms no curve."""
        event.ignore()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in CHANGES_OF_THEME and hasattr(self, "_background"):
            self._colour()

    def _colour(self) -> None:
        """Curves and words in colours that can be read in the theme."""
        background = background_of(self)
        if background == self._background:
            return
        self._background = background
        colours = {name: status_colour(kind, background) for name, kind in (*_LOSSES.items(), (_SCORE, _SCORE_KIND))}
        titles = (f'<span style="color: {colours[name]}">{name}</span>' for name in _LOSSES)
        self.losses.setTitle("&nbsp;&nbsp;".join(titles), size="8pt")
        for name, curve in self._curves.items():
            curve.setPen(pg.mkPen(colours[name]))
        self._score.setPen(pg.mkPen(colours[_SCORE]))
        self._score.setSymbolBrush(colours[_SCORE])
        words = self.palette().color(QPalette.ColorRole.WindowText)
        for plot in (self.losses, self.scores):
            for side in ("left", "bottom"):
                plot.getAxis(side).setTextPen(words)
                plot.getAxis(side).setPen(words)

    def clear_run(self) -> None:
        """Forget all points, for a new run."""
        self._losses, self._scores = History(), History()
        self.redraw()

    def add_losses(self, step: int, losses: Mapping[str, float]) -> None:
        self._losses.add(step, losses)

    def add_scores(self, step: int, scores: Mapping[str, float | None]) -> None:
        self._scores.add(step, scores)

    def redraw(self) -> None:
        for name, curve in self._curves.items():
            curve.setData(*self._losses.curve(name))
        self._score.setData(*self._scores.curve(_SCORE))
