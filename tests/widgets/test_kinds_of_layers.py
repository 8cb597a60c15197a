"""Every kind of layer that people have: the right layer comes out, or words; translated, trained on, saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_pix2pix import load_model, translate_array
from napari_pix2pix.formats import open_image
from pix2pix_training.array_source import whole_plane
from pix2pix_training.model_file import save_model
from tests.product.conftest import model_for
from tests.widgets.conftest import WaitUntil

Run = Callable[[Path, list[Any]], list[Any]]
Save = Callable[[str], Path]


@pytest.fixture
def two_channel_model(tmp_path: Path) -> Path:
    """Two channels in, two out, 8 bits."""
    path = tmp_path / "two" / "model.safetensors"
    path.parent.mkdir()
    save_model(model_for(2, 2), path)
    return path


@pytest.fixture
def save(translate: Any, tmp_path: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch) -> Save:
    """Save the last result under a name, or under the proposed one for an empty name; the file."""
    from napari_pix2pix._widgets import translate_widget

    def saved(name: str) -> Path:
        folder = tmp_path / "saved"
        folder.mkdir(exist_ok=True)
        monkeypatch.setattr(
            translate_widget, "ask_image", lambda _, proposed: str(folder / (name or Path(proposed).name))
        )
        translate.save_button.click()
        wait_until(lambda: not translate.is_running)
        assert translate.state.text().startswith("saved as "), translate.state.text()
        return Path(translate.state.text().removeprefix("saved as ").split(", with ")[0])

    return saved


def assert_same_world(output: Any, source: Any, kept: list[int], shape: tuple[int, ...]) -> None:
    """Each corner of `output` lies where the same pixel of `source` lies, along the axes that it has `kept`."""
    for corner in (np.zeros(len(shape)), np.array(shape) - 1, np.eye(len(shape))[-1], np.eye(len(shape))[-2]):
        full = np.zeros(source.ndim)
        full[kept] = corner
        np.testing.assert_allclose(output.data_to_world(corner), np.array(source.data_to_world(full))[kept], atol=1e-9)
    assert output.units == tuple(source.units[axis] for axis in kept)
    assert output.axis_labels == tuple(source.axis_labels[axis] for axis in kept)


def test_cyx_with_a_labelled_channel_axis(
    viewer: Any, run: Run, two_channel_model: Path, rng: np.random.Generator
) -> None:
    image = rng.integers(0, 256, (2, 40, 48), np.uint8)
    place: dict[str, Any] = {"scale": (1, 0.5, 0.25), "translate": (7, 3, -2), "units": ("pixel", "um", "um")}
    source = viewer.add_image(image, name="cells", axis_labels=("c", "y", "x"), **place)
    outputs = run(two_channel_model, [source])
    expected = translate_array(image, load_model(two_channel_model))
    assert [output.name for output in outputs] == ["cells → two: channel 0", "cells → two: channel 1"]
    for output, channel in zip(outputs, expected, strict=True):
        np.testing.assert_array_equal(output.data, channel)
        assert_same_world(output, source, [1, 2], (40, 48))


def test_cyx_with_a_rotated_sheared_place(
    viewer: Any, run: Run, two_channel_model: Path, rng: np.random.Generator
) -> None:
    affine = np.array([[1, 0, 0, 5], [0, 1.2, 0.1, 6], [0, -0.2, 0.9, 7], [0, 0, 0, 1.0]])
    turn = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    source = viewer.add_image(
        rng.integers(0, 256, (2, 40, 48), np.uint8),
        axis_labels=("channel", "y", "x"),
        scale=(3, 0.5, 0.25),
        translate=(1, 2, 3),
        rotate=turn,
        shear=(0, 0, 0.3),
        affine=affine,
    )
    for output in run(two_channel_model, [source]):
        assert_same_world(output, source, [1, 2], (40, 48))


def test_cyx_whose_channel_axis_is_chosen(
    viewer: Any, translate: Any, run: Run, wait_until: WaitUntil, two_channel_model: Path, rng: np.random.Generator
) -> None:
    image = rng.integers(0, 256, (2, 40, 48), np.uint8)
    source = viewer.add_image(image, name="cells", scale=(1, 0.5, 0.5))
    translate.set_model(two_channel_model)
    wait_until(lambda: "expects 2" in translate.fit.text())
    assert "choose its axis of 2" in translate.fit.text()
    translate.picker.axis.choose(0)
    translate.picker.choose([source])
    assert translate.picker.channel_axis == 0
    outputs = run(two_channel_model, [source])
    expected = translate_array(image, load_model(two_channel_model))
    np.testing.assert_array_equal(np.stack([output.data for output in outputs]), expected)
    for output in outputs:
        assert_same_world(output, source, [1, 2], (40, 48))


@pytest.mark.parametrize("labels", [("t", "c", "z", "y", "x"), None], ids=["labelled", "chosen"])
def test_tczyx(
    viewer: Any,
    translate: Any,
    run: Run,
    two_channel_model: Path,
    rng: np.random.Generator,
    labels: tuple[str, ...] | None,
) -> None:
    image = rng.integers(0, 256, (2, 2, 3, 40, 48), np.uint8)
    kwargs: dict[str, Any] = {} if labels is None else {"axis_labels": labels}
    source = viewer.add_image(image, scale=(30, 1, 2, 0.5, 0.25), translate=(5, 6, 7, 8, 9), **kwargs)
    translate.picker.choose([source])
    translate.picker.axis.choose(1)
    outputs = run(two_channel_model, [source])
    model = load_model(two_channel_model)
    expected = np.stack([[translate_array(image[t, :, z], model) for z in range(3)] for t in range(2)])
    for number, output in enumerate(outputs):
        np.testing.assert_array_equal(output.data, expected[:, :, number])
        assert_same_world(output, source, [0, 2, 3, 4], (2, 3, 40, 48))


@pytest.mark.parametrize("kind", ["multiscale", "dask", "zarr"])
def test_cyx_multiscale_or_lazy(
    viewer: Any, run: Run, two_channel_model: Path, rng: np.random.Generator, kind: str
) -> None:
    image = rng.integers(0, 256, (2, 64, 64), np.uint8)
    data: Any = [image, image[:, ::2, ::2]]
    if kind == "dask":
        data = pytest.importorskip("dask.array").from_array(image, chunks=(1, 32, 32))
    if kind == "zarr":
        data = pytest.importorskip("zarr").array(image, chunks=(1, 32, 32))
    source = viewer.add_image(data, multiscale=kind == "multiscale", axis_labels=("c", "y", "x"), scale=(1, 0.5, 0.5))
    outputs = run(two_channel_model, [source])
    expected = translate_array(image, load_model(two_channel_model))
    np.testing.assert_array_equal(np.stack([output.data for output in outputs]), expected)
    for output in outputs:
        assert_same_world(output, source, [1, 2], (64, 64))


def test_another_layer_has_its_own_channel_axis(viewer: Any, translate: Any) -> None:
    channels = viewer.add_image(np.zeros((2, 40, 48), np.uint8), axis_labels=("c", "y", "x"))
    stack = viewer.add_image(np.zeros((5, 40, 48), np.uint8), axis_labels=("z", "y", "x"))
    translate.picker.choose([channels])
    assert translate.picker.channel_axis == 0
    translate.picker.choose([stack])
    assert translate.picker.channel_axis is None
    assert "5 planes (Z) of 40 x 48 pixels, 1 channel" in translate.fit.text()
    translate.picker.choose([channels])
    translate.picker.axis.choose(None)
    stack.visible = False
    stack.name = "renamed"
    assert translate.picker.channel_axis is None, "the user has said that it is none"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_rgb_comes_back_as_one_rgb_layer(
    viewer: Any, run: Run, save: Save, tmp_path: Path, rng: np.random.Generator, dtype: type[Any]
) -> None:
    name = np.dtype(dtype).name
    save_model(model_for(3, 3, name, "float32"), tmp_path / "real.safetensors")
    image = rng.random((40, 48, 3)).astype(dtype)
    source = viewer.add_image(image, rgb=True, scale=(0.5, 0.5))
    (output,) = run(tmp_path / "real.safetensors", [source])
    assert output.rgb
    expected = translate_array(np.moveaxis(image, -1, 0), load_model(tmp_path / "real.safetensors"))
    np.testing.assert_array_equal(output.data, np.moveaxis(expected, 0, -1))
    with open_image(save("colours.ome.tif")) as saved:
        assert saved.metadata.rgb
        np.testing.assert_array_equal(saved.read(whole_plane(saved)), expected)


def test_reals_far_beyond_colours_are_channels(viewer: Any, run: Run, tmp_path: Path) -> None:
    from dataclasses import replace

    from pix2pix_training.intensity import LinearMapping

    model = model_for(1, 3, "uint8", "float32")
    mapping = LinearMapping(dtype="float32", scope="training-set", channels=3, low=(0.0,) * 3, high=(900.0,) * 3)
    save_model(replace(model, target=replace(model.target, mapping=mapping)), tmp_path / "m.safetensors")
    source = viewer.add_image(np.arange(40 * 48, dtype=np.uint8).reshape(40, 48))
    assert [output.rgb for output in run(tmp_path / "m.safetensors", [source])] == [False] * 3


def geotiff(path: Path, pixels: np.ndarray[Any, Any], **options: Any) -> dict[str, Any]:
    """Write pixels (bands, Y, X) with rasterio in UTM, 2 m per pixel; what a GIS says of the file."""
    rasterio = pytest.importorskip("rasterio")
    bands, height, width = pixels.shape
    place = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(5e5, 4.2e6, 2, 2)}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=bands, dtype=pixels.dtype, **place, **options
    ) as file:
        file.write(pixels)
    return place


def test_geotiff_layer_keeps_crs_transform_nodata_and_pixel_size(
    viewer: Any, translate: Any, run: Run, save: Save, grey_model: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    rasterio = pytest.importorskip("rasterio")
    pixels = rng.integers(1, 256, (1, 60, 70), np.uint8)
    pixels[:, :20] = 0
    place = geotiff(tmp_path / "field.tif", pixels, nodata=0)
    viewer.open(str(tmp_path / "field.tif"), plugin="napari")
    (source,) = viewer.layers
    translate.picker.choose([source])
    assert translate.fit.text() == "60 x 70 pixels, 1 channel, uint8; EPSG:32633; pixels of 0 hold no data"
    train = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Train")[1]
    train.choose_layers([source], [viewer.add_image(pixels[0])])
    said = "Source: 60 x 70 pixels, 1 channel, uint8, 2\N{NO-BREAK SPACE}m; EPSG:32633; pixels of 0 hold no data."
    assert said in train.images.message.text()
    (output,) = run(grey_model, [source])
    expected = translate_array(pixels, load_model(grey_model), nodata=0)[0]
    np.testing.assert_array_equal(output.data, expected)
    path = save("")
    assert path.name == "field-grey.tif"
    assert translate.state.text() == f"saved as {path}, with EPSG:32633"
    with rasterio.open(path) as saved:
        assert (saved.crs.to_string(), saved.transform, saved.nodata) == (place["crs"], place["transform"], 0)
        np.testing.assert_array_equal(saved.read(1), expected)
        assert (saved.dataset_mask() == 0)[:20].all()
    with open_image(path) as saved_again:
        assert (saved_again.metadata.pixel_size, saved_again.metadata.unit) == ((2, 2), "m")


@pytest.mark.parametrize("moved", [0, 20])
def test_geotiff_layers_at_other_places_on_the_earth_are_told_of(
    viewer: Any, tmp_path: Path, rng: np.random.Generator, moved: int
) -> None:
    """Napari's own reader puts them upon each other, wherever they lie."""
    rasterio = pytest.importorskip("rasterio")
    for name, shift in (("photo", 0), ("map", moved)):
        geotiff(tmp_path / f"{name}.tif", rng.integers(1, 256, (1, 300, 300), np.uint8))
        with rasterio.open(tmp_path / f"{name}.tif", "r+") as file:
            file.transform = rasterio.transform.from_origin(5e5 + shift, 4.2e6, 2, 2)
        viewer.open(str(tmp_path / f"{name}.tif"), plugin="napari")
    photo, drawn = viewer.layers
    train = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Train")[1]
    assert train.images.target.layers == ([] if moved else [drawn])  # as first choice
    train.choose_layers([photo], [drawn])
    assert ("map and photo lie at different places on the Earth" in train.images.message.text()) == bool(moved)


