"""Images of another type, range or order of channels than the model's: refused, converted on purpose, or said."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_pix2pix.cli.application import run
from napari_pix2pix.formats import open_image
from napari_pix2pix.formats.metadata import ImageMetadata
from napari_pix2pix.formats.output_state import Part
from napari_pix2pix.translation.fitted_image import own_shares
from napari_pix2pix.translation.image_fit import fit_of
from napari_pix2pix.translation.pipeline import translate_array, translate_file
from napari_pix2pix.translation.settings import TranslationSettings, ValueConversion
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import AnyArray, MemorySource, whole_plane
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.intensity import CategoryMapping
from pix2pix_training.model_file import Model, save_model
from tests.identity_model import identity_model


def _noise(dtype: str, low: float, high: float, channels: int = 1, size: tuple[int, int] = (40, 50)) -> AnyArray:
    values: AnyArray = np.random.default_rng(0).uniform(low, high, (channels, *size)).astype(dtype)
    return values


def _ome(path: Path, image: AnyArray, names: list[str]) -> Path:
    tifffile.imwrite(path, image, metadata={"axes": "CYX", "Channel": {"Name": names}}, photometric="minisblack")
    return path


def _read(path: Path) -> AnyArray:
    with open_image(path) as source:
        return source.read(whole_plane(source))


DIFFERENT_TYPES = [
    ("uint16", "uint8"),
    ("uint8", "uint16"),
    ("int16", "uint16"),
    ("float32", "uint8"),
    ("uint8", "float32"),
    ("bool", "uint8"),
    ("uint8", "bool"),
    ("int8", "uint8"),
    ("uint32", "uint16"),
    ("uint64", "uint8"),
]


@pytest.mark.parametrize(("own", "trained"), DIFFERENT_TYPES)
def test_an_image_of_another_type_is_refused_in_words(own: str, trained: str) -> None:
    with pytest.raises(
        ImageError, match=f"array has {own} pixels, the model was trained on {trained};.*convert_values"
    ):
        translate_array(_noise(own, 0, 2), identity_model(trained))


@pytest.mark.parametrize(("own", "trained"), [("float64", "float32"), ("float16", "float32"), (">u2", "uint16")])
def test_types_that_differ_in_width_of_reals_or_order_of_bytes_only_are_the_same(own: str, trained: str) -> None:
    image = _noise("float32", 0, 1) if "float" in own else _noise("float32", 0, 65535)
    result = translate_array(image.astype(own), identity_model(trained))
    np.testing.assert_allclose(result, image.astype(own).astype(trained), atol=1e-3)


@pytest.mark.parametrize(
    ("own", "trained", "image_range", "expected_range"),
    [
        ("uint16", "uint8", (0, 65535), (0, 255)),
        ("uint8", "uint16", (0, 255), (0, 65535)),
        ("float32", "uint8", (0, 1), (0, 255)),
        ("uint8", "float32", (0, 255), (0, 1)),
        ("int16", "uint16", (-32768, 32767), (0, 65535)),
        ("int8", "uint8", (-128, 127), (0, 255)),
        ("bool", "uint8", (0, 1), (0, 255)),
    ],
)
def test_the_range_of_one_type_stands_for_that_of_the_other(
    own: str, trained: str, image_range: tuple[int, int], expected_range: tuple[int, int]
) -> None:
    image = np.linspace(*image_range, 2000).reshape(1, 40, 50).round(0 if own != "float32" else 9).astype(own)
    result = translate_array(image, identity_model(trained), TranslationSettings(convert_values="type"))
    expected = np.interp(image.astype(float), image_range, expected_range)
    np.testing.assert_allclose(result, expected, atol=0.51 if trained != "float32" else 1e-5)


@pytest.mark.parametrize(("own", "trained"), [("uint16", "uint8"), ("float32", "uint8"), ("int32", "uint16")])
def test_numbers_are_taken_as_they_are_where_that_is_asked_for(own: str, trained: str) -> None:
    image = _noise("uint8", 0, 255)
    result = translate_array(image.astype(own), identity_model(trained), TranslationSettings(convert_values="values"))
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize("own", ["uint8", "uint16", "float32", "int16"])
def test_an_image_can_be_fitted_to_the_range_of_the_model(own: str) -> None:
    """So can one of the same type whose values lie elsewhere."""
    image = np.linspace(10, 90, 2000).reshape(1, 40, 50).astype(own)
    settings = TranslationSettings(convert_values="image")
    result = translate_array(image, identity_model("uint16", ends=(300, 4000)), settings)
    assert result.min() == 300
    assert result.max() == 4000


def test_twelve_bits_in_sixteen_are_known_from_the_file_or_said(caplog: pytest.LogCaptureFixture) -> None:
    image = np.linspace(0, 4095, 2000).reshape(1, 40, 50).astype(np.uint16)
    settings, model = TranslationSettings(convert_values="type"), identity_model("uint8")
    fit = fit_of(MemorySource(image), model.source, metadata=ImageMetadata(bit_depth=12), settings=settings)
    assert fit.mapping.high == (4095.0,)  # type: ignore[union-attr]
    assert "12 bits" in fit.remarks[0]
    with caplog.at_level(logging.WARNING):
        translate_array(image, model, settings)
    assert "reach only to 4095 of the 65535" in caplog.text
    assert "--convert-values image" in caplog.text


@pytest.mark.parametrize("own", ["uint8", "uint16", "float32", "int16", "bool", "uint64"])
def test_models_with_per_image_ranges_take_any_type(own: str, caplog: pytest.LogCaptureFixture) -> None:
    image = np.linspace(0, 1 if own == "bool" else 100, 2000).reshape(1, 40, 50).astype(own)
    with caplog.at_level(logging.WARNING):
        translate_array(image, identity_model("uint8", scope="image"))
    assert caplog.text == ""


def test_reals_that_are_no_share_have_no_range_of_a_type() -> None:
    model = identity_model("float32", ends=(-3.5, 12.0))
    with pytest.raises(ImageError, match=r"trained on float32 between -3.5 and 12, which is not the range of a type"):
        translate_array(_noise("uint8", 0, 9), model, TranslationSettings(convert_values="type"))


def test_complex_pixels_are_refused_in_words() -> None:
    with pytest.raises(ImageError, match="complex64 are no pixels"):
        translate_array(np.zeros((1, 8, 8), np.complex64), identity_model("float32"))


CLASSES = CategoryMapping(dtype="uint8", values=((0,), (1,), (7,)))


def _class_model() -> Model:
    model = identity_model(channels=3)
    return replace(model, source=replace(model.source, mapping=CLASSES))


@pytest.mark.parametrize("own", ["uint8", "uint16", "int64", "bool"])
def test_integers_of_all_types_are_the_same_categories(own: str) -> None:
    image = np.random.default_rng(0).choice([0, 1] if own == "bool" else [0, 1, 7], (40, 50)).astype(own)
    result = translate_array(image, _class_model())
    np.testing.assert_array_equal(result[1] == 255, image == 1)


def test_reals_are_no_categories_unless_asked_for() -> None:
    image = np.random.default_rng(0).choice([0.0, 1.0, 7.0], (40, 50))
    with pytest.raises(ImageError, match="categories, which are integers"):
        translate_array(image, _class_model())
    result = translate_array(image, _class_model(), TranslationSettings(convert_values="values"))
    np.testing.assert_array_equal(result[2] == 255, image == 7)
    with pytest.raises(ImageError, match="have no range"):
        translate_array(image, _class_model(), TranslationSettings(convert_values="type"))


def test_pixels_of_no_known_category_are_counted_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = np.zeros((40, 50), np.uint8)
    image[:10] = 255
    tifffile.imwrite(tmp_path / "mask.tif", image)
    with caplog.at_level(logging.WARNING):
        report = translate_file(tmp_path / "mask.tif", _class_model(), tmp_path / "out.tif")
    assert report.clipped_share == (0.25,)
    assert "mask.tif: 25 % of the pixels are of none of the categories" in caplog.text
    image[:] = 0
    image[3, 5] = 255
    tifffile.imwrite(tmp_path / "mask.tif", image)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        translate_file(tmp_path / "mask.tif", _class_model(), tmp_path / "one.tif")
    assert "mask.tif: 0.1 % of the pixels are of none of the categories" in caplog.text


def test_values_beyond_the_range_are_counted_per_channel_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.full((2, 40, 50), 1000, np.uint16)
    image[0, :20] = 9000
    image[0, 20:30] = 1
    image[1, 0, 0] = 9000  # a little is normal
    _ome(tmp_path / "in.ome.tif", image, ["DAPI", "GFP"])
    save_model(
        identity_model("uint16", channels=2, ends=(300, 4000), names=["DAPI", "GFP"]), tmp_path / "m.safetensors"
    )
    arguments = [str(tmp_path / "in.ome.tif"), "--model", str(tmp_path / "m.safetensors"), "--json"]
    assert run(["translate", *arguments, "--out", str(tmp_path / "out.ome.tif")]) == 0
    said = capsys.readouterr()
    result = json.loads(said.out.splitlines()[-1])
    assert result["clipped_share"] == [0.75, 0.0005]
    (warning,) = result["warnings"]
    assert "75 % of the values of channel 0 (DAPI) lie beyond 300 to 4000" in warning
    assert "GFP" not in warning
    assert f"warning: {warning}" in said.err


def test_values_within_the_range_are_not_talked_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tifffile.imwrite(tmp_path / "in.tif", _noise("uint8", 0, 256)[0])
    with caplog.at_level(logging.WARNING):
        report = translate_file(tmp_path / "in.tif", identity_model("uint8"), tmp_path / "out.tif")
    assert report.clipped_share == (0.0,)
    assert caplog.text == ""


def test_invalid_pixels_are_not_values_beyond_the_range(caplog: pytest.LogCaptureFixture) -> None:
    image = _noise("float32", 0, 1)
    image[:, :20] = np.nan
    image[:, 20:30] = 2
    translator = Translator(identity_model("float32"))
    fitted = translator.fit(MemorySource(image))
    with caplog.at_level(logging.WARNING):
        list(translator.tiles(fitted))
    assert fitted.values_seen.clipped_share == (0.5,)
    assert "50 % of the values lie beyond 0 to 1" in caplog.text


def test_neighbouring_planes_do_not_count_twice() -> None:
    stack = np.full((3, 1, 16, 16), 50, np.uint8)
    stack[1] = 250
    model = identity_model(channels=3, ends=(0, 100))
    model = replace(model, source=replace(model.source, z_context=1))
    translator = Translator(model)
    fitted = translator.fit(MemorySource(stack, axes="ZCYX"))
    list(translator.tiles(fitted))
    assert own_shares(fitted, model.source) == pytest.approx((1 / 3,))


NAMED = ["DAPI", "GFP"]


@pytest.mark.parametrize("names", [["GFP", "DAPI"], ["gfp", " dapi "], ["Gfp", "DAPI"]])
def test_channels_in_another_order_are_taken_by_name_and_said(
    names: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = _noise("uint8", 0, 255, 2)
    path = _ome(tmp_path / "in.ome.tif", image, names)
    with caplog.at_level(logging.WARNING):
        translate_file(path, identity_model(channels=2, names=NAMED), tmp_path / "out.ome.tif")
    np.testing.assert_array_equal(_read(tmp_path / "out.ome.tif"), image[::-1])
    assert "in.ome.tif: of its channels" in caplog.text
    assert "the model takes DAPI, GFP, by name" in caplog.text


def test_the_channels_of_the_model_are_picked_among_more_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = _noise("uint8", 0, 255, 4)
    path = _ome(tmp_path / "in.ome.tif", image, ["Cy5", "GFP", "brightfield", "DAPI"])
    with caplog.at_level(logging.WARNING):
        translate_file(path, identity_model(channels=2, names=NAMED), tmp_path / "out.ome.tif")
    np.testing.assert_array_equal(_read(tmp_path / "out.ome.tif"), image[[3, 1]])
    assert "of its channels Cy5, GFP, brightfield, DAPI the model takes DAPI, GFP, by name" in caplog.text


@pytest.mark.parametrize("names", [["GFP", "Cy5"], ["DAPI", "Cy5"], ["DAPI", "DAPI"], ["GFP", "GFP"]])
def test_channels_whose_names_contradict_are_refused(names: list[str], tmp_path: Path) -> None:
    path = _ome(tmp_path / "in.ome.tif", _noise("uint8", 0, 255, 2), names)
    model = identity_model(channels=2, names=NAMED)
    with pytest.raises(ImageError, match=f"are called {', '.join(names)}, those of the model DAPI, GFP; .*channels="):
        translate_file(path, model, tmp_path / "out.ome.tif")
    assert not (tmp_path / "out.ome.tif").exists()


def test_channels_of_quite_other_names_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _ome(tmp_path / "in.ome.tif", _noise("uint8", 0, 255, 2), ["phase", "Cy5"])
    with caplog.at_level(logging.WARNING):
        translate_file(path, identity_model(channels=2, names=NAMED), tmp_path / "out.ome.tif")
    assert "are called phase, Cy5, those of the model DAPI, GFP; they are taken in the order" in caplog.text


@pytest.mark.parametrize("names", [[], ["Channel 0", "Channel 1"], ["C1", "C0"], ["ch 2", "ch 1"], ["DAPI", "gfp"]])
def test_channels_without_names_or_in_order_are_nothing_to_talk_of(
    names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    fit = fit_of(
        MemorySource(_noise("uint8", 0, 255, 2), channel_names=names),
        identity_model(channels=2, names=NAMED).source,
    )
    assert (fit.problem, fit.remarks, fit.channels) == (None, (), (0, 1))


def test_blue_green_red_is_turned_round(tmp_path: Path) -> None:
    image = _noise("uint8", 0, 255, 3)
    path = _ome(tmp_path / "in.ome.tif", image, ["B", "G", "R"])
    translate_file(path, identity_model(channels=3, names=["red", "green", "blue"]), tmp_path / "out.ome.tif")
    np.testing.assert_array_equal(_read(tmp_path / "out.ome.tif"), image[::-1])


def test_channels_can_be_chosen_by_number_against_their_names(tmp_path: Path) -> None:
    image = _noise("uint8", 0, 255, 3)
    path = _ome(tmp_path / "in.ome.tif", image, ["GFP", "Cy5", "other"])
    save_model(identity_model(channels=2, names=NAMED), tmp_path / "m.safetensors")
    arguments = [str(path), "--model", str(tmp_path / "m.safetensors"), "--out", str(tmp_path / "out.ome.tif")]
    assert run(["translate", *arguments, "--channels", "2,0"]) == 0
    np.testing.assert_array_equal(_read(tmp_path / "out.ome.tif"), image[[2, 0]])


@pytest.mark.parametrize(
    ("channels", "message"),
    [((0, 3), "has 3 channels, numbered from 0, and channels 0,3"), ((0,), "1 channel is asked for, and.* expects 2")],
)
def test_chosen_channels_must_be_there_and_as_many_as_the_model_takes(channels: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        translate_array(_noise("uint8", 0, 9, 3), identity_model(channels=2), TranslationSettings(channels=channels))


@pytest.mark.parametrize("channels", [(), (-1,), ("DAPI",), (True,)])
def test_channels_are_numbers(channels: Any) -> None:
    with pytest.raises(SettingsError, match="channels are"):
        TranslationSettings(channels=channels)


def test_files_that_are_channels_go_by_their_names_only_where_all_are_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Names of files differ from image to image as a rule, so they are no reason to complain."""
    image = _noise("uint8", 0, 255, 2)
    model = identity_model(channels=2, names=NAMED)
    for files, expected in (("GFP", "DAPI"), image[::-1]), (("cell1_w1", "cell1_w2"), image):
        paths = [tmp_path / f"{name}.tif" for name in files]
        for path, channel in zip(paths, image, strict=True):
            tifffile.imwrite(path, channel)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            translate_file(paths, model, tmp_path / f"{files[0]}-out.ome.tif")
        np.testing.assert_array_equal(_read(tmp_path / f"{files[0]}-out.ome.tif"), expected)
        assert ("by name" in caplog.text) == (files[0] == "GFP")


