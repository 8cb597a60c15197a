"""Which image is the target of which, and every way in which a set of pairs can be wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
import rasterio
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from napari_pix2pix.formats.caching import PixelCache
from napari_pix2pix.formats.image_files import open_images
from napari_pix2pix.formats.pairing import pairs_from_composites, pairs_from_csv, pairs_from_paths
from pix2pix_training.array_source import ArraySource
from pix2pix_training.errors import ImageError, SettingsError
from pix2pix_training.pairs import natural_key

AnyArray = NDArray[Any]
Pixels = Callable[[ArraySource], AnyArray]
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write a small image of one value under a name in the test's folder."""

    def _save(name: str, value: int = 0, *, shape: tuple[int, ...] = (6, 8), dtype: str = "uint8") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        array = np.full(shape, value, dtype)
        if path.suffix == ".tif":
            tifffile.imwrite(path, array, metadata=None)
        else:
            Image.fromarray(array).save(path)
        return path

    return _save


def _indexed(path: Path, colours: Sequence[tuple[int, int, int]]) -> None:
    path.parent.mkdir(exist_ok=True)
    image = Image.new("P", (8, 6))
    image.putpalette([value for colour in colours for value in colour])
    image.save(path)


def test_one_file_with_another(save: Save, pixels_of: Pixels) -> None:
    (pair,) = pairs_from_paths([save("phase.png", 3)], [save("dapi.tif", 7, dtype="uint16")])
    assert pair.name == "phase"
    assert (pixels_of(pair.source) == 3).all()
    assert (pixels_of(pair.target) == 7).all()
    assert pair.target.dtype == np.uint16


def test_folders_by_stem_in_natural_order(tmp_path: Path, save: Save, pixels_of: Pixels) -> None:
    numbers = [1, 2, 9, 10, 11, 100]
    for number in random.Random(0).sample(numbers, len(numbers)):
        save(f"a/tile{number}.png", number)
        save(f"b/tile{number}.ome.tif", number + 1)
    pairs = pairs_from_paths([tmp_path / "a"], [tmp_path / "b"])
    assert [pair.name for pair in pairs] == [f"tile{number}" for number in numbers]
    for pair, number in zip(pairs, numbers, strict=True):
        assert (pixels_of(pair.source) == number).all()
        assert (pixels_of(pair.target) == number + 1).all()


def test_other_files_in_a_folder_are_ignored(tmp_path: Path, save: Save) -> None:
    save("a/x.png")
    save("b/x.png")
    (tmp_path / "a" / "notes.txt").write_text("text")
    (tmp_path / "a" / ".x.png").write_bytes(b"resource fork")
    (tmp_path / "b" / "more").mkdir()
    assert len(pairs_from_paths([tmp_path / "a"], [tmp_path / "b"])) == 1


