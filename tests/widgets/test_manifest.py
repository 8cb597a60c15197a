"""Everything that the manifest names exists and runs; `npe2 validate` passes references that lead nowhere."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from npe2 import PluginManifest

import napari_pix2pix
from tests.widgets.conftest import WaitUntil

MANIFEST = PluginManifest.from_file(Path(napari_pix2pix.__file__).with_name("napari.yaml"))
CONTRIBUTIONS = MANIFEST.contributions
COMMANDS = {command.id: command for command in CONTRIBUTIONS.commands or ()}


def test_every_reference_is_a_declared_command_and_every_command_is_used() -> None:
    menus = [item.command for items in CONTRIBUTIONS.menus.values() for item in items]
    used = [
        *menus,
        *(widget.command for widget in CONTRIBUTIONS.widgets or ()),
        *(reader.command for reader in CONTRIBUTIONS.readers or ()),
        *(writer.command for writer in CONTRIBUTIONS.writers or ()),
        *(sample.command for sample in CONTRIBUTIONS.sample_data or ()),
    ]
    assert sorted(used) == sorted(COMMANDS)


@pytest.mark.parametrize("identifier", sorted(COMMANDS))
def test_command_leads_to_something_callable(identifier: str) -> None:
    module, _, name = str(COMMANDS[identifier].python_name).partition(":")
    if "._widgets." in module:
        pytest.importorskip("napari")
        pytest.importorskip("qtpy")
    assert callable(getattr(import_module(module), name))


def test_menus_are_places_that_napari_has() -> None:
    menus = pytest.importorskip("napari._app_model.constants._menus")
    known = {str(menu) for menu in menus.MenuId.contributables()}
    assert set(CONTRIBUTIONS.menus) <= known


def test_menu_entries_are_in_the_menus(viewer: Any) -> None:
    from napari._app_model import get_app_model

    for menu, items in CONTRIBUTIONS.menus.items():
        present = {
            getattr(entry, "command", None) and entry.command.id for entry in get_app_model().menus.get_menu(menu)
        }
        assert {item.command for item in items} <= present


@pytest.mark.parametrize("name", [widget.display_name for widget in CONTRIBUTIONS.widgets or ()])
def test_widget_opens(viewer: Any, name: str) -> None:
    dock, widget = viewer.window.add_plugin_dock_widget(MANIFEST.name, name)
    assert widget.viewer is viewer or widget.viewer == viewer
    assert dock.isVisible() == viewer.window._qt_window.isVisible()


@pytest.mark.parametrize(("key", "layers"), [("pair", 3), ("large", 1), ("tissue", 2)])
def test_sample_opens(viewer: Any, key: str, layers: int) -> None:
    viewer.open_sample(MANIFEST.name, key)
    assert len(viewer.layers) == layers


def test_the_real_sample_says_its_licence_and_is_a_pair(viewer: Any, wait_until: WaitUntil) -> None:
    viewer.open_sample(MANIFEST.name, "tissue")
    train = viewer.window.add_plugin_dock_widget(MANIFEST.name, "Train")[1]
    assert train.images.target.layers == viewer.layers[1:]
    wait_until(train.train_button.isEnabled)
    assert all("copyright" in layer.metadata["license"] for layer in viewer.layers)


def test_every_preference_is_one_that_is_read(viewer: Any) -> None:
    from napari_pix2pix._widgets.preferences import Preferences

    declared = [name for section in (CONTRIBUTIONS.configurations or {}).values() for name in section.properties]
    assert sorted(declared) == sorted(field.name for field in fields(Preferences))


def test_menu_entry_translate_chooses_the_selected_layers(viewer: Any) -> None:
    viewer.open_sample(MANIFEST.name, "pair")
    viewer.layers.selection = {viewer.layers[1], viewer.layers[2]}
    _execute("napari-pix2pix.translate_selected")
    (widget,) = _docked(viewer)
    assert widget.picker.layers == viewer.layers[1:]
    viewer.layers.selection = {viewer.layers[0]}
    _execute("napari-pix2pix.translate_selected")
    assert _docked(viewer) == [widget]
    assert widget.picker.layers == viewer.layers[:1]


def test_menu_entry_train_takes_the_first_selected_layer_as_source(viewer: Any) -> None:
    viewer.open_sample(MANIFEST.name, "pair")
    viewer.layers.select_all()
    _execute("napari-pix2pix.train_selected")
    (widget,) = _docked(viewer)
    assert widget.images.source.layers == viewer.layers[:1]
    assert widget.images.target.layers == viewer.layers[1:]


@pytest.mark.parametrize("plugin", [MANIFEST.name, None], ids=["named", "found"])
def test_dropped_model_file_is_shown(viewer: Any, wait_until: WaitUntil, grey_model: Path, plugin: str | None) -> None:
    """Who drops a file names no plugin: napari finds it by the pattern in the manifest."""
    assert viewer.open(str(grey_model), plugin=plugin) == []
    (widget,) = _docked(viewer)
    assert widget.model.path == grey_model
    wait_until(lambda: "U-Net, depth 3, width 4" in widget.model.words.text())


def test_images_that_napari_opens_itself_are_left_to_it(viewer: Any, tmp_path: Path) -> None:
    """Else it would ask for each TIFF with which plugin to open it, or save it."""
    from napari.plugins._npe2 import get_readers
    from npe2 import PluginManager

    for name in ("a.tif", "a.png", "a.ome.tif"):
        assert MANIFEST.name not in get_readers(str(tmp_path / name))
    writer, _ = PluginManager.instance().get_writer(str(tmp_path / "a.tif"), ["image"])
    assert writer is None or writer.plugin_name != MANIFEST.name


def test_slides_have_a_reader() -> None:
    from napari_pix2pix.formats import slide

    patterns = [pattern for reader in CONTRIBUTIONS.readers or () for pattern in reader.filename_patterns]
    assert {f"*{suffix}" for suffix in slide.SUFFIXES} <= set(patterns)


def test_links_of_the_forms_are_those_of_the_package() -> None:
    import tomllib

    pytest.importorskip("qtpy")
    from napari_pix2pix._widgets.documentation import documentation_folder, project_urls

    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())
    urls = project["tool"]["hatch"]["metadata"]["hooks"]["custom"]["urls"]
    assert urls.items() <= project_urls().items(), "what is installed is older than pyproject.toml"
    assert (documentation_folder() / "reference" / "napari.md").is_file()


def _execute(command: str) -> None:
    from napari._app_model import get_app_model

    get_app_model().commands.execute_command(command).result()


def _docked(viewer: Any) -> list[Any]:
    return [
        widget for widget in viewer.window.dock_widgets.values() if type(widget).__module__.startswith("napari_pix2pix")
    ]


def test_every_way_to_open_a_widget_leads_to_the_same_dock(viewer: Any, grey_model: Path) -> None:
    """By drop, by a layer menu, by the other widget; what the Plugins menu names so is then there already."""
    from tests.widgets.test_first_use import menu_entry

    viewer.open_sample(MANIFEST.name, "pair")
    viewer.open(str(grey_model), plugin=MANIFEST.name)
    _execute("napari-pix2pix.translate_selected")
    _execute("napari-pix2pix.train_selected")
    menu = viewer.window.plugins_menu
    for title in ("Train (pix2pix)", "Translate (pix2pix)"):
        dock = viewer.window.dock_widgets[title].parent()
        menu_entry(menu, "pix2pix", title).trigger()  # which shows and hides the dock of its title
        assert viewer.window.dock_widgets[title].parent() is dock
    assert len(_docked(viewer)) == 2


def test_widgets_of_the_menu_are_found_by_the_others(viewer: Any, grey_model: Path) -> None:
    from tests.widgets.test_first_use import menu_entry

    viewer.open_sample(MANIFEST.name, "pair")
    menu_entry(viewer.window.plugins_menu, "pix2pix", "Translate (pix2pix)").trigger()
    viewer.open(str(grey_model), plugin=MANIFEST.name)
    _execute("napari-pix2pix.translate_selected")
    assert list(viewer.window.dock_widgets) == ["Translate (pix2pix)"]


def test_dropped_run_folder_opens_its_model(viewer: Any, wait_until: WaitUntil, grey_model: Path) -> None:
    """napari asks with which plugin a folder is to be opened, as its own reader takes all of them."""
    from napari.plugins._npe2 import get_readers

    assert MANIFEST.name in get_readers(str(grey_model.parent))
    assert viewer.open(str(grey_model.parent), plugin=MANIFEST.name) == []
    (widget,) = _docked(viewer)
    assert widget.model.path == grey_model
    wait_until(lambda: "U-Net, depth 3, width 4" in widget.model.words.text())


@pytest.mark.parametrize(
    ("content", "words"), [((), "is no folder of a run"), (("last.pt",), "is a run without a model yet")]
)
def test_other_folder_that_is_dropped_is_told_in_words(
    viewer: Any, tmp_path: Path, content: tuple[str, ...], words: str
) -> None:
    from napari.utils.notifications import notification_manager

    folder = tmp_path / "folder"
    folder.mkdir()
    for name in content:
        (folder / name).touch()
    assert viewer.open(str(folder), plugin=MANIFEST.name) == []
    assert words in notification_manager.records[-1].message
    assert _docked(viewer) == []
    notification_manager.records.clear()


def test_both_widgets_are_tabs_of_one_place(viewer: Any, grey_model: Path, wait_until: WaitUntil) -> None:
    from tests.widgets.test_first_use import menu_entry

    viewer.open_sample(MANIFEST.name, "pair")
    window = viewer.window._qt_window
    for title in ("Train (pix2pix)", "Translate (pix2pix)"):
        menu_entry(viewer.window.plugins_menu, "pix2pix", title).trigger()
    docks = [viewer.window.dock_widgets[title].parent() for title in ("Train (pix2pix)", "Translate (pix2pix)")]
    wait_until(lambda: window.tabifiedDockWidgets(docks[0]) == [docks[1]])
