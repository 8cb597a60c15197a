"""The Python door; each example in its documentation is run."""

from __future__ import annotations

import doctest
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import tifffile
import torch

import napari_pix2pix
from napari_pix2pix import Pix2Pix, api, loaded_model
from napari_pix2pix.formats import open_image
from napari_pix2pix.translation.backends import openvino_runner
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.array_source import AnyArray, MemorySource, whole_plane
from pix2pix_training.config import TrainingConfig
from pix2pix_training.device import has_int8
from pix2pix_training.errors import ImageError, InputError, OutputError
from pix2pix_training.events import Event, Finished, Started, StepDone
from pix2pix_training.model_file import load_model, save_model
from pix2pix_training.regions import Region
from tests.identity_model import identity_model

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"patch_size": 32, "generator": {"base_width": 4, "depth": 3}}
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 40), np.uint8)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the examples use: folders of pairs, an image, and a model of a run."""
    monkeypatch.chdir(tmp_path)
    for folder in ("source", "target"):
        (tmp_path / folder).mkdir()
        for number in range(3):
            values = np.random.default_rng(number).integers(0, 256, (64, 64), np.uint8)
            tifffile.imwrite(tmp_path / folder / f"{number}.tif", values if folder == "source" else 255 - values)
    tifffile.imwrite(tmp_path / "cells.tif", IMAGE)
    (tmp_path / "run").mkdir()
    save_model(identity_model(), tmp_path / "run" / "model.safetensors")
    return tmp_path


def test_examples_of_the_docstrings(workplace: Path) -> None:
    found = [test for module in (api, loaded_model) for test in doctest.DocTestFinder().find(module)]
    tests = [test for test in found if test.examples]
    if not has_int8() or openvino_runner.unavailable_reason() is not None:
        tests = [test for test in tests if not test.name.endswith("with_int8")]
    assert {test.name.rpartition(".")[2] for test in tests} >= {"Pix2Pix", "load", "train", "translate", "evaluate"}
    names = {"np": np, "Pix2Pix": Pix2Pix, "model": Pix2Pix("run/model.safetensors")}
    said: list[str] = []
    for test in tests:
        test.globs = dict(names)
        outcome = doctest.DocTestRunner().run(test, out=said.append)
        assert outcome.failed == 0, "".join(said)
        assert outcome.attempted > 0


def test_a_model_that_is_not_ready_for_8_bits_names_what_makes_it_ready() -> None:
    model = Pix2Pix(identity_model())
    with pytest.raises(InputError, match="not made ready for precision int8; in Python with `with_int8`, or choose"):
        model.translate(IMAGE, axes="YX", precision="int8")


def test_examples_of_the_page(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs" / "tutorials" / "python.md"
    if not page.exists():
        pytest.skip("not run from a checkout")
    (workplace / "run" / "model.safetensors").unlink()
    (workplace / "run").rmdir()
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 8
    exec(compile("\n".join(blocks), str(page), "exec"), {})
    assert capsys.readouterr().out.startswith("1\n2\n3\n")
    assert (workplace / "network.onnx").exists()
    assert _read(workplace / "stained.tif").shape == (1, 48, 40)


def _read(path: Path) -> AnyArray:
    with open_image(path) as source:
        return source.read(whole_plane(source))


def test_importing_the_package_loads_neither_torch_nor_anything_heavy() -> None:
    code = (
        "import sys, napari_pix2pix; assert 'Pix2Pix' in napari_pix2pix.__all__; "
        "heavy = {'torch', 'numpy', 'tifffile', 'zarr', 'napari', 'qtpy'} & set(sys.modules); assert not heavy, heavy; "
        "napari_pix2pix.Pix2Pix; assert not {'napari', 'qtpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert napari_pix2pix.Pix2Pix is Pix2Pix


@pytest.mark.parametrize("package", ["napari_pix2pix", "pix2pix_training", "pix2pix_trt"])
def test_packages_say_that_they_are_typed(package: str) -> None:
    assert resources.files(package).joinpath("py.typed").is_file()


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_are_strings_or_paths(workplace: Path, kind: Callable[[str], Any]) -> None:
    model = Pix2Pix.load(kind("run/model.safetensors"))
    assert model.translate(kind("cells.tif"), kind("out.tif")) == Path("out.tif")
    np.testing.assert_array_equal(_read(workplace / "out.tif")[0], IMAGE)
    assert model.save(kind("saved.safetensors")) == Path("saved.safetensors")
    assert model.evaluate(kind("source"), kind("source")).mean.mae == 0
    np.testing.assert_array_equal(
        napari_pix2pix.translate_array(IMAGE, napari_pix2pix.load_model(kind("saved.safetensors")))[0], IMAGE
    )


@pytest.mark.parametrize("axes", ["YXC", "CYX", "TCZYX", "ZYXC", "XYC"])
def test_arrays_in_any_order_of_axes(axes: str) -> None:
    sizes = {"T": 2, "Z": 3, "C": 2, "Y": 20, "X": 24}
    array = np.random.default_rng(0).integers(0, 256, [sizes[letter] for letter in axes], np.uint8)
    np.testing.assert_array_equal(Pix2Pix(identity_model(channels=2)).translate(array, axes=axes), array)


@pytest.mark.parametrize("shape", [(48, 40), (1, 48, 40), (3, 1, 48, 40)])
def test_arrays_without_axes_keep_their_shape(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(Pix2Pix(identity_model()).translate(array), array)


def test_an_array_becomes_a_file_with_what_is_said_of_it(tmp_path: Path) -> None:
    model = Pix2Pix(identity_model(channels=2, names=["DAPI", "GFP"]))
    array = np.stack([IMAGE, 255 - IMAGE], -1)
    out = tmp_path / "out.ome.tif"
    model.translate(array, out, axes="YXC", channel_names=["GFP", "DAPI"], pixel_size=(0.5, 0.25), unit="micron")
    with open_image(out) as written:
        assert (written.metadata.pixel_size, written.metadata.unit) == ((0.5, 0.25), "µm")
        assert written.channel_names == ("DAPI", "GFP")
    np.testing.assert_array_equal(_read(out), [255 - IMAGE, IMAGE])
    with pytest.raises(OutputError, match=r"out\.ome\.tif"):
        model.translate(array, out, axes="YXC")
    model.translate(array, out, axes="YXC", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.ome.tif"]


@pytest.mark.parametrize("name", ["new/out.ome.zarr", "new/out.png", "new/out.tif"])
@pytest.mark.parametrize("matched", [False, True])
def test_arrays_become_files_of_any_format(tmp_path: Path, name: str, matched: bool) -> None:
    model = Pix2Pix(identity_model(pixel_size=(1.0, 1.0), unit="µm"))
    size = (0.5, 0.5) if matched else (1.0, 1.0)
    flat = np.full((48, 40), 77, np.uint8)
    model.translate(flat, tmp_path / name, axes="YX", pixel_size=size, match_pixel_size=matched, max_memory=2**20)
    np.testing.assert_array_equal(_read(tmp_path / name).squeeze(), flat)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [Path(name).name]


def test_a_file_becomes_an_array_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (3, 2, 20, 24), np.uint8)
    tifffile.imwrite(tmp_path / "in.ome.tif", stack, metadata={"axes": "ZCYX"}, photometric="minisblack")
    model = Pix2Pix(identity_model(channels=2))
    np.testing.assert_array_equal(model.translate(tmp_path / "in.ome.tif"), stack)
    np.testing.assert_array_equal(model.translate(tmp_path / "in.ome.tif", axes="CYXZ"), np.moveaxis(stack, 0, -1)[:])
    with pytest.raises(ImageError, match="has the axes ZCYX, which cannot be given in the order TCYX"):
        model.translate(tmp_path / "in.ome.tif", axes="TCYX")


def test_images_of_a_file_by_their_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arrays = np.random.default_rng(0).integers(0, 256, (3, 40, 50), np.uint8)
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path) as tif:
        for array in arrays:
            tif.write(array, metadata={"axes": "YX"})
    model = Pix2Pix(identity_model())
    np.testing.assert_array_equal(model.translate(path, axes="YX", series=2), arrays[2])
    np.testing.assert_array_equal(tifffile.imread(model.translate(path, tmp_path / "b.tif", series=1)), arrays[1])
    assert [name for name, _ in model.evaluate(path, path).images] == ["a_0", "a_1", "a_2"]
    assert [name for name, _ in model.evaluate(path, path, series=1).images] == ["a"]
    assert caplog.text.count("holds 3 images and number 0 is used") == 0
    np.testing.assert_array_equal(model.translate(path, axes="YX"), arrays[0])
    assert "a.ome.tif holds 3 images and number 0 is used; for another give its number, series 1 to 2" in caplog.text
    with pytest.raises(ImageError, match="no image number 3"):
        model.translate(path, series=3)
    with pytest.raises(InputError, match="series is for files"):
        model.translate(arrays[0], series=0)


def test_pixel_sizes_of_arrays_can_be_matched() -> None:
    model = identity_model(pixel_size=(1.0, 1.0), unit="µm")
    array = np.kron(IMAGE, np.ones((2, 2), np.uint8))
    matched = Pix2Pix(model).translate(array, pixel_size=(0.5, 0.5), match_pixel_size=True)
    assert matched.shape == array.shape
    assert not np.array_equal(matched, array)
    with pytest.raises(ImageError, match="array does not say how large its pixels are"):
        Pix2Pix(model).translate(array, match_pixel_size=True)


def test_a_model_is_made_ready_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Translator] = []
    make = Translator.__init__

    def counted(translator: Translator, *choice: Any) -> None:
        made.append(translator)
        make(translator, *choice)

    monkeypatch.setattr(Translator, "__init__", counted)
    with torch.inference_mode(False):
        model = Pix2Pix(identity_model())
    for _ in range(3):
        model.translate(IMAGE)
    assert len(made) == 1


def test_training_on_arrays_tells_its_events_and_gives_the_model(tmp_path: Path) -> None:
    events: list[Event] = []
    images = list(np.random.default_rng(0).random((2, 64, 64, 2)).astype(np.float32))
    targets = [image[..., :1] * 100 for image in images]
    model = Pix2Pix.train(
        images,
        targets,
        out=str(tmp_path / "run"),
        axes="YXC",
        steps=2,
        pixel_size=(0.5, 0.5),
        on_event=events.append,
        validation=0,
        **SMALL,
    )
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert (model.source.channels, model.target.channels, model.source.pixel_size) == (2, 1, (0.5, 0.5))
    result = model.translate(images[0], axes="YXC")
    assert result.shape == (64, 64, 1)
    assert result.dtype == np.float32
    assert load_model(tmp_path / "run" / "model.safetensors").source == model.source
    assert model.evaluate(images, targets, axes="YXC").mean.mae > 0


def test_training_on_stacks_and_from_a_model(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).random((3, 64, 64)).astype(np.float32)
    first = Pix2Pix.train(volume, 1 - volume, out=tmp_path / "a", axes="ZYX", steps=1, z_context=1, **SMALL)
    assert first.source.z_context == 1
    second = Pix2Pix.train(
        volume,
        1 - volume,
        out=tmp_path / "b",
        axes="ZYX",
        steps=1,
        z_context=1,
        patch_size=32,
        init=tmp_path / "a" / "model.safetensors",
    )
    assert second.model.generator_config == first.model.generator_config
    assert second.translate(volume, axes="ZYX").shape == volume.shape


def test_labels_of_objects_are_trained_on_and_judged_as_foreground(tmp_path: Path) -> None:
    labels = np.zeros((64, 64), np.uint16)
    for number in range(16):
        y, x = divmod(number, 4)
        labels[y * 16 + 3 : y * 16 + 11, x * 16 + 3 : x * 16 + 11] = number + 1
    photo = (labels > 0).astype(np.uint8) * 200
    pairs: dict[str, Any] = {"source": [photo, photo.T.copy()], "target": [labels, labels.T.copy()]}
    model = Pix2Pix.train(**pairs, out=tmp_path / "run", steps=1, target_values="foreground", **SMALL)
    result = model.evaluate(**pairs)
    assert result.classes is not None
    assert [overlap.value for overlap in result.classes.classes] == [(0,), (1,)]


def test_what_an_event_raises_ends_the_training_and_keeps_its_state(tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            raise KeyboardInterrupt

    pairs: dict[str, Any] = {"source": [IMAGE, IMAGE], "target": [255 - IMAGE, 255 - IMAGE], "out": tmp_path / "run"}
    with pytest.raises(KeyboardInterrupt):
        Pix2Pix.train(**pairs, steps=4, on_event=stop, **SMALL)
    assert (tmp_path / "run" / "last.pt").exists()
    seen: list[Event] = []
    Pix2Pix.train(**pairs, steps=4, resume=True, on_event=seen.append, **SMALL)
    assert isinstance(seen[0], Started)
    assert seen[0].resumed_from_step == 2


def test_training_on_folders(workplace: Path) -> None:
    model = Pix2Pix.train("source", Path("target"), out="new", steps=2, **SMALL)
    assert model.metrics["mae"] > 0
    assert repr(model) == "Pix2Pix(U-Net, 1 channel of uint8 -> 1 channel of uint8)"


def test_a_training_takes_ten_minutes_unless_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    configs: list[TrainingConfig] = []

    def record(config: TrainingConfig, *_: Any, **__: Any) -> Any:
        configs.append(config)
        save_model(identity_model(), tmp_path / "model.safetensors")
        yield from ()

    monkeypatch.setattr(api, "training_events", record)
    for length in ({}, {"minutes": 3}, {"steps": 5}, {"epochs": 2}):
        Pix2Pix.train([IMAGE] * 2, [IMAGE] * 2, out=tmp_path, **SMALL, **length)  # type: ignore[arg-type]
    assert [(c.minutes, c.steps, c.epochs) for c in configs] == [
        (10, None, None),
        (3, None, None),
        (None, 5, None),
        (None, None, 2),
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.translate(IMAGE, nodata=cast(Any, "x")), "nodata is 'x', a str; it should be a number"),
        (lambda model: model.translate(IMAGE, out=cast(Any, 5)), "out is 5, a int; it should be a path"),
        (
            lambda model: model.translate(IMAGE, "o.tif", resume=True),
            "resume is for translating files",
        ),
        (lambda model: model.evaluate(IMAGE, IMAGE, data_range=cast(Any, "x")), "data_range should be a list, not str"),
        (lambda model: Pix2Pix.load(cast(Any, None)), "model is None, a NoneType; it should be a path"),
        (lambda model: model.export(cast(Any, 5)), "out is 5"),
        (lambda model: Pix2Pix.train(IMAGE, IMAGE, out="r", validation="."), "validation is the folder"),
        (
            lambda model: Pix2Pix.train(IMAGE, IMAGE, out="r", validation=cast(Any, [1])),
            "validation is .1.; give a",
        ),
        (
            lambda model: Pix2Pix.train(IMAGE, IMAGE, out="r", steps=0),
            "steps is 0; it must lie between 1 and",
        ),
        (lambda model: Pix2Pix.train(IMAGE, IMAGE, out="r", learning_rate=0), "learning_rate is 0; it must be above 0"),
        (lambda model: Pix2Pix.train(IMAGE, IMAGE, out="r", seed="1"), "seed is '1', a str; it should be a int"),
        (lambda model: model.translate(IMAGE, colour=1), "unknown entry 'colour'; known are scheme, "),
        (lambda model: model.translate([IMAGE]), "one image at a time"),
        (lambda model: model.translate([]), "one image at a time"),
        (lambda model: model.translate("cells.tif", nodata=0), "are for arrays"),
        (lambda model: model.translate("cells.tif", "out.tif", axes="YX"), "an output file has those of the input"),
        (lambda model: model.translate(IMAGE, axes="YXC"), "the axes 'YXC' are 3"),
        (lambda model: model.translate(IMAGE.astype(np.uint16)), "has uint16 pixels"),
        (lambda model: model.evaluate(IMAGE, "target"), "must both be arrays"),
        (lambda model: model.evaluate([IMAGE], [IMAGE, IMAGE]), "1 source images and 2 targets"),
        (lambda model: model.export("model.xyz"), "the ending says no format"),
        (lambda model: model.export("model.zip"), "needs a name, and a sample"),
        (lambda model: Pix2Pix.train("source", "target", out="r", axes="YX"), "are for arrays"),
        (lambda model: Pix2Pix.train(IMAGE, IMAGE, out="r", speed=1), "unknown entry 'speed'"),
        (
            lambda model: Pix2Pix.train(IMAGE, IMAGE, out="r", preset=cast(Any, "fast")),
            "choose one of seamless, paper, faithful",
        ),
        (lambda model: Pix2Pix.train(cast(Any, [[1, 2]]), [IMAGE], out="r"), r"source 0 is of type list, not an array"),
        (lambda model: Pix2Pix.train(cast(Any, None), cast(Any, None), out="r"), "source 0 is of type NoneType"),
        (
            lambda model: Pix2Pix.train(cast(Any, torch.ones(64, 64)), IMAGE, out="r"),
            r"give numpy.asarray\(...\) of it",
        ),
        (lambda model: Pix2Pix.train(IMAGE.astype(complex), IMAGE, out="r"), "source 0: values of type complex128"),
        (lambda model: Pix2Pix.train(IMAGE, IMAGE.astype(object), out="r"), "target 0: values of type object"),
        (lambda model: Pix2Pix.train(IMAGE, IMAGE.astype(str), out="r"), "target 0: values of type <U3"),
        (lambda model: Pix2Pix.train(IMAGE, IMAGE, out="r", axes=cast(Any, 2)), "the axes 2 are no text"),
        (
            lambda model: Pix2Pix.train(np.zeros((64, 64, 3)), IMAGE, out="r"),
            "source 0 has the shape .* say so with axes, such as YXC",
        ),
        (lambda model: model.translate("source", "o"), "give images that are not tiles of one map file by file"),
        (lambda model: model.translate(cast(Any, None)), "array is of type NoneType"),
        (lambda model: model.translate(IMAGE.astype(complex)), "values of type complex128"),
        (lambda model: Pix2Pix.train(IMAGE, IMAGE, out="r", pixel_size=cast(Any, 3)), "pixel_size is 3; it should be"),
        (lambda model: Pix2Pix.train(IMAGE, IMAGE, out="r", pixel_size=(-1, 1)), r"pixel_size is \(-1, 1\)"),
        (lambda model: model.translate(IMAGE, "o.tif", pixel_size=(0, float("nan"))), r"pixel_size is \(0, nan\)"),
        (lambda model: model.novelty(IMAGE), "cannot tell what is unlike its training images"),
        (lambda model: model.translate(IMAGE, novelty_map=True), "call novelty for an array"),
        (lambda model: Pix2Pix.load("missing.safetensors"), "does not exist"),
    ],
)
def test_wrong_use_is_told_in_words(workplace: Path, call: Callable[[Pix2Pix], object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call(Pix2Pix("run/model.safetensors"))
    assert "\n" not in str(caught.value)


def test_pixels_that_an_array_masks_hold_no_data(tmp_path: Path) -> None:
    masked = np.ma.masked_array(IMAGE, IMAGE % 2 == 0)
    result = Pix2Pix(identity_model()).translate(masked, axes="YX")
    np.testing.assert_array_equal(result, np.where(masked.mask, 0, IMAGE))
    channels = np.ma.masked_array(np.stack([IMAGE, IMAGE], -1), False)
    channels[0, 0, 1] = np.ma.masked
    opacity = MemorySource(channels, axes="YXC").read_with_opacity(Region(0, 2, 0, 2))[1]
    assert opacity is not None and opacity.tolist() == [[0, 255], [255, 255]]
    nothing = np.ma.masked_array(IMAGE, True)
    with pytest.raises(ImageError, match="not one valid pixel"):
        Pix2Pix.train(nothing, IMAGE, out=tmp_path / "run", axes="YX", steps=1, **SMALL)
    assert not MemorySource(np.ma.masked_array(IMAGE, False)).masked


def test_names_of_channels_of_an_array_are_said_when_they_count(caplog: pytest.LogCaptureFixture) -> None:
    model = Pix2Pix(identity_model(channels=2, names=["DAPI", "GFP"]))
    array = np.stack([IMAGE, 255 - IMAGE])
    with caplog.at_level(logging.WARNING):
        result = model.translate(array, channel_names=["GFP", "DAPI"])
    np.testing.assert_array_equal(result, array[::-1])
    assert "by name" in caplog.text
