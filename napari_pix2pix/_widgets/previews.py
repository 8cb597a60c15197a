"""How a run is getting on, as pictures in the form: source, output and target of an image, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRectF
from qtpy.QtGui import QImage, QPainter, QPaintEvent, QResizeEvent
from qtpy.QtWidgets import QLabel, QSizePolicy

from napari_pix2pix._widgets.training_job import Preview

PREVIEW_KEY = "napari-pix2pix-preview"
"""In the metadata of layers that come and go with what is on the screen."""

_GAP_PX = 4
_LARGEST_PX = 320
_WIDEST = 4 / 3
_SCROLL_BAR_PX = 30


class PreviewStrip(QLabel):
    """The pictures of a preview, as wide as the form; takes no room while there is none.

    Of images that are much wider than high a part is shown. A label, so that its words are as large as others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.preview: Preview | None = None
        self._images: list[QImage] = []
        self._fitted_px = 0
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setToolTip("An image that is not trained on: what the network sees, what it makes of it, and the truth.")
        self.setVisible(False)

    def show_preview(self, preview: Preview) -> None:
        self.preview = preview
        part = _telling_part(preview.images["target"])
        self._images = [_as_qimage(pixels[:, part]) for pixels in preview.images.values()]
        self._fit()
        self.setVisible(True)
        self.update()

    def clear(self) -> None:
        """For a new run."""
        self.preview, self._images = None, []
        self.setVisible(False)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if self._images and abs(self.width() - self._fitted_px) > _SCROLL_BAR_PX:
            self._fit()

    def _fit(self) -> None:
        """As high as the width asks for; a scroll bar that comes and goes with the height changes nothing."""
        self._fitted_px = self.width()
        self.setFixedHeight(self.heightForWidth(self._fitted_px))

    def heightForWidth(self, width: int) -> int:
        if not self._images:
            return 0
        words: int = self.fontMetrics().height()
        return round(self._side(width)[1]) + words + _GAP_PX

    def _side(self, width: int) -> tuple[float, float]:
        """Width and height of a picture."""
        own = self._images[0]
        each = (width - _GAP_PX * (len(self._images) - 1)) / len(self._images)
        factor = min(each / own.width(), _LARGEST_PX / own.height())
        return own.width() * factor, own.height() * factor

    def paintEvent(self, event: QPaintEvent) -> None:
        del event
        if self.preview is None:
            return
        width, height = self._side(self.width())
        words = self.fontMetrics().height()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.setPen(self.palette().windowText().color())
        for number, (name, image) in enumerate(zip(self.preview.images, self._images, strict=True)):
            left = number * (width + _GAP_PX)
            title = self.preview.titles.get(name, name)
            title = f"{title}, step {self.preview.step}" if name == "output" else title
            if self.fontMetrics().horizontalAdvance(title) > width:
                title = name
            painter.drawText(QRectF(left, 0, width, words), 0, title)
            painter.drawImage(QRectF(left, words + _GAP_PX / 2, width, height), image)
        painter.end()


def _telling_part(target: NDArray[np.uint8]) -> slice:
    """The columns of a target (H, W, 3) to show: those in which most is to be seen, where it is too wide for all."""
    height, width, _ = target.shape
    shown = min(width, round(_WIDEST * height))
    varied = np.convolve(target.std(axis=0).sum(axis=1), np.ones(shown), "valid")
    first = int(varied.argmax())
    return slice(first, first + shown)


def _as_qimage(pixels: NDArray[np.uint8]) -> QImage:
    """(H, W, 3) as an image with pixels of its own."""
    height, width, _ = pixels.shape
    return QImage(np.ascontiguousarray(pixels).tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888).copy()


def is_preview(layer: Any) -> bool:
    return PREVIEW_KEY in layer.metadata