def test_indexed_images_are_no_intensities(caplog: pytest.LogCaptureFixture) -> None:
    palette = np.arange(30, dtype=np.uint8).reshape(10, 3)
    fit = fit_of(MemorySource(_noise("uint8", 0, 9), palette=palette), identity_model().source)
    assert "is an indexed image" in fit.remarks[0]
    classes = replace(CLASSES, colors=((0, 1, 2), (3, 4, 5), (99, 99, 99)))
    fit = fit_of(MemorySource(_noise("uint8", 0, 9), palette=palette), replace(_class_model().source, mapping=classes))
    assert "value 7 has the colour (21, 22, 23), in the training images it had (99, 99, 99)" in fit.remarks[0]


def test_channels_that_an_image_has_to_the_eye_and_not_to_the_model_are_told_of(tmp_path: Path) -> None:
    colours = Image.fromarray(_noise("uint8", 0, 255, 3).transpose(1, 2, 0))
    colours.quantize(20).save(tmp_path / "indexed.png")
    colours.putalpha(255)
    colours.save(tmp_path / "opaque.png")
    for name, channels, words in [
        ("indexed.png", 3, "it is an indexed image, whose colours are no channels"),
        ("opaque.png", 4, "its alpha is not counted among them, --alpha keep makes it a channel"),
    ]:
        with open_image(tmp_path / name) as source:
            problem = fit_of(source, identity_model(channels=channels).source, metadata=source.metadata).problem
        assert problem is not None
        assert words in problem
    with open_image(tmp_path / "opaque.png", alpha="keep") as source:
        assert fit_of(source, identity_model(channels=4).source, metadata=source.metadata).problem is None


