"""As a user does it: napari is there before PyTorch is imported, and OpenGL has drawn something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = """
import sys
import time
from pathlib import Path

import napari
import numpy as np
from qtpy.QtWidgets import QApplication


def wait(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        QApplication.processEvents()
        time.sleep(0.01)


viewer = napari.Viewer()
image = np.random.default_rng(0).integers(0, 256, (96, 96), np.uint8)
viewer.add_image(image)
viewer.add_image(255 - image)
wait(lambda: viewer.window._qt_window.isVisible())
import napari_pix2pix._widgets.commands
assert "torch" not in sys.modules, "PyTorch is imported in the main thread"
widget = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Train")[1]
widget.out.set_path(Path(sys.argv[1]))
widget.settings.base_width.setValue(4)
widget.settings.patch_size.setValue(32)
widget.settings.unit.choose("steps")
widget.settings.length.setValue(2)
wait(widget.train_button.isEnabled)
widget.train_button.click()
wait(lambda: not widget.is_running)
print(widget.state.text())
viewer.close()
"""


def test_train_in_a_napari_that_has_not_imported_torch(viewer: Any, tmp_path: Path) -> None:
    viewer.close()  # the process below has its own; this one says that there are napari and a display
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "run")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.startswith("done: 2 steps")