def test_images_in_folders_of_a_folder_are_left_out_with_a_word(
    tmp_path: Path, save: Save, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a/x.png", "b/x.png", "a/day1/y.png", "a/.thumbs/y.png"):
        save(name)
    (tmp_path / "a" / "notes").mkdir()
    assert len(pairs_from_paths([tmp_path / "a"], [tmp_path / "b"])) == 1
    (said,) = {record.getMessage() for record in caplog.records}
    assert said.startswith(f"{tmp_path / 'a'}: images that lie in folders of it (day1) are left out; move them up")
    (tmp_path / "a" / "x.png").unlink()
    with pytest.raises(
        ImageError, match=r"a holds no images \(.*\) itself, but in folders \(day1\); give one of these"
    ):
        pairs_from_paths([tmp_path / "a"], [tmp_path / "b"])


def test_several_sources_are_the_channels_of_one(tmp_path: Path, save: Save, pixels_of: Pixels) -> None:
    for folder, value in (("a", 1), ("b", 2), ("c", 3)):
        save(f"{folder}/x.png", value)
    save("t/x.png", shape=(6, 8, 3))
    (pair,) = pairs_from_paths([tmp_path / "a", tmp_path / "b", tmp_path / "c"], [tmp_path / "t"])
    np.testing.assert_array_equal(pixels_of(pair.source)[:, 0, 0], [1, 2, 3])
    assert pair.target.shape == (3, 6, 8)


def test_channels_are_selected_over_all_files_of_a_side(save: Save, pixels_of: Pixels) -> None:
    sources = [save("a.png", 1), save("b.png", 2), save("c.png", 3)]
    (pair,) = pairs_from_paths(
        sources, [save("t.png", 4, shape=(6, 8, 3))], source_channels=[2, 0], target_channels=[1]
    )
    np.testing.assert_array_equal(pixels_of(pair.source)[:, 0, 0], [3, 1])
    assert pair.target.shape == (1, 6, 8)


def test_channel_that_does_not_exist(save: Save) -> None:
    with pytest.raises(ImageError, match="there is no channel 1"):
        pairs_from_paths([save("a.png")], [save("b.png")], source_channels=[1])


@pytest.mark.parametrize("side", [0, 1])
def test_missing_path(tmp_path: Path, save: Save, side: int) -> None:
    paths = [[save("a.png")], [save("b.png")]]
    paths[side] = [tmp_path / "none"]
    with pytest.raises(ImageError, match="none does not exist"):
        pairs_from_paths(*paths)


@pytest.mark.parametrize("side", [0, 1])
def test_no_path_at_all(save: Save, side: int) -> None:
    paths = [[save("a.png")], [save("b.png")]]
    paths[side] = []
    with pytest.raises(ImageError, match="a source and a target are needed"):
        pairs_from_paths(*paths)


def test_folder_against_file(tmp_path: Path, save: Save) -> None:
    file = save("b.png")
    save("a/x.png")
    with pytest.raises(ImageError, match=r"a is a folder and .*b\.png is a file; give folders only, or files only"):
        pairs_from_paths([tmp_path / "a"], [file])


def test_empty_folder(tmp_path: Path, save: Save) -> None:
    save("a/x.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(ImageError, match=r"b holds no images \(TIFF, PNG"):
        pairs_from_paths([tmp_path / "a"], [tmp_path / "b"])


def test_two_files_of_one_name(tmp_path: Path, save: Save) -> None:
    for name in ("a/x.png", "a/x.tif", "b/x.png"):
        save(name)
    with pytest.raises(ImageError, match=r"x\.png and .*x\.tif have the same name; leave one"):
        pairs_from_paths([tmp_path / "a"], [tmp_path / "b"])


def test_missing_partners_are_counted_and_named(tmp_path: Path, save: Save) -> None:
    for number in range(1, 8):
        save(f"a/x{number}.png")
    for name in ("x1", "x2", "other"):
        save(f"b/{name}.png")
    with pytest.raises(ImageError) as caught:
        pairs_from_paths([tmp_path / "a"], [tmp_path / "b"])
    message = str(caught.value)
    assert f"5 of 7 images in {tmp_path / 'a'} have no partner in {tmp_path / 'b'} (x3, x4, x5, ...)" in message
    assert f"1 of 3 images in {tmp_path / 'b'} have no partner in {tmp_path / 'a'} (other)" in message
    assert message.endswith("give partners the same name, or remove the others")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (6, 9)}, "must have equal height and width"),
        ({"shape": (6, 8), "dtype": "uint16"}, "all target images must have the same type"),
        ({"shape": (6, 8, 3)}, "all target images must have the same number of channels"),
    ],
)
def test_images_that_do_not_fit_together(tmp_path: Path, save: Save, changes: dict[str, Any], message: str) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        save(name)
    save("b/2.tif", **changes)
    with pytest.raises(ImageError, match=message) as caught:
        pairs_from_paths([tmp_path / "a"], [tmp_path / "b"])
    assert "2.tif" in str(caught.value)


def test_palette_beside_no_palette(tmp_path: Path, save: Save) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        save(name)
    _indexed(tmp_path / "b" / "2.png", [(255, 0, 0)])
    with pytest.raises(ImageError, match=r"2\.png is an indexed image with a palette and .*1\.png is not"):
        pairs_from_paths([tmp_path / "a"], [tmp_path / "b"])


def test_different_palettes(tmp_path: Path, save: Save) -> None:
    for number, colours in ((1, [(255, 0, 0), (0, 255, 0)]), (2, [(255, 0, 0), (0, 0, 255)])):
        save(f"a/{number}.png")
        _indexed(tmp_path / "b" / f"{number}.png", colours)
    with pytest.raises(ImageError, match=r"colour 1 of the palette is \(0, 0, 255\) in .*2\.png and \(0, 255, 0\) in"):
        pairs_from_paths([tmp_path / "a"], [tmp_path / "b"])


