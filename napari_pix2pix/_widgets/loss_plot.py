"""The curves of a run: losses above, the error on validation images below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyqtgraph as pg

from napari_pix2pix._widgets.loss_history import History

_LOSSES = {"G_L1": "#58a6ff", "G_GAN": "#e3b341", "D_real": "#7ee787", "D_fake": "#ff7b72"}
_SCORE, _SCORE_COLOR = "mae", "#d2a8ff"
_HEIGHT_PX = 204


class LossPlot(pg.GraphicsLayoutWidget):
    """Redrawn by `redraw` only, so that many steps cost one drawing."""

    def __init__(self) -> None:
        super().__init__()
        self.setBackground(None)
        self.setFixedHeight(_HEIGHT_PX)
        self.losses = self._plot(0, "loss")
        self.losses.setLogMode(y=True)
        self.losses.setTitle("&nbsp;&nbsp;".join(_colored(*item) for item in _LOSSES.items()), size="8pt")
        self.scores = self._plot(1, "held-out MAE")
        self.scores.setLabel("bottom", "step")
        self.scores.setXLink(self.losses)
        self._curves = {name: self.losses.plot(pen=pg.mkPen(color), name=name) for name, color in _LOSSES.items()}
        self._score = self.scores.plot(pen=pg.mkPen(_SCORE_COLOR), symbol="o", symbolSize=5, symbolBrush=_SCORE_COLOR)
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


def _colored(name: str, color: str) -> str:
    return f'<span style="color: {color}">{name}</span>'
