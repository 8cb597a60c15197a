"""What the user has set for this plugin in napari's preferences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_PLUGIN = "napari-pix2pix"
_RUNS_FOLDER = "pix2pix-runs"


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
