"""What stands in for napari's layers where no viewer is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Layer:
    """What `source_of` asks of a layer."""

    data: Any
    axis_labels: tuple[str, ...]
    name: str = "layer"
    multiscale: bool = False
    rgb: bool = False
    units: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.units = self.units or ("pixel",) * self.ndim

    @property
    def ndim(self) -> int:
        return len(self.axis_labels)
