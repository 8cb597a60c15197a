"""Headers of model files: those of version 1 open for ever, damaged and hostile ones are one line."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pix2pix.cli.application import run
from pix2pix_training.errors import ModelFileError
from pix2pix_training.in_words import card_lines
from pix2pix_training.model_file import load_model, model_header, save_model, saved_model_step
from pix2pix_training.strict_json import read_table

DATA = Path(__file__).parent / "data"
LINEAR = DATA / "model_v1_linear.safetensors"
CATEGORIES = DATA / "model_v1_categories.safetensors"


def header_text(path: Path) -> str:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    text: str = json.loads(content[8 : 8 + length])["__metadata__"]["pix2pix"]
    return text


def with_header(original: Path, text: str, path: Path) -> Path:
    """A copy of a model file with another header of ours."""
    content = original.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    container = json.loads(content[8 : 8 + length])
    container["__metadata__"]["pix2pix"] = text
    head = json.dumps(container).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + content[8 + length :])
    return path


def paths_of(value: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where tables, lists and plain values stand."""
    if prefix:
        yield prefix
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, entry in entries:
        yield from paths_of(entry, (*prefix, name))


def changed(text: str, place: tuple[Any, ...], value: str) -> str:
    """The header with other JSON at one place."""
    header = json.loads(text)
    table = header
    for name in place[:-1]:
        table = table[name]
    table[place[-1]] = "@@"
    return json.dumps(header).replace('"@@"', value)


def test_files_of_version_1_open_for_ever_and_compute_the_same(tmp_path: Path) -> None:
    """They were written by the version before this test was."""
    expected = np.load(DATA / "model_v1_outputs.npz")
    linear, categories = load_model(LINEAR), load_model(CATEGORIES)
    inputs = {
        "linear": torch.linspace(-1, 1, 2 * 8 * 12).reshape(1, 2, 8, 12),
        "categories": torch.linspace(-1, 1, 3 * 16 * 20).reshape(1, 3, 16, 20),
    }
    for name, model in (("linear", linear), ("categories", categories)):
        with torch.no_grad():
            assert np.allclose(model.generator()(inputs[name]).numpy(), expected[name], atol=1e-5)
        original = LINEAR if name == "linear" else CATEGORIES
        save_model(model, tmp_path / original.name)
        assert json.loads(header_text(tmp_path / original.name)) == json.loads(header_text(original))
    assert linear.source.channel_names == ("phase", "DAPI")
    assert linear.discriminator is not None
    assert (linear.credits.license, linear.metrics["mae"], linear.training["step"]) == ("CC-BY-4.0", 0.05, 1200)
    assert saved_model_step(LINEAR) == 1200
    assert saved_model_step(CATEGORIES) is None


BAD_ENTRIES: dict[str, tuple[tuple[Any, ...], str, str]] = {
    "infinite version": (("format_version",), "Infinity", "format_version is infinite"),
    "version as text": (("format_version",), '"1"', "format_version is '1'"),
    "version zero": (("format_version",), "0", "format_version is 0"),
    "newer version": (("format_version",), "3", "update napari-pix2pix"),
    "provenance is a number": (("training",), "5", "training is 5, which should be a table"),
    "provenance is a list": (("training",), "[1]", "which should be a table"),
    "provenance is null": (("training",), "null", "which should be a table"),
    "step as text": (("training", "step"), '"many"', r"training\.step is 'many'"),
    "seconds as a table": (("training", "seconds"), "{}", r"training\.seconds"),
    "epochs are huge": (("training", "epochs"), "1" + "0" * 400, "more than 64 bits"),
    "epochs have 5000 digits": (("training", "epochs"), "1" + "0" * 5000, "damaged"),
    "config is a number": (("training", "config"), "7", r"training\.config"),
    "imported from numbers": (("training", "imported_from"), "[1, 2]", "list of names"),
    "metrics are a list": (("metrics",), "[]", "metrics is"),
    "a metric is text": (("metrics", "mae"), '"good"', r"metrics\.mae"),
    "a metric overflows": (("metrics", "mae"), "1e999", r"metrics\.mae is infinite"),
    "range to infinity": (("source", "mapping", "high", 0), "Infinity", "infinite"),
    "range beyond floats": (("source", "mapping", "low", 0), "-1.7e308", "must lie within 1e"),
    "range the wrong way": (("source", "mapping", "low", 0), "901", "below its high end"),
    "pixel size 0": (("source", "pixel_size", 0), "0", "above 0"),
    "pixel size infinite": (("source", "pixel_size", 0), "1e400", "infinite"),
    "axes": (("source", "axes"), '"XY"', "end in CYX"),
    "mapping missing": (("target", "mapping"), "null", "not a table with a mapping"),
    "mapping of a kind that is a list": (("target", "mapping", "kind"), "[]", "knows linear and categories"),
    "side is a list": (("source",), "[]", "not a table with a mapping"),
    "generator is text": (("generator",), '"unet"', "should be a table"),
    "width is a float": (("generator", "base_width"), "2.0", "should be a int"),
    "width is a truth value": (("generator", "base_width"), "true", "should be a int"),
    "width is huge": (("generator", "base_width"), "1000000", "between 1 and 1024"),
    "norm cannot run": (("generator", "norm"), '"instance"', "no running statistics"),
    "seed is infinite": (("inference", "seed"), "-Infinity", "infinite"),
    "credits are a number": (("credits",), "1", "should be a table"),
    "an author is a number": (("credits", "authors", 0), "1", "should be a str"),
    "an author has an escape": (("credits", "authors", 0), r'"\u001b[2J"', "control characters"),
    "half a character": (("credits", "license"), r'"\ud800"', "is no text"),
    "discriminator is a list": (("discriminator",), "[]", "should be a table"),
    "deep nesting": (("training", "config"), "[" * 200 + "]" * 200, "nested too deeply"),
    "deepest nesting": (("training", "config"), "[" * 100_000 + "]" * 100_000, "nested too deeply"),
    "twice": (("metrics",), '{"mae": 1, "mae": 2}', "'mae' is there twice"),
}