def test_a_part_of_a_geotiff_layer_lies_where_it_was(
    viewer: Any, translate: Any, run: Run, save: Save, grey_model: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    rasterio = pytest.importorskip("rasterio")
    place = geotiff(tmp_path / "field.tif", rng.integers(1, 256, (1, 96, 96), np.uint8))
    viewer.open(str(tmp_path / "field.tif"), plugin="napari")
    (source,) = viewer.layers
    source.corner_pixels = np.array([[8, 16], [55, 79]])
    translate.part.kind.choose("view")
    run(grey_model, [source])
    with rasterio.open(save("part.tif")) as saved:
        assert (saved.height, saved.width) == (48, 64)
        assert saved.xy(0, 0) == rasterio.transform.xy(place["transform"], 8, 16)


def test_a_result_of_a_result_keeps_the_place_on_the_earth(
    viewer: Any, run: Run, save: Save, grey_model: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    rasterio = pytest.importorskip("rasterio")
    place = geotiff(tmp_path / "field.tif", rng.integers(1, 256, (1, 40, 48), np.uint8))
    viewer.open(str(tmp_path / "field.tif"), plugin="napari")
    (first,) = run(grey_model, [viewer.layers[0]])
    run(grey_model, [first])
    with rasterio.open(save("twice.tif")) as saved:
        assert (saved.crs.to_string(), saved.transform) == (place["crs"], place["transform"])


def test_pixels_that_are_not_of_the_file_have_no_place_of_it(
    viewer: Any, run: Run, save: Save, grey_model: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    rasterio = pytest.importorskip("rasterio")
    geotiff(tmp_path / "field.tif", rng.integers(1, 256, (1, 40, 48), np.uint8))
    viewer.open(str(tmp_path / "field.tif"), plugin="napari")
    (source,) = viewer.layers
    source.data = source.data[:32, :40]
    run(grey_model, [source])
    with rasterio.open(save("cut.tif")) as saved:
        assert saved.crs is None


@pytest.mark.parametrize(
    ("shape", "units", "labels"),
    [
        ((3, 40, 48), ("um", "um", "um"), None),
        ((3, 40, 48), ("nm", "um", "um"), ("z", "y", "x")),
        ((2, 3, 40, 48), ("s", "um", "um", "um"), None),
        ((2, 3, 40, 48), ("minute", "um", "um", "um"), ("t", "z", "y", "x")),
        ((2, 40, 48), ("s", "um", "um"), None),
    ],
    ids=["z", "z-in-nm", "tz", "tz-in-minutes", "t"],
)
@pytest.mark.parametrize("ending", [".ome.tif", ".ome.zarr"])
def test_z_spacing_and_time_step_of_unlabelled_axes_are_saved(
    viewer: Any,
    translate: Any,
    run: Run,
    save: Save,
    grey_model: Path,
    rng: np.random.Generator,
    shape: tuple[int, ...],
    units: tuple[str, ...],
    labels: tuple[str, ...] | None,
    ending: str,
) -> None:
    scale = {"um": 0.5, "nm": 2000, "s": 30, "minute": 2}
    kwargs: dict[str, Any] = {} if labels is None else {"axis_labels": labels}
    own = [scale[unit] for unit in units]
    if len(units) > 2 and units[-3] == "um":
        own[-3] = 2
    source = viewer.add_image(rng.integers(0, 256, shape, np.uint8), name="stack", scale=own, units=units, **kwargs)
    run(grey_model, [source])
    with open_image(save(f"saved{ending}")) as saved:
        metadata = saved.metadata
        assert saved.shape == (*shape[:-2], 1, *shape[-2:])
        assert metadata.pixel_size == pytest.approx((0.5, 0.5))
        assert metadata.unit == "µm"
        assert metadata.z_spacing == (None if units[-3] == "s" else pytest.approx(2))
        assert metadata.time_step_s == {"s": 30, "minute": 120}.get(units[0])


def test_proposed_name_of_a_result_names_image_model_and_all_channels(
    viewer: Any, translate: Any, run: Run, save: Save, two_channel_model: Path, rng: np.random.Generator
) -> None:
    from dataclasses import replace

    model = load_model(two_channel_model)
    target = replace(model.target, channel_names=("nuclei", "cell body"))
    save_model(replace(model, target=target), two_channel_model)
    layers = [viewer.add_image(rng.integers(0, 256, (40, 48), np.uint8), name=name) for name in ("phase", "dic/2")]
    outputs = run(two_channel_model, layers)
    assert [output.name for output in outputs] == ["phase + dic/2 → two: nuclei", "phase + dic/2 → two: cell body"]
    assert save("").name == "phase-+-dic-2-two-nuclei-cell-body.ome.tif"


@pytest.mark.parametrize(("ending", "kind"), [(".tif", "GeoTIFF"), (".ome.tif", "OME-TIFF"), (".png", "PNG")])
def test_the_dialog_offers_first_the_type_of_the_proposed_name(
    translate: Any, monkeypatch: pytest.MonkeyPatch, ending: str, kind: str
) -> None:
    from qtpy.QtWidgets import QFileDialog

    from napari_pix2pix._widgets import forms

    shown: list[str] = []

    def ask(_: Any, __: str, proposed: str, kinds: str) -> tuple[str, str]:
        shown.append(kinds)
        return proposed, ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", ask)
    assert forms.ask_image(translate, f"field{ending}") == f"field{ending}"
    assert shown[0].startswith(kind)
    assert shown[0].count(";;") == 3


@pytest.mark.parametrize("opened_by", ["napari", "this plugin"])
def test_result_is_proposed_beside_the_file_of_its_source_and_does_not_replace_it(
    viewer: Any,
    translate: Any,
    run: Run,
    wait_until: WaitUntil,
    grey_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    opened_by: str,
) -> None:
    from napari_pix2pix._widgets import translate_widget
    from napari_pix2pix._widgets.layer_files import add_file

    (tmp_path / "data").mkdir()
    image = tmp_path / "data" / "cells.tif"
    tifffile.imwrite(image, np.zeros((40, 48), np.uint8))
    if opened_by == "napari":
        viewer.open(str(image), plugin="napari")
    else:
        add_file(viewer, image)
    run(grey_model, [viewer.layers[0]])
    asked: list[str] = []

    def ask(_: Any, proposed: str) -> str:
        asked.append(proposed)
        return str(tmp_path / "data" / ".." / "data" / "cells.tif")

    monkeypatch.setattr(translate_widget, "ask_image", ask)
    before = image.read_bytes()
    translate.save_button.click()
    wait_until(lambda: not translate.is_running)
    assert asked == [str(tmp_path / "data" / "cells-grey.ome.tif")]
    assert "would take the place of the image that it was made of" in translate.state.text()
    assert (translate.state.kind, image.read_bytes()) == ("error", before)
    monkeypatch.setattr(translate_widget, "ask_image", lambda *_: str(tmp_path / "cells.jpg"))
    translate.save_button.click()
    wait_until(lambda: not translate.is_running)
    assert "JPEG changes values a little" in translate.remarks.text()


def test_transparent_pixels_of_an_rgba_layer_are_no_data(
    viewer: Any, translate: Any, run: Run, save: Save, rgb_model: Path, rng: np.random.Generator
) -> None:
    image = rng.integers(0, 256, (40, 48, 4), np.uint8)
    image[..., 3] = 255
    image[:10, :, 3] = 0
    source = viewer.add_image(image, rgb=True)
    (output,) = run(rgb_model, [source])
    assert output.rgb
    assert output.data.shape == (40, 48, 4)
    np.testing.assert_array_equal(output.data[..., 3], image[..., 3])
    (again,) = run(rgb_model, [viewer.add_image(np.where(image[..., 3:] == 0, 99, image), rgb=True)])
    assert not np.array_equal(again.data[10:14], output.data[10:14]), "99 was taken for data, as it is opaque"
    changed = image.copy()
    changed[:10, :, :3] = 7
    (same,) = run(rgb_model, [viewer.add_image(changed, rgb=True)])
    np.testing.assert_array_equal(same.data[10:], output.data[10:])
    with open_image(save("colours.png")) as saved:
        _, opacity = saved.read_with_opacity(whole_plane(saved))
        np.testing.assert_array_equal(opacity, image[..., 3])


def test_a_fourth_channel_that_napari_takes_for_alpha(
    viewer: Any, translate: Any, run: Run, tmp_path: Path, wait_until: WaitUntil, rng: np.random.Generator
) -> None:
    save_model(model_for(4, 1), tmp_path / "four.safetensors")
    image = rng.integers(0, 256, (40, 48, 4), np.uint8)
    source = viewer.add_image(image, rgb=True, name="rgb and infrared")
    translate.set_model(tmp_path / "four.safetensors")
    wait_until(lambda: "has 3 channels" in translate.fit.text())
    translate.picker.axis.choose(2)
    (output,) = run(tmp_path / "four.safetensors", [source])
    expected = translate_array(np.moveaxis(image, -1, 0), load_model(tmp_path / "four.safetensors"))
    np.testing.assert_array_equal(output.data, expected[0])
    assert_same_world(output, source, [0, 1], (40, 48))


def test_scale_without_a_unit_and_place_are_kept_in_an_ome_zarr(
    viewer: Any, translate: Any, run: Run, save: Save, grey_model: Path, rng: np.random.Generator
) -> None:
    import zarr

    source = viewer.add_image(
        rng.integers(0, 256, (2, 4, 40, 48), np.uint8), scale=(30, 2, 0.5, 0.25), translate=(0, 10, 20, 30)
    )
    viewer.dims.set_current_step(0, 1)
    translate.picker.choose([source])
    translate.part.kind.choose("range")
    translate.part.first.setValue(1)
    run(grey_model, [source])
    attributes: Any = zarr.open_group(save("stack.ome.zarr"), mode="r").attrs["ome"]
    multiscale = attributes["multiscales"][0]
    placed = {entry["type"]: entry[entry["type"]] for entry in multiscale["datasets"][0]["coordinateTransformations"]}
    letters = [axis["name"] for axis in multiscale["axes"]]
    assert [(letter, placed["scale"][letters.index(letter)]) for letter in "tzyx"] == [
        ("t", 30),
        ("z", 2),
        ("y", 0.5),
        ("x", 0.25),
    ]
    assert [placed["translation"][letters.index(letter)] for letter in "tzyx"] == [30, 10, 20, 30]
    assert not any("unit" in axis for axis in multiscale["axes"])


@pytest.mark.parametrize("ending", [".ome.tif", ".ome.zarr"])
def test_time_step_without_a_unit_is_taken_for_seconds_and_said(
    viewer: Any, translate: Any, run: Run, save: Save, grey_model: Path, rng: np.random.Generator, ending: str
) -> None:
    labels = ("time", "y", "x")
    source = viewer.add_image(rng.integers(0, 256, (2, 40, 48), np.uint8), scale=(30, 1, 1), axis_labels=labels)
    run(grey_model, [source])
    assert f"{source.name}: the scale 30 of axis time is taken for seconds." in translate.fit.text()
    with open_image(save(f"saved{ending}")) as saved:
        assert saved.metadata.time_step_s == 30


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        ((1, 2, 0.5, 0.5), "2 without a unit along z"),
        ((30, 1, 1, 1), "30 without a unit along t"),
        ((1, 1, 1, 1), ""),
    ],
)
def test_scale_without_a_unit_is_said_where_the_file_loses_it(
    viewer: Any,
    translate: Any,
    run: Run,
    save: Save,
    grey_model: Path,
    rng: np.random.Generator,
    scale: tuple[float, ...],
    said: str,
) -> None:
    run(grey_model, [viewer.add_image(rng.integers(0, 256, (2, 3, 40, 48), np.uint8), scale=scale)])
    path = save("stack.ome.tif")
    if not said:
        assert translate.remarks.lines == ()
        return
    (line,) = translate.remarks.lines
    assert line.startswith(f"{path}: a file of the format ome-tiff does not say how far apart its pixels are (")
    assert said in line


@pytest.mark.parametrize("labels", [("y", "x", "c"), None], ids=["labelled", "unlabelled"])
def test_channels_behind_rows_and_columns_are_said(
    viewer: Any, translate: Any, wait_until: WaitUntil, grey_model: Path, labels: tuple[str, ...] | None
) -> None:
    kwargs: dict[str, Any] = {} if labels is None else {"axis_labels": labels}
    viewer.add_image(np.zeros((40, 48, 5), np.uint8), name="five", rgb=False, **kwargs)
    translate.set_model(grey_model)
    wait_until(lambda: translate.model.card is not None)
    said = "axis c lies among rows and columns" if labels else "rows have 5 pixels only. If these are channels"
    wait_until(lambda: f"five: {said}" in translate.fit.text())
    assert "np.moveaxis(layer.data, -1, 0)" in translate.fit.text()
    assert translate.translate_button.isEnabled() == (labels is None)
    train = viewer.window.add_plugin_dock_widget("napari-pix2pix", "Train")[1]
    viewer.add_image(np.zeros((40, 48, 5), np.uint8), rgb=False, **kwargs)
    assert f"five: {said}" in train.images.message.text()
    assert not train.train_button.isEnabled()


def test_what_a_file_cannot_say_of_a_result_is_said_in_the_form(
    viewer: Any, translate: Any, run: Run, save: Save, grey_model: Path, rng: np.random.Generator
) -> None:
    source = viewer.add_image(
        rng.integers(0, 256, (40, 48), np.uint8), scale=(0.5, 0.5), units=("um", "um"), translate=(20, 30)
    )
    run(grey_model, [source])
    assert translate.remarks.lines == ()
    path = save("cells.ome.tif")
    assert translate.remarks.lines == (
        f"{path}: a file of the format ome-tiff does not say where the first pixel lies",
    )


def test_result_of_several_channels_covers_what_is_below_it(
    viewer: Any, run: Run, two_channel_model: Path, rng: np.random.Generator
) -> None:
    images = rng.integers(0, 256, (2, 40, 48), np.uint8)
    sources = [viewer.add_image(image, blending="additive", colormap="red") for image in images]
    first, second = run(two_channel_model, sources)
    assert (first.blending, second.blending) == ("translucent", "additive")
    assert list(viewer.layers)[-2:] == [first, second]
    np.testing.assert_array_equal(first.colormap.colors[0], (0, 0, 0, 1))  # opaque where it is black


def test_files_of_the_copied_command_hold_what_the_layers_hold(
    viewer: Any, translate: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    """A layer that is one of the channels of its file, or has other pixels now, is to be saved first."""
    image = rng.integers(0, 256, (2, 40, 48), np.uint8)
    tifffile.imwrite(tmp_path / "two.tif", image, metadata={"axes": "CYX"})
    tifffile.imwrite(tmp_path / "one.tif", image[0])
    (one,) = viewer.open(str(tmp_path / "one.tif"), plugin="napari")
    (both,) = viewer.open(str(tmp_path / "two.tif"), plugin="napari")
    split = viewer.open(str(tmp_path / "two.tif"), plugin="napari", channel_axis=0)
    cut = viewer.open(str(tmp_path / "one.tif"), plugin="napari")[0]
    cut.data = cut.data[:32]
    expected: list[tuple[list[Any], int | None, list[tuple[Path, bool]]]] = [
        ([one], None, [(tmp_path / "one.tif", True)]),
        ([both], 0, [(tmp_path / "two.tif", True)]),
        (split, None, [(Path("two-1.tif"), False), (Path("two-2.tif"), False)]),
        ([cut], None, [(Path("cut.tif"), False)]),
    ]
    split[0].name, split[1].name, cut.name = "two [1]", "two [2]", "cut"
    for layers, axis, files in expected:
        translate.picker.choose(layers)
        translate.picker.axis.choose(axis)
        assert translate.picker.files() == files


def test_the_copied_command_says_what_alpha_is(
    viewer: Any, translate: Any, wait_until: WaitUntil, rgb_model: Path, rng: np.random.Generator
) -> None:
    from qtpy.QtWidgets import QApplication

    viewer.add_image(rng.integers(0, 256, (40, 48, 4), np.uint8), rgb=True)
    translate.set_model(rgb_model)
    wait_until(translate.copy_button.isEnabled)
    translate.copy_button.click()
    assert QApplication.clipboard().text().endswith(" --alpha mask")
    translate.settings.channels.setText("2, 1, 3")
    translate.picker.axis.choose(2)
    translate.copy_button.click()
    assert QApplication.clipboard().text().endswith(" --alpha keep --channels 2,1,3")
