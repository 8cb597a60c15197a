"""Widgets of this plugin in a viewer's window: one of each, whether it was opened from a menu or by a command."""

from __future__ import annotations

from typing import Any

from napari.viewer import Viewer

_TITLE = "{} (pix2pix)"
"""As napari names what its Plugins menu opens, so that the menu finds it."""


def opened(viewer: Viewer, name: str, kind: type[Any]) -> Any:
    """The widget of `kind` in the viewer's window, brought to the front; opened where it is not.

    Parameters
    ----------
    name : of the widget in the manifest.
    """
    for widget in viewer.window.dock_widgets.values():
        if isinstance(widget, kind):
            dock = widget.parent()
            dock.show()
            dock.raise_()
            return widget
    widget = kind(viewer)
    viewer.window.add_dock_widget(widget, name=_TITLE.format(name), tabify=True)
    return widget