@pytest.mark.parametrize(("place", "value", "message"), BAD_ENTRIES.values(), ids=BAD_ENTRIES.keys())
def test_a_damaged_header_is_one_line(place: tuple[Any, ...], value: str, message: str, tmp_path: Path) -> None:
    path = with_header(LINEAR, changed(header_text(LINEAR), place, value), tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=message) as said:
        load_model(path)
    assert "\n" not in str(said.value)
    assert str(said.value).startswith(f"{path}: ")
    assert len(str(said.value)) < 600 + len(str(path))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: "null",
        lambda text: "[]",
        lambda text: text[:-20],
        lambda text: text.replace('"generator"', '"generators"'),
        lambda text: text.replace('"format"', '"former"'),
        lambda text: text.replace("pix2pix-model", "other-model"),
        lambda text: text.replace('"dtype": "uint16"', '"dtype": "complex64"'),
        lambda text: text.replace('"axes"', '"axis"', 1),
    ],
)
def test_other_text_in_the_header_is_one_line(change: Callable[[str], str], tmp_path: Path) -> None:
    path = with_header(LINEAR, change(header_text(LINEAR)), tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError) as said:
        load_model(path)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("target", "mapping", "values", 0, 0), "256", "do not fit into uint8"),
        (("target", "mapping", "values", 1), "[0]", "must differ"),
        (("target", "mapping", "values"), "[]", "2 to 255"),
        (("target", "mapping", "colors", 0, 0), "-1", "between 0 and 255"),
        (("target", "mapping", "colors"), "[[1, 2, 3]]", "one colour each"),
        (("target", "mapping", "foreground"), "true", "foreground has the categories 0 and 1"),
        (("source", "mapping", "channels"), "1000000000", "does not fit the network"),
    ],
)
def test_a_damaged_header_of_categories_is_one_line(
    place: tuple[Any, ...], value: str, message: str, tmp_path: Path
) -> None:
    header = json.loads(header_text(CATEGORIES))
    header["target"]["mapping"]["foreground"] = False
    path = with_header(CATEGORIES, changed(json.dumps(header), place, value), tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


@pytest.mark.parametrize("value", ["Infinity", "1e999", '"x"', "{}", "[]", "null", "-7", "true"])
def test_whatever_stands_in_a_header_nothing_else_is_raised(value: str, tmp_path: Path) -> None:
    """A model that does open can be shown and saved."""
    text = header_text(LINEAR)
    outcomes = set()
    for place in paths_of(json.loads(text)):
        path = with_header(LINEAR, changed(text, place, value), tmp_path / "m.safetensors")
        try:
            model = load_model(path)
        except ModelFileError:
            outcomes.add("refused")
            continue
        outcomes.add("opened")
        assert all("\n" not in line for line in card_lines(model))
        json.dumps(model_header(model), allow_nan=False)
    assert "refused" in outcomes


@pytest.mark.parametrize("command", ["info", "info --json", "translate", "export", "train"])
def test_every_command_says_in_one_line_that_a_header_is_damaged(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = with_header(LINEAR, changed(header_text(LINEAR), ("training",), "5"), tmp_path / "m.safetensors")
    tifffile.imwrite(tmp_path / "i.tif", np.zeros((8, 8), np.uint16))
    arguments = {
        "info": [str(path)],
        "info --json": [str(path), "--json"],
        "translate": [str(tmp_path / "i.tif"), "--model", str(path), "--out", str(tmp_path / "o.tif")],
        "export": [str(path), "--format", "state-dict", "--out", str(tmp_path / "o.pth")],
        "train": ["--source", "a", "--target", "b", "--init", str(path), "--out", str(tmp_path / "run")],
    }[command]
    assert run([command.split()[0], *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert said.splitlines() == [f"error: {path}: the header is not valid: training is 5, which should be a table"]


def test_a_metric_that_is_not_a_number_is_none_and_the_file_opens(tmp_path: Path) -> None:
    """Files of version 1 may hold it; new ones never do."""
    path = with_header(LINEAR, changed(header_text(LINEAR), ("metrics", "mae"), "NaN"), tmp_path / "m.safetensors")
    model = load_model(path)
    assert model.metrics["mae"] is None
    save_model(model, path)
    assert "NaN" not in header_text(path)


@pytest.mark.parametrize("kind", ["U8", "BOOL"])
def test_weights_of_another_type_are_refused(kind: str, tmp_path: Path) -> None:
    """A type of one byte over the same bytes would have another shape; so the header of the container is changed."""
    path = tmp_path / "m.safetensors"
    shutil.copy(LINEAR, path)
    model = load_model(path)
    from safetensors.torch import save_file

    tensors = {name: tensor.to(torch.uint8 if kind == "U8" else torch.bool) for name, tensor in model.weights.items()}
    assert model.discriminator is not None
    tensors |= {f"discriminator.{name}": tensor for name, tensor in model.discriminator.weights.items()}
    save_file(tensors, path, metadata={"pix2pix": header_text(LINEAR)})
    with pytest.raises(ModelFileError, match=f"is of type {kind}; the file is damaged"):
        load_model(path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100)
@given(values)
def test_read_tables_are_plain_or_refused(value: Any) -> None:
    try:
        table = read_table(json.dumps(value))
    except ValueError as error:
        assert "\n" not in str(error)
        return
    assert isinstance(value, dict)
    json.dumps(table, allow_nan=False).encode()
