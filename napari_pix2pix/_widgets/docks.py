"""Widgets of this plugin in a viewer's window, whether they were opened from a menu or by a command."""

from __future__ import annotations

from typing import Any

from napari.viewer import Viewer

_PLUGIN = "napari-pix2pix"


def opened(viewer: Viewer, name: str, kind: type[Any]) -> Any:
    """The widget of `kind` in the viewer's window, brought to the front; opened where it is not."""
    for widget in viewer.window.dock_widgets.values():
        if isinstance(widget, kind):
            dock = widget.parent()
            dock.show()
            dock.raise_()
            return widget
    return viewer.window.add_plugin_dock_widget(_PLUGIN, name, tabify=True)[1]
