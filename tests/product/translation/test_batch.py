"""Which output belongs to which input, and what goes on where inputs cannot be opened."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_pix2pix.cli.application import run
from napari_pix2pix.formats import describe_image, open_image
from napari_pix2pix.formats.georeference import georeference_tags, web_mercator
from napari_pix2pix.translation.batch import Job, jobs_for
from pix2pix_training.errors import ImageError, OutputError
from pix2pix_training.model_file import model_digest, save_model
from tests.product.conftest import model_for

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with 1.tif and 3.tif."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in "13":
        tifffile.imwrite(folder / f"{number}.tif", PIXELS)
    return folder


def _translate(tmp_path: Path, *arguments: str | Path) -> int:
    model = tmp_path / "model.safetensors"
    if not model.exists():
        save_model(model_for(1, 1), model)
    return run(["translate", *map(str, arguments), "--model", str(model)])


def _empty(folder: Path) -> None:
    (folder / "2.tif").write_bytes(b"")


def _cut_png(folder: Path) -> None:
    Image.fromarray(PIXELS).save(folder / "2.png")
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:500])


def _cut_tiff(folder: Path) -> None:
    (folder / "2.tif").write_bytes((folder / "1.tif").read_bytes()[:6])


def _text(folder: Path) -> None:
    (folder / "2.jpg").write_text("no image")


def _folder(folder: Path) -> None:
    (folder / "2.tif").mkdir()


def _dangling(folder: Path) -> None:
    (folder / "2.tif").symlink_to(folder / "none.tif")


def _no_zarr(folder: Path) -> None:
    (folder / "2.ome.zarr").mkdir()
    (folder / "2.ome.zarr" / "zarr.json").write_text("{")


@pytest.mark.parametrize("spoil", [_empty, _cut_png, _cut_tiff, _text, _folder, _dangling, _no_zarr])
@pytest.mark.parametrize("options", [(), ("--format", "png")])
def test_skip_goes_on_after_inputs_that_cannot_be_opened(
    tmp_path: Path,
    inputs: Path,
    spoil: Callable[[Path], None],
    options: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(inputs)
    code = _translate(tmp_path, inputs, "--out", tmp_path / "out", "--on-error", "skip", "--json", *options)

    shown = capsys.readouterr()
    result = json.loads(shown.out.splitlines()[-1])
    assert code == 0
    assert [Path(path).stem for path in result["outputs"]] == ["1", "3"]
    assert [Path(path).name.partition(".")[0] for path in result["failed"]] == ["2"]
    assert sum("skipped" in line for line in shown.err.splitlines()) == 1


def test_skip_goes_on_after_an_input_that_is_not_there(
    tmp_path: Path, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [inputs / "1.tif", inputs / "none.tif", inputs / "3.tif"]
    assert _translate(tmp_path, *names, "--out", tmp_path / "out", "--on-error", "skip", "--json") == 0
    assert "does not exist" in json.loads(capsys.readouterr().out.splitlines()[-1])["failed"][str(names[1])]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.tif", "3.tif"]


def test_skip_where_nothing_can_be_opened(tmp_path: Path, inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in inputs.iterdir():
        path.write_bytes(b"")
    assert _translate(tmp_path, inputs, "--out", tmp_path / "out", "--on-error", "skip") == 1
    assert "all 2 images failed; the first: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_stop_after_the_first_output_is_a_failure_midway(
    tmp_path: Path, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _cut_tiff(inputs)
    assert _translate(tmp_path, inputs, "--out", tmp_path / "out", "--format", "tiff") == 1
    assert "(1 of 3 outputs are done)" in capsys.readouterr().err


def test_stop_says_before_it_begins_what_cannot_be_opened(tmp_path: Path, inputs: Path) -> None:
    _cut_tiff(inputs)
    assert _translate(tmp_path, inputs, "--out", tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root and Windows may read everything")
def test_input_without_permission(inputs: Path, tmp_path: Path) -> None:
    (inputs / "1.tif").chmod(0)
    jobs = jobs_for([inputs], tmp_path / "out", file_format="same", on_error="skip")
    assert "cannot be read: Permission denied" in jobs[0].failure


def _jobs(inputs: Path | list[Path], out: Path, file_format: str = "same") -> list[Job]:
    return jobs_for(inputs if isinstance(inputs, list) else [inputs], out, file_format=file_format)


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize(("file_format", "expected"), [("same", "1.tif"), ("png", "1.png"), ("ome-zarr", "1.ome.zarr")])
def test_path_without_an_ending_is_a_folder(
    tmp_path: Path, inputs: Path, existing: bool, file_format: str, expected: str
) -> None:
    out = tmp_path / "results"
    if existing:
        out.mkdir()
    assert _jobs(inputs / "1.tif", out, file_format) == [Job((inputs / "1.tif",), out / expected)]


def test_existing_folder_with_a_dot_in_its_name(tmp_path: Path, inputs: Path) -> None:
    out = tmp_path / "results.v2"
    out.mkdir()
    assert _jobs(inputs / "1.tif", out)[0].output == out / "1.tif"


@pytest.mark.parametrize("name", ["o.tif", "O.TIF", "o.ome.tiff", "o.zarr", "o.ome.zarr", "o.OME.ZARR"])
def test_name_of_an_image_is_the_output(tmp_path: Path, inputs: Path, name: str) -> None:
    assert _jobs(inputs / "1.tif", tmp_path / name) == [Job((inputs / "1.tif",), tmp_path / name)]


@pytest.mark.parametrize(
    ("name", "magic"),
    [("o.bmp", b"BM"), ("o.gif", b"GIF8"), ("o.GIF", b"GIF8"), ("o.png", b"\x89PNG"), ("o.jpg", b"\xff\xd8\xff"),
     ("o.tif", b"II*\0")],
)  # fmt: skip
def test_the_ending_of_an_output_is_its_format(tmp_path: Path, inputs: Path, name: str, magic: bytes) -> None:
    assert _translate(tmp_path, inputs / "1.tif", "--out", tmp_path / name) == 0
    assert (tmp_path / name).read_bytes().startswith(magic)
    with open_image(tmp_path / name) as written:
        assert written.shape == (1, *PIXELS.shape)


@pytest.fixture(params=["group", "array", "version 2"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "o.ome.zarr"
    if request.param == "array":
        zarr.create_array(path, shape=(4, 4), dtype="uint8", zarr_format=2)
    else:
        zarr.create_group(path, zarr_format=2 if request.param == "version 2" else 3)
    return path


def test_existing_zarr_is_the_output_and_no_folder(tmp_path: Path, inputs: Path, store: Path) -> None:
    assert _jobs(inputs / "1.tif", store) == [Job((inputs / "1.tif",), store)]
    with pytest.raises(OutputError, match=r"o\.ome\.zarr is the name of an image, and there are 2 inputs"):
        _jobs(inputs, store)


@pytest.mark.parametrize("name", ["1.tif", "labels/nuclei.ome.zarr", "results"])
def test_output_inside_a_zarr_store(inputs: Path, store: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"lies inside .*o\.ome\.zarr, which is a Zarr store"):
        _jobs(inputs / "1.tif", store / name)


def test_zarr_store_without_an_ending_is_no_folder(tmp_path: Path, inputs: Path) -> None:
    zarr.create_group(tmp_path / "store")
    with pytest.raises(OutputError, match="is a Zarr store, not a folder of images"):
        _jobs(inputs / "1.tif", tmp_path / "store")


@pytest.mark.parametrize("name", ["o.ome.zarr", "o.tif"])
def test_plain_folder_with_the_name_of_an_image(tmp_path: Path, inputs: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match="is a folder with the name of an image, but no OME-Zarr"):
        _jobs(inputs / "1.tif", tmp_path / name)


def test_file_without_an_ending_is_no_folder(tmp_path: Path, inputs: Path) -> None:
    (tmp_path / "results").write_text("mine")
    with pytest.raises(OutputError, match="is a file; give a folder"):
        _jobs(inputs / "1.tif", tmp_path / "results")


def test_output_that_holds_its_input(tmp_path: Path, store: Path) -> None:
    tifffile.imwrite(store / "in.tif", PIXELS)
    with pytest.raises(OutputError, match="would take the place of a folder that holds the input"):
        _jobs(store / "in.tif", store)


def test_files_that_belong_to_the_input_are_not_replaced(tmp_path: Path, inputs: Path) -> None:
    with pytest.raises(OutputError, match=r"3\.tif would take the place of the input"):
        jobs_for([inputs / "1.tif", inputs / "3.tif"], inputs / "3.tif", file_format="same", as_channels=True)


def test_empty_folder_with_skip(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(ImageError, match="holds no images"):
        jobs_for([tmp_path / "none"], tmp_path / "out", file_format="same", on_error="skip")


@pytest.mark.parametrize("name", ["o.ome.zarr", "o.zarr", "o.ome.zarr/", "link.ome.zarr"])
def test_existing_ome_zarr_is_refused_left_or_replaced_and_never_written_into(
    tmp_path: Path, inputs: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"{tmp_path}/{name}"
    first: list[str | Path] = [inputs / "1.tif", "--out", out]
    if name.startswith("link"):
        assert _translate(tmp_path, inputs / "1.tif", "--out", tmp_path / "other.ome.zarr") == 0
        (tmp_path / name).symlink_to(tmp_path / "other.ome.zarr")
    else:
        assert _translate(tmp_path, *first) == 0
    written = sorted(Path(out).rglob("*"))
    times = [path.stat().st_mtime_ns for path in written]
    capsys.readouterr()

    assert _translate(tmp_path, *first) == 2
    assert "exists already" in capsys.readouterr().err
    assert _translate(tmp_path, *first, "--resume") == 0
    assert "is complete already, nothing to do" in capsys.readouterr().err
    assert [path.stat().st_mtime_ns for path in written] == times
    assert _translate(tmp_path, *first, "--overwrite") == 0
    assert sorted(Path(out).rglob("*")) == written
    assert [path.stat().st_mtime_ns for path in written] != times


_PLACE = georeference_tags(web_mercator(pixel_size_m=1, left_m=0, top_m=0))
_FORMATS = {
    "tiff": ".tif",
    "ome-tiff": ".ome.tif",
    "imagej": ".tif",
    "geotiff": ".tif",
    "png": ".png",
    "jpeg": ".jpg",
    "ome-zarr": ".ome.zarr",
}


@pytest.mark.parametrize("file_format", _FORMATS)
def test_a_complete_output_says_by_which_model_and_settings_it_was_made(
    tmp_path: Path, inputs: Path, file_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image = inputs / "1.tif"
    if file_format == "geotiff":
        tifffile.imwrite(image, PIXELS, extratags=[(*tag, False) for tag in _PLACE])
    model = model_for(1, 1)
    other = replace(model, weights={name: -weights for name, weights in model.weights.items()})
    save_model(other, tmp_path / "other.safetensors")
    out = tmp_path / f"out{_FORMATS[file_format]}"
    first: list[str | Path] = [image, "--out", out, "--format", file_format]
    assert _translate(tmp_path, *first, "--tile", "64") == 0
    with open_image(out) as written:
        made = describe_image(written)["made_by"]
    assert made["program"].startswith("napari-pix2pix ") and made["tile"] == "64" and made["source"] == "1.tif"
    assert made["model"] == model_digest(model) and str(tmp_path) not in str(made)

    capsys.readouterr()
    assert _translate(tmp_path, *first, "--tile", "64", "--max-memory", "1GB", "--resume") == 0
    assert f"{out} is complete already, nothing to do\n" in capsys.readouterr().err
    assert _translate(tmp_path, *first, "--convert-values", "values", "--resume", "--json") == 0
    said = json.loads(capsys.readouterr().out)["warnings"]
    wanted = "made with tile 64 instead of as usual, convert_values as usual instead of values; give another name, or"
    assert any(wanted in remark for remark in said)
    command = ["translate", *map(str, first), "--tile", "64", "--model", str(tmp_path / "other.safetensors")]
    assert run([*command, "--resume"]) == 0
    assert f"is left as it is, though it was made with model {made['model']} instead of" in capsys.readouterr().err


def test_a_complete_output_of_another_program_does_not_say_how_it_was_made(
    tmp_path: Path, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(tmp_path / "out.tif", PIXELS)
    assert _translate(tmp_path, inputs / "1.tif", "--out", tmp_path / "out.tif", "--resume") == 0
    assert "it does not say which model and settings made it" in capsys.readouterr().err