def test_palettes_that_leave_out_unused_colours_are_completed(tmp_path: Path, save: Save) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    for number in (1, 2, 3):
        save(f"a/{number}.png")
        _indexed(tmp_path / "b" / f"{number}.png", colours[:number])
    for pair in pairs_from_paths([tmp_path / "a"], [tmp_path / "b"]):
        np.testing.assert_array_equal(pair.target.palette, colours)


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_composites(tmp_path: Path, pixels_of: Pixels, direction: Any) -> None:
    left, right = np.full((6, 4, 3), 1, np.uint8), np.full((6, 4, 3), 2, np.uint8)
    Image.fromarray(np.hstack([left, right])).save(tmp_path / "10.png")
    Image.fromarray(np.hstack([left, right])).save(tmp_path / "9.png")
    pairs = pairs_from_composites(tmp_path, direction, target_channels=[0])
    assert [pair.name for pair in pairs] == ["9", "10"]
    for pair in pairs:
        assert (pair.source.shape, pair.target.shape) == ((3, 6, 4), (1, 6, 4))
        assert (pixels_of(pair.source) == (1 if direction == "AtoB" else 2)).all()
        assert (pixels_of(pair.target) == (2 if direction == "AtoB" else 1)).all()


def test_a_single_composite(save: Save) -> None:
    (pair,) = pairs_from_composites(save("x.png", shape=(6, 8)))
    assert pair.source.shape == (1, 6, 4)


def test_composite_of_odd_width(tmp_path: Path, save: Save) -> None:
    save("a/x.png", shape=(6, 9))
    with pytest.raises(ImageError, match=r"x\.png is 9 pixels wide; .* must have an even width"):
        pairs_from_composites(tmp_path / "a")


def test_unknown_direction(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="direction is 'BtoC'; it must be AtoB or BtoA"):
        pairs_from_composites(tmp_path, "BtoC")  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", ["composites", "table"])
def test_missing_folder_or_table(tmp_path: Path, missing: str) -> None:
    with pytest.raises(ImageError, match="none does not exist"):
        (pairs_from_composites if missing == "composites" else pairs_from_csv)(tmp_path / "none")


AS_SAVED = {
    "tabs": lambda text: text.replace(",", "\t").encode(),
    "UTF-16 of a spreadsheet": lambda text: text.replace(",", "\t").encode("utf-16"),
    "UTF-16 without a mark": lambda text: text.encode("utf-16-le"),
    "UTF-16 the other way round, without a mark": lambda text: text.encode("utf-16-be"),
    "a line that names the separator": lambda text: ("sep=;\r\n" + text.replace(",", ";")).encode("utf-8-sig"),
    "rows without text": lambda text: (text + ",,\r\n\r\n , ,\r\n").encode(),
    "rows without text above": lambda text: ("\r\n,,\r\n" + text).encode(),
    "blank lines above one that names the separator": lambda text: ("\r\nsep=;\r\n" + text.replace(",", ";")).encode(),
    "paths of Windows": lambda text: text.replace("/", "\\").encode(),
    "old Mac lines": lambda text: text.replace("\r\n", "\r").encode(),
    "spaces": lambda text: text.replace(",", " , ").encode(),
    "capitals": lambda text: text.replace("source", "Source").replace("target", "TARGET").encode(),
}


