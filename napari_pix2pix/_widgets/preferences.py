"""What the user has set for this plugin in napari's preferences, and the models that were used last."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_state_path
from qtpy.QtCore import QObject, Signal

from pix2pix_training.atomic import atomic_write
from pix2pix_training.errors import Pix2PixError

_PLUGIN = "napari-pix2pix"
_RUNS_FOLDER = "pix2pix-runs"
_LIMIT = 10


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """Values that new forms start with.

    Attributes
    ----------
    runs_folder : where new run folders are proposed.
    tile, memory_mib : of translations; 0 for an automatic choice.
    backend : of translations.
    """

    runs_folder: Path
    tile: int = 0
    memory_mib: int = 0
    backend: str = "auto"


def preferences() -> Preferences:
    """The preferences of this moment; the defaults in a napari older than 0.9, which has none for plugins."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return Preferences(runs_folder=_default_runs_folder())
    settings = get_plugin_settings(_PLUGIN)
    folder = settings.training.runs_folder.strip()
    return Preferences(
        runs_folder=Path(folder).expanduser() if folder else _default_runs_folder(),
        tile=settings.translation.tile,
        memory_mib=settings.translation.memory_mib,
        backend=settings.translation.backend,
    )


def _default_runs_folder() -> Path:
    return Path.home() / _RUNS_FOLDER


logger = logging.getLogger(__name__)


class RecentModels(QObject):
    """Paths of model files, the newest first; `changed` is emitted with a path that was added."""

    changed = Signal(object)

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def paths(self) -> list[Path]:
        """Those that still exist."""
        return [Path(name) for name in self._read() if os.path.isfile(name)]  # noqa: PTH113 (asks of any text)

    def add(self, path: Path) -> None:
        path = path.absolute()
        names = [str(path), *(name for name in self._read() if name != str(path))][:_LIMIT]
        try:
            with atomic_write(self._file) as partial:
                partial.write_text(json.dumps(names), encoding="utf-8")
        except Pix2PixError as error:
            logger.warning("the list of recent models cannot be saved: %s", error)
        self.changed.emit(path)

    def _read(self) -> list[str]:
        try:
            names = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return []
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


_shared: RecentModels | None = None


def recent_models() -> RecentModels:
    """The one list of this process."""
    global _shared
    if _shared is None:
        _shared = RecentModels(user_state_path("napari-pix2pix") / "recent-models.json")
    return _shared
