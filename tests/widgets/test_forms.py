"""What holds for every field and word of both forms: the wheel, colours of all themes, stale words, late layers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_pix2pix._widgets.messages import LEAST_CONTRAST, contrast, parsed, status_colour
from pix2pix_training.events import Warned
from tests.widgets.conftest import WaitUntil

KINDS = ("good", "warning", "error")


def fields_of(widget: Any) -> list[Any]:
    """Everything with a value that a mouse wheel could change."""
    from qtpy.QtWidgets import QAbstractSlider, QAbstractSpinBox, QComboBox, QScrollBar, QTabBar

    kinds = (QAbstractSlider, QAbstractSpinBox, QComboBox, QTabBar)
    return [field for kind in kinds for field in widget.findChildren(kind) if not isinstance(field, QScrollBar)]


def value_of(field: Any) -> Any:
    return field.value() if hasattr(field, "setValue") else field.currentIndex()


def wheel(field: Any, notches: int) -> bool:
    """Turn the wheel over a field as Qt does; whether the field kept the event for itself."""
    from qtpy.QtCore import QPoint, QPointF, Qt
    from qtpy.QtGui import QWheelEvent
    from qtpy.QtWidgets import QApplication

    middle = QPointF(field.rect().center())
    event = QWheelEvent(
        middle,
        QPointF(field.mapToGlobal(field.rect().center())),
        QPoint(0, 0),
        QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(field, event)
    return bool(event.isAccepted())


@pytest.mark.parametrize("name", ["Train", "Translate"])
def test_the_wheel_changes_no_field_while_one_scrolls(viewer: Any, name: str) -> None:
    viewer.add_image(np.zeros((3, 64, 64), np.uint8))
    viewer.add_shapes([np.zeros((4, 2))])
    widget = viewer.window.add_plugin_dock_widget("napari-pix2pix", name)[1]
    fields = fields_of(widget)
    assert len(fields) > 8
    before = [value_of(field) for field in fields]
    for notches in (-3, 1):
        assert [wheel(field, notches) for field in fields] == [False] * len(fields)
    assert [value_of(field) for field in fields] == before


def test_the_wheel_gives_no_field_the_focus(viewer: Any) -> None:
    from qtpy.QtCore import Qt

    for name in ("Train", "Translate"):
        for field in fields_of(viewer.window.add_plugin_dock_widget("napari-pix2pix", name)[1]):
            assert not field.focusPolicy().value & Qt.FocusPolicy.WheelFocus.value & ~Qt.FocusPolicy.StrongFocus.value


@pytest.mark.parametrize("name", ["Train", "Translate"])
def test_the_wheel_changes_not_even_the_field_that_has_the_focus(
    viewer: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fields = fields_of(viewer.window.add_plugin_dock_widget("napari-pix2pix", name)[1])
    for kind in set(map(type, fields)):
        monkeypatch.setattr(kind, "hasFocus", lambda _: True)
    before = [value_of(field) for field in fields]
    assert [wheel(field, -1) for field in fields] == [False] * len(fields)
    assert [value_of(field) for field in fields] == before


@pytest.mark.parametrize("name", ["Train", "Translate"])
def test_over_every_field_and_its_name_stands_a_sentence(viewer: Any, name: str) -> None:
    from qtpy.QtWidgets import QAbstractButton, QFormLayout, QLineEdit, QListWidget, QWidget
    from superqt import QCollapsible

    viewer.add_image(np.zeros((3, 64, 64), np.uint8))
    viewer.add_shapes([np.zeros((4, 2))])
    widget = viewer.window.add_plugin_dock_widget("napari-pix2pix", name)[1]
    folds = {fold.toggleButton() for fold in widget.findChildren(QCollapsible)}
    kinds = (QAbstractButton, QLineEdit, QListWidget)
    others = [part for kind in kinds for part in widget.findChildren(kind) if part not in folds]
    inner = (QLineEdit, QAbstractButton)
    fields = [
        field
        for field in (*fields_of(widget), *others)
        if not (isinstance(field, inner) and type(field.parent()).__name__.endswith(("SpinBox", "Number")))
    ]
    tips = {field: field.toolTip().replace("\n", " ") for field in fields}
    assert [tip for tip in tips.values() if not (tip[:1].isupper() or tip[:1].isdigit()) or tip[-1:] != "."] == []
    assert len(tips) > 30
    for form in widget.findChildren(QFormLayout):
        for row in range(form.rowCount()):
            field = form.itemAt(row, form.ItemRole.FieldRole).widget()
            if (label := form.labelForField(field)) is None:
                continue
            own = [part.toolTip() for part in (field, *field.findChildren(QWidget))]
            assert label.toolTip() and label.toolTip() in own, label.text()


@pytest.mark.parametrize("name", ["Train", "Translate"])
def test_buttons_are_seen_however_much_is_folded_out(viewer: Any, name: str) -> None:
    from superqt import QCollapsible

    widget = viewer.window.add_plugin_dock_widget("napari-pix2pix", name)[1]
    for fold in widget.findChildren(QCollapsible):
        assert fold.text().startswith("▸ "), "a letter, so in the colour of the theme"
        fold.expand(animate=False)
        assert fold.text().startswith("▾ ")
    widget.resize(400, 500)
    for _ in range(2):
        widget.grab()  # lays it out, shown or not
    buttons = {"Train": ["train_button", "stop_button"], "Translate": ["translate_button", "save_button"]}[name]
    for button in (getattr(widget, button) for button in buttons):
        assert widget.rect().contains(button.mapTo(widget, button.rect().bottomRight()))
    assert widget.area.verticalScrollBar().maximum() > 0


@pytest.mark.parametrize("name", ["Train", "Translate"])
def test_text_in_fields_is_as_large_as_the_font_of_napari(viewer: Any, name: str) -> None:
    from napari.settings import get_settings
    from qtpy.QtWidgets import QLineEdit

    from napari_pix2pix._widgets.forms import PathField

    widget = viewer.window.add_plugin_dock_widget("napari-pix2pix", name)[1]
    for size in (16, 11):
        get_settings().appearance.font_size = size
        widget.grab()
        fields = widget.findChildren(QLineEdit)
        assert {field.font().pointSize() for field in fields} == {size}
        assert len(fields) > 10
        for line in (field.line for field in widget.findChildren(PathField)):
            assert line.minimumSizeHint().width() >= 20 * line.fontMetrics().averageCharWidth()


def test_a_device_is_not_named_without_a_word_about_it() -> None:
    from napari_pix2pix._widgets.training_pace import Pace

    words = Pace(kind="cpu", device="Processor").words("minutes", 10)
    assert words == "Processor; how fast it is stands here once images are chosen."


@pytest.mark.parametrize("name", ["Train", "Translate"])
def test_no_row_is_squeezed_where_fields_go_below_their_names(viewer: Any, name: str) -> None:
    from qtpy.QtWidgets import QFormLayout
    from superqt import QCollapsible

    widget = viewer.window.add_plugin_dock_widget("napari-pix2pix", name)[1]
    for fold in widget.findChildren(QCollapsible):
        fold.expand(animate=False)
    widget.setStyleSheet("* {font-size: 16pt}")
    widget.resize(450, 600)
    for _ in range(3):
        widget.grab()  # lays it out, shown or not
    forms = widget.findChildren(QFormLayout)
    fields = [form.itemAt(row, form.ItemRole.FieldRole).widget() for form in forms for row in range(form.rowCount())]
    shown = [field for field in fields if field.isVisibleTo(widget)]
    assert len(shown) > 15
    assert [type(field) for field in shown if field.height() < field.minimumSizeHint().height()] == []


def test_documentation_opens_in_a_window(viewer: Any, translate: Any) -> None:
    from qtpy.QtCore import QUrl
    from qtpy.QtGui import QTextDocument

    from napari_pix2pix._widgets.documentation import DocumentationWindow
    from napari_pix2pix._widgets.messages import HelpLinks

    links = translate.findChild(HelpLinks)
    for _ in range(2):
        links.linkActivated.emit("documentation")
    (window,) = links.findChildren(DocumentationWindow)
    assert window.isVisible()
    assert window.toPlainText().startswith("In napari")
    kind = QTextDocument.ResourceType.ImageResource.value
    picture = window.loadResource(kind, QUrl("../images/napari/train-form.png"))
    assert 0 < picture.width() < window.width()
    window.setSource(window.source().resolved(QUrl("command-line.md")))
    assert window.toPlainText().startswith("The command line")
    window.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_words_of_every_kind_are_readable_in_the_theme(viewer: Any, translate: Any, theme: str, kind: str) -> None:
    from qtpy.QtGui import QPalette
    from qtpy.QtWidgets import QApplication

    viewer.theme = "dark" if theme == "light" else "light"
    translate.state.say("words", kind)
    translate.remarks.add("something was decided")
    viewer.theme = theme  # while they stand there
    QApplication.processEvents()
    for message in (translate.state, translate.remarks):
        shown = message.palette().color(QPalette.ColorRole.WindowText).name()
        behind = parsed(message.palette().color(QPalette.ColorRole.Window).name())
        assert shown == status_colour(message.kind, behind)
        assert contrast(parsed(shown), behind) >= LEAST_CONTRAST
        picture = message.grab().toImage()
        assert picture.pixelColor(0, 0).name() == message.palette().color(QPalette.ColorRole.Window).name()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_curves_and_their_names_are_readable_in_the_theme(viewer: Any, theme: str) -> None:
    from qtpy.QtWidgets import QApplication

    viewer.theme = "dark" if theme == "light" else "light"
    plot = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Train")[1].progress.plot
    viewer.theme = theme
    QApplication.processEvents()
    behind = parsed(viewer.window._qt_window.palette().window().color().name())
    main, contest = plot.main.curves, plot._contest_plot.curves
    pens = [curve.opts["pen"].color().name() for curve in (*main, *contest)]
    words = [plot.main.getAxis(side).textPen().color().name() for side in ("left", "bottom")]
    assert len(pens) == 5
    assert pens[1] in plot.title.text()
    assert all(pen in plot.contest_words.text() for pen in pens[2:])
    assert min(contrast(parsed(colour), behind) for colour in (*pens, *words)) >= LEAST_CONTRAST


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_a_plot_and_a_preview_that_are_there_follow_the_theme(viewer: Any, train: Any, theme: str) -> None:
    from collections import Counter

    from qtpy.QtWidgets import QApplication

    from napari_pix2pix._widgets.training_job import Preview

    viewer.theme = "dark" if theme == "light" else "light"
    plot, strip = train.progress.plot, train.progress.preview
    picture = np.zeros((8, 8, 3), np.uint8)
    strip.show_preview(Preview(step=1, images=dict.fromkeys(("source", "output", "target"), picture)))
    plot.add_losses(1, {"G_GAN": 1.0})
    plot.setVisible(True)
    plot.contest_button.click()
    painted = (plot.graphs, plot.contest, strip)
    for part in painted:
        part.grab()
    viewer.theme = theme
    QApplication.processEvents()
    behind = viewer.window._qt_window.palette().window().color().name()
    for part in painted:
        shown = part.grab().toImage()
        places = [(x, y) for x in range(shown.width()) for y in range(min(shown.height(), 150))]
        seen = Counter(shown.pixelColor(x, y).name() for x, y in places)
        if part is not strip:
            assert seen.most_common(1)[0][0] == behind
        assert max(contrast(parsed(colour), parsed(behind)) for colour in seen) >= LEAST_CONTRAST


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_links_to_help_are_readable_in_the_theme(viewer: Any, translate: Any, theme: str) -> None:
    from qtpy.QtWidgets import QApplication

    from napari_pix2pix._widgets.documentation import project_urls
    from napari_pix2pix._widgets.messages import HelpLinks

    viewer.theme = "dark" if theme == "light" else "light"
    viewer.theme = theme
    QApplication.processEvents()
    behind = parsed(viewer.window._qt_window.palette().window().color().name())
    colours = re.findall("#[0-9a-f]{6}", translate.findChild(HelpLinks).text())
    assert len(colours) == len({"Documentation", *project_urls()})
    assert min(contrast(parsed(colour), behind) for colour in colours) >= LEAST_CONTRAST


def test_contrast_is_that_of_wcag() -> None:
    assert contrast((255, 255, 255), (0, 0, 0)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)
    assert contrast((10, 20, 30), (10, 20, 30)) == 1


@pytest.fixture
def done(viewer: Any, translate: Any, wait_until: WaitUntil, grey_model: Path) -> Any:
    """The Translate widget after a translation."""
    viewer.add_image(np.arange(40 * 48, dtype=np.uint8).reshape(40, 48), name="cells")
    translate.set_model(grey_model)
    wait_until(translate.translate_button.isEnabled)
    translate.translate_button.click()
    wait_until(lambda: not translate.is_running)
    assert translate.state.text().startswith("done in")
    assert translate.state.kind == "good"
    return translate


@pytest.mark.parametrize("change", ["layer", "model", "option", "part", "destination"])
def test_done_is_not_said_of_another_choice(
    viewer: Any, done: Any, tmp_path: Path, rgb_model: Path, change: str
) -> None:
    match change:
        case "layer":
            done.picker.choose([viewer.layers[-1]])
        case "model":
            done.set_model(rgb_model)
        case "option":
            done.settings.scheme.choose("blend")
        case "part":
            done.part.kind.choose("view")
        case "destination":
            done.destination.choose(True)
    assert done.state.text() == ""


def test_done_stays_while_the_choice_does(viewer: Any, done: Any) -> None:
    viewer.add_image(np.zeros((8, 8), np.uint8), name="another")
    viewer.layers[0].visible = False
    assert done.state.text().startswith("done in")


def test_an_error_is_not_said_of_another_choice(
    viewer: Any, done: Any, grey_model: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari.utils.notifications import notification_manager

    from napari_pix2pix.translation.translator import Translator

    def failing(*_: Any, **__: Any) -> Any:
        raise ValueError("unexpected")
        yield

    monkeypatch.setattr(Translator, "tiles", failing)
    done.translate_button.click()
    wait_until(lambda: not done.is_running)
    assert done.state.kind == "error"
    done.settings.tile.setValue(64)
    assert done.state.text() == ""
    notification_manager.records.clear()


def test_words_about_a_run_are_not_said_of_another_folder(train: Any, tmp_path: Path, wait_until: WaitUntil) -> None:
    train.settings.length.setValue(1)
    train.train_button.click()
    wait_until(lambda: not train.is_running)
    train.on_events([Warned(step=1, message="so so")])
    assert train.state.kind == "good"
    assert "so so" in train.remarks.text()
    train.out.set_path(tmp_path / "other")
    assert train.state.text() == train.remarks.text() == ""


def test_what_is_decided_about_an_image_stands_in_the_form_once(
    viewer: Any, translate: Any, wait_until: WaitUntil, grey_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import logging

    from napari_pix2pix.translation import translator

    whole = translator.Translator.tiles

    def remarking(*arguments: Any, **options: Any) -> Any:
        for _ in range(2):
            logging.getLogger("napari_pix2pix.translation.translator").warning(
                "cells: band 4 is\ntaken for %s", "alpha"
            )
        return whole(*arguments, **options)

    monkeypatch.setattr(translator.Translator, "tiles", remarking)
    viewer.add_image(np.zeros((40, 48), np.uint8), name="cells")
    translate.set_model(grey_model)
    wait_until(translate.translate_button.isEnabled)
    translate.translate_button.click()
    wait_until(lambda: not translate.is_running)
    assert translate.remarks.lines == ("cells: band 4 is taken for alpha",)
    assert translate.remarks.isVisibleTo(translate)
    translate.translate_button.click()
    wait_until(lambda: not translate.is_running)
    assert translate.remarks.lines == ("cells: band 4 is taken for alpha",), "of this translation, once"


def test_a_layer_that_arrives_after_the_translate_widget_is_chosen(viewer: Any, translate: Any) -> None:
    assert translate.picker.layers == []
    viewer.add_points(np.zeros((1, 2)))
    first = viewer.add_image(np.zeros((40, 48), np.uint8), name="first")
    assert translate.picker.layers == [first]
    viewer.add_image(np.zeros((40, 48), np.uint8), name="second")
    assert translate.picker.layers == [first]
    viewer.layers.remove(first)
    third = viewer.add_image(np.zeros((40, 48), np.uint8), name="third")
    assert translate.picker.layers == [viewer.layers["second"]]
    translate.picker.choose([])
    viewer.add_image(np.zeros((40, 48), np.uint8), name="fourth")
    assert translate.picker.layers == [], "the user has chosen none"
    assert third in translate.picker.offered


def test_layers_that_arrive_after_the_train_widget_are_a_pair(viewer: Any) -> None:
    train = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Train")[1]
    viewer.open_sample("napari-pix2pix", "pair")
    assert [layer.name for layer in train.images.source.layers] == ["label-free"]
    assert [layer.name for layer in train.images.target.layers] == ["nuclei", "cytoplasm"]
    viewer.add_image(np.zeros((64, 64), np.uint8), name="of another size")
    viewer.add_image(np.zeros((1024, 1024), np.uint8), name="elsewhere", translate=(0, 500))
    assert [layer.name for layer in train.images.target.layers] == ["nuclei", "cytoplasm"]


def test_the_list_of_layers_grows_with_them_and_the_form_is_as_wide_as_it_needs(
    viewer: Any, translate: Any, wait_until: WaitUntil
) -> None:
    from qtpy.QtWidgets import QScrollArea

    heights = []
    for _ in range(8):
        viewer.add_image(np.zeros((8, 8), np.uint8))
        heights.append(translate.picker.list.height())
    names = [translate.picker.list.item(row).text() for row in range(8)]
    assert names == [layer.name for layer in reversed(viewer.layers)], "as in the list of the viewer"
    assert heights == sorted(heights)
    assert heights[2] < heights[5] == heights[7]
    area = translate.findChild(QScrollArea)
    usual = area.minimumSizeHint().width()
    assert usual > area.widget().minimumSizeHint().width()
    translate.setStyleSheet("* {font-size: 30pt}")
    wait_until(lambda: area.minimumSizeHint().width() > usual, 10)


def test_what_the_user_has_ticked_is_not_changed_by_a_layer_that_arrives(viewer: Any, train: Any) -> None:
    from qtpy.QtCore import Qt

    layers = train.images.source.offered
    train.images.source.list.item(1).setCheckState(Qt.CheckState.Unchecked)
    train.images.source.list.item(0).setCheckState(Qt.CheckState.Checked)
    viewer.add_image(layers[0].data, name="third", scale=(0.5, 0.5), units=("um", "um"))
    assert train.images.source.layers == layers[1:]


def test_a_result_is_not_chosen_as_training_target(viewer: Any, done: Any) -> None:
    train = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Train")[1]
    assert train.images.source.layers == viewer.layers[:1]
    assert train.images.target.layers == []


def test_ticked_rows_of_a_long_list_are_seen_and_counted(viewer: Any) -> None:
    lowest = [viewer.add_image(np.zeros((8, 8), np.uint8), name=f"image {number}") for number in range(30)][:2]
    train = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Train")[1]
    train.resize(400, 700)
    train.grab()  # lays it out, shown or not
    picker = train.images.source
    picker.choose([])
    assert picker.count.text() == "0 of 30 ticked"
    picker.list.scrollToTop()
    picker.choose(lowest)
    assert picker.count.text() == "2 of 30 ticked"
    assert picker.count.toolTip() == "Ticked: image 0, image 1."
    assert picker.count.isVisibleTo(train)
    seen = picker.list.visualItemRect(picker.list.item(28))
    assert picker.list.viewport().rect().contains(seen)
    viewer.add_image(np.zeros((8, 8), np.uint8))
    seen = picker.list.visualItemRect(picker.list.item(29))
    assert picker.list.viewport().rect().contains(seen)


def test_a_click_on_the_name_of_a_layer_or_on_its_box_ticks_it(viewer: Any, train: Any, qtbot: Any) -> None:
    from qtpy.QtCore import QPoint, Qt

    picker = train.images.source
    train.resize(400, 700)
    train.grab()  # lays it out, shown or not
    picker.choose([])
    row = picker.list.visualItemRect(picker.list.item(0))
    for x in (row.left() + 8, row.left() + 60):
        for is_ticked in (True, False):
            qtbot.mouseClick(picker.list.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(x, row.center().y()))
            assert picker.layers == (picker.offered[-1:] if is_ticked else [])
    qtbot.mouseClick(picker.list.viewport(), Qt.MouseButton.RightButton, pos=row.center())
    assert picker.layers == []


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_boxes_that_are_not_ticked_are_seen_in_the_theme(viewer: Any, train: Any, theme: str) -> None:
    from collections import Counter

    from qtpy.QtWidgets import QApplication

    viewer.theme = "dark" if theme == "light" else "light"
    picker = train.images.source
    picker.choose([])
    picker.list.grab()
    viewer.theme = theme
    QApplication.processEvents()
    shown = picker.list.grab().toImage()
    row = picker.list.visualItemRect(picker.list.item(0))
    column = [shown.pixelColor(row.left() + 10, y).name() for y in range(row.top() + 2, row.bottom() + 3)]
    behind = Counter(column).most_common(1)[0][0]
    assert max(contrast(parsed(colour), parsed(behind)) for colour in column) >= LEAST_CONTRAST


def test_it_is_said_why_no_layer_is_proposed(viewer: Any) -> None:
    train = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Train")[1]
    first = viewer.add_image(np.zeros((64, 64), np.uint8), name="DAPI")
    assert train.images.message.text() == "Tick a target layer."
    viewer.add_image(np.zeros((64, 60), np.uint8), name="other")
    words = "Tick a target layer: no other image has the size and the place of the source."
    assert (train.images.message.text(), train.images.message.kind) == (words, "plain")
    for number in range(2):
        viewer.add_image(np.zeros((64, 64), np.uint8), name=f"phase_z{number}")
    words = "Several planes could be the source: tick one or more, and the target."
    assert (train.images.message.text(), train.images.message.kind) == (words, "plain")
    train.images.source.choose([first])
    train.images.source.choose([])
    assert train.images.message.text() == "Tick a source layer."


@pytest.mark.parametrize("name", ["Train", "Translate"])
def test_lists_of_layers_have_room_for_their_names(viewer: Any, qtbot: Any, name: str) -> None:
    from qtpy.QtWidgets import QListWidget

    viewer.add_image(np.zeros((64, 64), np.uint8), name="phase contrast")
    widget = viewer.window.add_plugin_dock_widget("napari-pix2pix", name)[1]
    widget.resize(400, 900)
    widget.grab()  # lays it out, shown or not
    lists = [each for each in widget.findChildren(QListWidget) if each.isVisibleTo(widget)]
    assert lists
    assert min(each.viewport().width() for each in lists) > lists[0].fontMetrics().horizontalAdvance("phase contrast")


def test_a_name_gets_the_ending_of_the_chosen_type_and_no_file_is_replaced_unasked(
    viewer: Any, translate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtWidgets import QFileDialog, QMessageBox

    from napari_pix2pix._widgets import forms

    (tmp_path / "mine.ome.tif").touch()
    chosen = [("pic", "PNG (*.png)"), ("pic", "All files (*)"), ("pic.jpg", "PNG (*.png)"), ("", "PNG (*.png)")]
    chosen += [("mine", "OME-TIFF (*.ome.tif)")] * 2
    answers = [QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes]
    starts: list[str] = []

    def ask(_: Any, __: str, start: str, ___: str) -> tuple[str, str]:
        starts.append(start)
        name, kind = chosen.pop(0)
        return name and str(tmp_path / name), kind

    monkeypatch.setattr(QFileDialog, "getSaveFileName", ask)
    monkeypatch.setattr(QMessageBox, "question", lambda *_: answers.pop(0))
    names = [Path(forms.ask_image(translate, "a.ome.tif")).name for _ in range(5)]
    assert names == ["pic.png", "pic.ome.tif", "pic.jpg", "", "mine.ome.tif"]
    assert (answers, starts[5]) == ([], str(tmp_path / "mine.ome.tif"))
    chosen += [("scores", "All scores (*.json)"), ("model", "ONNX (*.onnx)")]
    written: list[Path] = []
    translate.model_actions.wants_report.connect(written.append)
    translate.model_actions.wants_export.connect(written.append)
    translate.model_actions.wants_report.disconnect(translate._on_report)
    translate.model_actions.wants_export.disconnect(translate._on_export)
    translate.model_actions._on_report()
    translate.model_actions._on_export()
    assert [path.name for path in written] == ["scores.json", "model.onnx"]


def overflow_px(widget: Any) -> int:
    """By how much the form is wider than what is seen of it."""
    return int(widget.area.widget().width() - widget.area.viewport().width())


def lay_out(widget: Any, width: int) -> None:
    widget.resize(width, 600)
    for _ in range(3):
        widget.grab()  # lays it out, shown or not


@pytest.mark.parametrize("letters", [45, 70, 150])
@pytest.mark.parametrize("name", ["Train", "Translate"])
def test_long_names_make_no_form_wider(viewer: Any, tmp_path: Path, name: str, letters: int) -> None:
    from napari.settings import get_settings

    from napari_pix2pix._widgets.folder_job import FolderTranslated

    get_settings().appearance.font_size = 16
    pixels = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    names = [("20240503_experiment7_plate12-" * 9)[: letters - 1] + "a", "W" * letters]
    short = [viewer.add_image(pixels, name=each) for each in "ab"]
    widget = viewer.window.add_plugin_dock_widget("napari-pix2pix", name)[1]
    picker = widget.images.source if name == "Train" else widget.picker
    picker.choose(short[:1])
    lay_out(widget, 300)
    needed = widget.minimumSizeHint().width()
    for layer, long in zip(short, names, strict=True):
        layer.name = long
    picker.choose(short)
    if name == "Translate":
        widget.kind.choose("folder")
        failed = {tmp_path / f"{each}.tif": f"{each}.tif is no image" for each in names}
        widget.folder_results.show_results(FolderTranslated(outputs=(tmp_path / names[0],), failed=failed))
        widget.model.set_path(tmp_path / names[1] / names[0])
    for message in (widget.state, widget.remarks):
        message.say(f"saved as {tmp_path / names[0]}; {names[1]}")
    for width in (300, needed):
        lay_out(widget, width)
        assert overflow_px(widget) == 0
    assert widget.minimumSizeHint().width() <= needed
    assert widget.state.text() == f"saved as {tmp_path / names[0]}; {names[1]}"


def test_of_a_long_name_both_ends_are_seen_and_the_whole_in_what_stands_over_it(viewer: Any) -> None:
    from qtpy.QtCore import Qt

    from napari_pix2pix._widgets.forms import Choice

    name = "20240503_experiment7_plate12_wellB04_field0007_channelDAPI_z00_t0001"
    field = Choice({name: 1})
    field.resize(150, 30)
    shown = field.shown_label()
    assert "…" in shown and shown.startswith("20") and shown.endswith("1")
    assert field.itemData(0, Qt.ItemDataRole.ToolTipRole) == name
    viewer.add_image(np.zeros((8, 8), np.uint8), name=name)
    picker = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Translate")[1].picker
    picker.list.resize(150, 60)
    picker.list.grab()
    assert picker.list.visualItemRect(picker.list.item(0)).width() <= picker.list.viewport().width()


def test_words_are_copied_as_they_were_said(viewer: Any, translate: Any) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    words = f"saved as /data/{'x' * 40}/result_of_the_long_experiment.tif\nand more"
    translate.state.say(words)
    translate.state.setSelection(0, len(words) + 60)
    QTest.keyClick(translate.state, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QApplication.clipboard().text() == words


@pytest.mark.parametrize("name", ["Train", "Translate"])
def test_no_button_is_cut_off_in_a_large_font(viewer: Any, name: str) -> None:
    from qtpy.QtWidgets import QApplication, QPushButton

    widget = viewer.window.add_plugin_dock_widget("napari-pix2pix", name)[1]
    before = widget.minimumSizeHint().width()
    assert before == {"Train": 380, "Translate": 330}[name]
    widget.setStyleSheet("* {font-size: 17pt}")
    QApplication.processEvents()
    lay_out(widget, widget.minimumSizeHint().width())
    assert widget.minimumWidth() == 0  # which would be in the place of the hint
    shown = [button for button in widget.findChildren(QPushButton) if button.isVisibleTo(widget)]
    assert len(shown) > 3
    assert [button.text() for button in shown if button.width() < button.minimumSizeHint().width()] == []


@pytest.mark.parametrize("language", ["en_US", "de_DE"])
def test_a_comma_and_a_point_are_the_decimal_point(viewer: Any, language: str) -> None:
    from qtpy.QtCore import QLocale, Qt
    from qtpy.QtTest import QTest

    form = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Train")[1].settings
    weight, whole = form.form.native("learning_rate"), form.form.native("patience")
    for field, expected in ((form.length, 1.5), (weight, 1.5), (form.z_context, 15), (whole, 15)):
        field.setLocale(QLocale(language))
        field.setMaximum(10**6)
        for typed in ("1,5", "1.5"):
            field.selectAll()
            QTest.keyClicks(field, typed)
            seen = field.text()
            QTest.keyClick(field, Qt.Key.Key_Return)
            assert field.value() == expected, typed
            assert field.locale().toDouble(seen.removesuffix(field.suffix()))[0] == expected, "it is seen while typed"


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_row_that_keys_act_on_is_seen_in_the_theme(viewer: Any, train: Any, theme: str) -> None:
    from qtpy.QtGui import QImage, QPainter
    from qtpy.QtWidgets import QApplication, QStyle, QStyleOptionViewItem

    viewer.theme = "dark" if theme == "light" else "light"
    viewer.theme = theme
    QApplication.processEvents()
    ticks = train.images.source.list
    ticks.grab()
    option = QStyleOptionViewItem()
    ticks.initViewItemOption(option)
    option.rect = ticks.visualItemRect(ticks.item(0))
    option.state |= QStyle.StateFlag.State_HasFocus
    picture = QImage(option.rect.size(), QImage.Format.Format_RGB32)
    behind = ticks.grab().toImage().pixelColor(ticks.width() // 2, ticks.height() - 6)
    picture.fill(behind)
    option.rect.moveTo(0, 0)
    painter = QPainter(picture)
    ticks.itemDelegate().paint(painter, option, ticks.model().index(0, 0))
    painter.end()
    right = picture.width() - 1
    edge = {picture.pixelColor(right, y).name() for y in range(picture.height())}
    assert len(edge) == 1
    assert contrast(parsed(edge.pop()), parsed(behind.name())) >= LEAST_CONTRAST


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_tab_key_reaches_the_links_to_help_and_that_is_seen(viewer: Any, translate: Any, theme: str) -> None:
    from qtpy.QtCore import QEvent, Qt
    from qtpy.QtGui import QFocusEvent
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    from napari_pix2pix._widgets import messages

    viewer.theme = theme
    QApplication.processEvents()
    links, opened = translate.findChild(messages.HelpLinks), list[str]()
    assert links.focusPolicy().value & Qt.FocusPolicy.TabFocus.value
    links.linkActivated.disconnect()
    links.linkActivated.connect(opened.append)
    plain = links.grab().toImage()
    QApplication.sendEvent(links, QFocusEvent(QEvent.Type.FocusIn, Qt.FocusReason.TabFocusReason))
    assert links.selectedText() == "Documentation"
    assert links.grab().toImage() != plain
    QTest.keyClick(links, Qt.Key.Key_Return)
    assert opened == ["documentation"]
    behind = messages.background_of(links)
    (colour,) = re.findall("focus.*solid (#[0-9a-f]{6})", links.styleSheet())
    assert contrast(parsed(colour), behind) >= LEAST_CONTRAST


def test_paths_that_no_disk_takes_are_said_in_words(
    train: Any, translate: Any, tmp_path: Path, wait_until: WaitUntil
) -> None:
    path = tmp_path / ("n" * 300)
    translate.set_model(path)
    assert "does not exist" in translate.model.words.text()
    translate.kind.choose("folder")
    translate.folder.folder.set_path(path)
    wait_until(lambda: translate.folder.message.text() == f"{path} is not a folder.")
    train.images.kind.choose("folders")
    train.images.source_folder.set_path(path)
    train.images.target_folder.set_path(path)
    assert train.images.message.text() == f"{path} is not a folder."


def test_hundreds_of_lines_are_copied_in_full_and_shown_in_part(viewer: Any, translate: Any) -> None:
    """Five hundred images that failed were as many red lines, and the button above them was far away."""
    from qtpy.QtWidgets import QApplication, QLabel

    message = translate.state
    words = "\n".join(f"{number}.tif: cannot be opened" for number in range(500))
    message.say(words, "error")
    lines = QLabel.text(message).replace("\N{ZERO WIDTH SPACE}", "").split("\n")
    assert lines == [*words.split("\n")[:20], "… and 480 more: right-click, Copy, has all"]
    message._copy()
    assert QApplication.clipboard().text() == message.text() == words