@pytest.mark.parametrize("saved", AS_SAVED.values(), ids=AS_SAVED.keys())
def test_table_as_spreadsheets_save_it(saved: Any, tmp_path: Path, save: Save) -> None:
    for number in range(2):
        save(f"in/{number} ü.png")
        save(f"out/{number}.png")
    text = "source,target,note\r\n" + "".join(f"in/{n} ü.png,out/{n}.png,x\r\n" for n in range(2))
    (tmp_path / "pairs.csv").write_bytes(saved(text))
    assert [pair.name for pair in pairs_from_csv(tmp_path / "pairs.csv")] == ["0 ü", "1 ü"]


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_table(tmp_path: Path, save: Save, pixels_of: Pixels, separator: str, mark: str) -> None:
    for name, value in (("in/1.png", 1), ("in/2.png", 2), ("in/3.png", 3), ("out/1.png", 4)):
        save(name, value)
    rows = [
        ["note", "source", "source_10", "source_2", "target"],
        ["good", "in/1.png", "in/3.png", "in/2.png", "out/1.png"],
        ["", str(tmp_path / "in" / "2.png"), "in/2.png", " in/2.png ", "out/1.png"],
    ]
    table = tmp_path / "pairs.csv"
    table.write_text(mark + "\n".join(separator.join(row) for row in rows), encoding="utf-8")
    first, second = pairs_from_csv(table)
    np.testing.assert_array_equal(pixels_of(first.source)[:, 0, 0], [1, 2, 3])
    np.testing.assert_array_equal(pixels_of(second.source)[:, 0, 0], [2, 2, 2])
    assert (first.name, second.name) == ("1", "2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no column 'source'"),
        (b"source,goal\na.png,a.png\n", "has no column 'target'; its first line must name"),
        (b"source,target\n", "has no rows below its header"),
        (b"source,target\na.png,a.png\na.png,\n", r"pairs\.csv, line 3: there is no path in the column 'target'"),
        (b"source,target\na.png\n", r"pairs\.csv, line 2: there is no path in the column 'target'"),
        (b"source,target\na.png,b.png\n", r"pairs\.csv, line 2: .*b\.png does not exist"),
        (b"source,target\na.png,pairs.csv\n", r"pairs\.csv, line 2: .* is not an image"),
        (b"source,target\na.png,a.png\na.png,a.png\n", r"pairs\.csv, line 3: names the pair of line 2 again"),
        (b"source,target\na.png,wide.png\n", r"pairs\.csv, line 2: .*equal height and width"),
        (b"source,source_2,target\na.png,wide.png,a.png\n", r"pairs\.csv, line 2: .*cannot be channels of one image"),
        (b"\xff\xfe\x00\x01", "has no column 'source'"),
        (
            "source,target\na.png,a.png\n".encode("utf-32"),
            "as a table: it is no text in UTF-8 or UTF-16",
        ),
        (b"\xff\x00\x01", "cannot be read as a table"),
        (b'source,target\n"a.png,a.png\n', "cannot be read as a table"),
    ],
)
def test_table_that_is_wrong(tmp_path: Path, save: Save, content: bytes, message: str) -> None:
    save("a.png")
    save("wide.png", shape=(6, 99))
    (tmp_path / "pairs.csv").write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        pairs_from_csv(tmp_path / "pairs.csv")
    assert "\n" not in str(caught.value)


def test_pixels_come_from_the_given_cache(save: Save, pixels_of: Pixels) -> None:
    source, target = save("a.png", 5), save("b.png", 6)
    with PixelCache(budget_bytes=10_000) as cache:
        (pair,) = pairs_from_paths([source], [target], cache=cache)
        pixels_of(pair.source)
        source.unlink()
        assert (pixels_of(pair.source) == 5).all()


@given(names=st.lists(st.text("ab01290-_. ", max_size=6)), data=st.data())
def test_natural_order_does_not_depend_on_the_order_before(names: list[str], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(names))
    assert sorted(shuffled, key=natural_key) == sorted(names, key=natural_key)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_pair_however_their_accents_are_spelled(
    tmp_path: Path, save: Save, pixels_of: Pixels, forms: tuple[Any, Any]
) -> None:
    for number, name in enumerate(("Präparat_é", "각", "plain")):
        save(f"a/{normalize(forms[0], name)}.png", number)
        save(f"b/{normalize(forms[1], name)}.tif", number + 1)
    pairs = pairs_from_paths([tmp_path / "a"], [tmp_path / "b"])
    assert [pair.name for pair in pairs] == sorted(normalize("NFC", name) for name in ("Präparat_é", "각", "plain"))
    for pair in pairs:
        assert (pixels_of(pair.target) == pixels_of(pair.source) + 1).all()


def test_table_with_another_spelling_of_accents(tmp_path: Path, save: Save, pixels_of: Pixels) -> None:
    save(normalize("NFD", "é.png"), 3)
    save("b.png", 4)
    (tmp_path / "pairs.csv").write_text(f"source,target\n{normalize('NFC', 'é.png')},b.png\n", encoding="utf-8")
    (pair,) = pairs_from_csv(tmp_path / "pairs.csv")
    assert (pixels_of(pair.source) == 3).all()


def test_two_spellings_of_one_name_in_a_folder(tmp_path: Path, save: Save) -> None:
    save(f"a/{normalize('NFC', 'é')}.png", 1)
    if (tmp_path / "a" / f"{normalize('NFD', 'é')}.png").exists():
        pytest.skip("this file system knows one spelling only")
    save(f"a/{normalize('NFD', 'é')}.png", 2)
    with pytest.raises(ImageError, match="have the same name; leave one of them in the folder"):
        pairs_from_paths([tmp_path / "a"], [tmp_path / "a"])


