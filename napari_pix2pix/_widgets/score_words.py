"""The score by which a model is judged, in one unit wherever the forms say it. Imports neither napari nor Qt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DIFFERENCE = "mean difference"
TARGET_UNITS = "in units of the target"


@dataclass(frozen=True, kw_only=True)
class ShownScore:
    """The entry `key` of scores in [-1, 1]: what it is called, times which factor it is in `unit`."""

    key: str
    name: str
    unit: str
    factor: float = 1.0

    def value(self, scores: Mapping[str, float | None]) -> float | None:
        """In the unit; None where the scores lack it."""
        value = scores.get(self.key)
        return None if value is None else value * self.factor

    def words(self, scores: Mapping[str, float | None]) -> str:
        """ "mean difference 1573 in units of the target"; empty where the scores lack it."""
        value = self.value(scores)
        return "" if value is None else f"{self.name} {value:.4g}{self.unit and f' {self.unit}'}"


def shown_score(*, is_classes: bool, span: float | None) -> ShownScore:
    """Of classes their overlap with the true ones, else the mean difference; for `span` see `Started.target_span`."""
    if is_classes:
        return ShownScore(key="iou", name="IoU", unit="")
    if span is None:
        return ShownScore(key="mae", name=DIFFERENCE, unit="% of the range", factor=50.0)
    return ShownScore(key="mae", name=DIFFERENCE, unit=TARGET_UNITS, factor=span / 2)