def test_values_wider_than_float32_can_tell_apart_are_said() -> None:
    fit = fit_of(MemorySource(_noise("uint32", 0, 2**32 - 1)), identity_model("uint32").source)
    assert "steps of about 256" in fit.remarks[0]


@pytest.mark.parametrize("convert", ["nonsense", ""])
def test_conversions_are_known_ones(convert: ValueConversion) -> None:
    with pytest.raises(SettingsError, match="convert_values"):
        TranslationSettings(convert_values=convert)


@pytest.mark.parametrize(
    ("own", "largest", "convert", "said"),
    [
        ("int16", 200, "type", "from 0 to 200, not from -32768 to 32767"),
        ("int64", 200, "type", "from 0 to 200"),
        ("float32", 0.01, "type", "to 0.01 of the 1"),
        ("float32", 1, "values", "to 1 of the 255"),
        ("bool", 1, "values", "to 1 of the 255"),
        ("int16", 20_000, "type", ""),
        ("float32", 1, "type", ""),
        ("float32", 200, "values", ""),
    ],
)
def test_numbers_that_use_little_of_the_range_they_are_taken_for_are_said(
    own: str, largest: float, convert: ValueConversion, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    image = np.linspace(0, largest, 2000).reshape(1, 40, 50).astype(own)
    with caplog.at_level(logging.WARNING):
        translate_array(image, identity_model("uint8"), TranslationSettings(convert_values=convert))
    assert ("its values reach only" in caplog.text) == bool(said)
    assert said in caplog.text


@pytest.mark.parametrize("shards", [1, 2])
def test_regions_together_tell_how_dark_a_file_is(
    tmp_path: Path, shards: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A region alone does not know, nor does a process that made some of them."""
    image = np.linspace(0, 900, 300 * 300).reshape(300, 300).astype(np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", image)
    settings = TranslationSettings(convert_values="type", region=256)
    with caplog.at_level(logging.WARNING):
        for index in range(1, shards + 1):
            part = Part(index, shards)
            translate_file(tmp_path / "in.tif", identity_model("uint8"), tmp_path / "o.ome.zarr", settings, part=part)
    assert "its values reach only to 900 of the 65535" in caplog.text


def test_channels_last_in_a_file_are_told_of_without_an_option_that_files_lack(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "last.tif", np.zeros((20, 24, 2), np.uint8), photometric="minisblack")
    with open_image(tmp_path / "last.tif") as image:
        problem = fit_of(image, identity_model(channels=2).source, metadata=image.metadata).problem
    assert problem is not None
    assert problem.endswith("if its last axis is that of the channels, save it with the channels first")