def test_zarr_without_the_ending_is_an_image_and_no_folder(tmp_path: Path, save: Save, pixels_of: Pixels) -> None:
    zarr.create_array(tmp_path / "array", shape=(6, 8), dtype="uint8")[...] = 3
    (pair,) = pairs_from_paths([tmp_path / "array"], [save("b.png", 4)])
    assert (pixels_of(pair.source) == 3).all()


def test_images_that_are_their_own_targets_are_said(
    tmp_path: Path, save: Save, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [save(f"in/{number}.png", shape=(6, 8, 3)) for number in range(2)]
    (tmp_path / "link").symlink_to(tmp_path / "in")
    words = "2 of 2 images are source and target at once"
    for source, target in ((tmp_path / "in", tmp_path / "in"), (tmp_path / "in", tmp_path / "link")):
        caplog.clear()
        pairs_from_paths([source], [target])
        assert words in caplog.text
    (tmp_path / "pairs.csv").write_text(f"source,target\nin/0.png,in/1.png\nin/1.png,{paths[1]}\n", encoding="utf-8")
    pairs_from_csv(tmp_path / "pairs.csv")
    assert "1 of 2 images are source and target at once" in caplog.text
    caplog.clear()
    pairs_from_paths([tmp_path / "in"], [tmp_path / "in"], source_channels=[0], target_channels=[1])
    assert "at once" not in caplog.text


def _placed(path: Path, corner: tuple[float, float], crs: str = "EPSG:32633", step: float = 2) -> Path:
    path.parent.mkdir(exist_ok=True)
    place = rasterio.transform.from_origin(*corner, step, step)
    options = {"driver": "GTiff", "height": 40, "width": 36, "count": 1, "dtype": "uint8", "crs": crs}
    with rasterio.open(path, "w", transform=place, **options) as file:
        file.write(np.random.default_rng(0).integers(0, 256, (1, 40, 36), np.uint8))
    return path


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"corner": (500, 900)}, False),
        ({"corner": (500.5, 899.5)}, False),
        ({"corner": (502, 900)}, True),
        ({"corner": (500, 900), "crs": "EPSG:32634"}, True),
        ({"corner": (500, 900), "step": 2.1}, True),
    ],
)
def test_images_of_a_pair_at_different_places_on_the_earth_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, other: dict[str, Any], said: bool
) -> None:
    sources = [_placed(tmp_path / "in" / f"{n}.tif", (500, 900)) for n in range(2)]
    targets = [_placed(tmp_path / "out" / f"{n}.tif", **other) for n in range(2)]
    pairs_from_paths([tmp_path / "in"], [tmp_path / "out"])
    words = (
        f"{sources[0]} and {targets[0]} lie at different places on the Earth, and are taken pixel upon pixel (and so"
    )
    assert (words in caplog.text) == said
    caplog.clear()
    with open_images([sources[0], targets[0]]):
        assert ("lie at different places on the Earth" in caplog.text) == said


@pytest.mark.parametrize(("orientation", "said"), [(1, False), (6, True)])
def test_images_of_a_pair_that_are_turned_differently_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, orientation: int, said: bool
) -> None:
    """A PNG is turned as its EXIF says, a TIFF is not."""
    image, exif = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8), Image.Exif()
    exif[274] = orientation
    Image.fromarray(image).save(tmp_path / "in.png", exif=exif)
    tifffile.imwrite(tmp_path / "out.tif", image, extratags=[(274, "H", 1, orientation, True)])
    pairs_from_paths([tmp_path / "in.png"], [tmp_path / "out.tif"])
    words = f"out.tif (orientation 1 and {orientation}), and the two are taken pixel upon pixel as they are stored"
    assert (words in caplog.text) == said


def test_images_of_a_pair_with_pixels_of_different_size_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, size in (("in", 0.5), ("out", 0.5), ("wide", 1.0)):
        sizes = {"PhysicalSizeX": size, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": size, "PhysicalSizeYUnit": "µm"}
        image = np.random.default_rng(0).integers(0, 256, (40, 36), np.uint8)
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", image, metadata={"axes": "YX", **sizes})
    pairs_from_paths([tmp_path / "in.ome.tif"], [tmp_path / "out.ome.tif"])
    assert caplog.text == ""
    pairs_from_paths([tmp_path / "in.ome.tif"], [tmp_path / "wide.ome.tif"])
    assert "in.ome.tif has pixels of 0.5 x 0.5 µm and" in caplog.text
    assert "wide.ome.tif of 1 x 1 µm, taken pixel upon pixel" in caplog.text
