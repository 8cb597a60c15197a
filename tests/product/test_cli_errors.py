"""Bad input: exit code 2 (1 where it fails midway), one clear line, no traceback, nothing half-written."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_pix2pix import demonstration
from napari_pix2pix.cli.application import run
from pix2pix_training.model_file import save_model
from tests.product.conftest import model_for
from tests.training.test_model_file import rewrite_header

TINY = ["--steps", "1", "--patch-size", "32", "--base-width", "4", "--depth", "3"]

Fails = Callable[..., str]


@pytest.fixture
def fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Run the command; return its one line of error."""

    def check(*arguments: str | Path, code: int = 2) -> str:
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        assert run([str(a) for a in arguments]) == code
        captured = capsys.readouterr()
        errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert captured.err.splitlines()[-1] == errors[0]
        assert "Traceback" not in captured.err + captured.out
        assert sorted(tmp_path.rglob("*")) == before
        return errors[0]

    return check


def training(folders: tuple[Path, Path], out: Path) -> list[str | Path]:
    return ["train", "--source", folders[0], "--target", folders[1], "--out", out, *TINY]


def test_missing_file(fails: Fails, tmp_path: Path, folders: tuple[Path, Path], model_path: Path) -> None:
    assert "does not exist" in fails(*training((tmp_path / "none", folders[1]), tmp_path / "run"))
    assert "does not exist" in fails(
        "translate", tmp_path / "x.tif", "--model", model_path, "--out", tmp_path / "o.tif"
    )
    image = folders[0] / "0.tif"
    assert "does not exist" in fails("translate", image, "--model", tmp_path / "no.st", "--out", tmp_path / "o.tif")
    assert "does not exist" in fails("info", tmp_path / "nothing.tif")


def test_empty_folder(fails: Fails, tmp_path: Path, folders: tuple[Path, Path], model_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no images" in fails(*training((empty, folders[1]), tmp_path / "run"))
    assert "holds no images" in fails("translate", empty, "--model", model_path, "--out", tmp_path / "out")


def test_stems_that_do_not_match(fails: Fails, tmp_path: Path, folders: tuple[Path, Path]) -> None:
    (folders[1] / "0.tif").rename(folders[1] / "other.tif")
    assert "have no partner" in fails(*training(folders, tmp_path / "run"))


def test_pair_of_different_sizes(fails: Fails, tmp_path: Path, folders: tuple[Path, Path]) -> None:
    tifffile.imwrite(folders[1] / "2.tif", np.zeros((40, 47), np.uint8))
    assert "equal height and width" in fails(*training(folders, tmp_path / "run"))


def test_different_channel_counts_within_a_set(fails: Fails, tmp_path: Path, folders: tuple[Path, Path]) -> None:
    tifffile.imwrite(folders[0] / "2.tif", np.zeros((40, 48, 3), np.uint8), photometric="rgb")
    assert "same number of channels" in fails(*training(folders, tmp_path / "run"))


def test_image_smaller_than_the_patch(fails: Fails, tmp_path: Path, folders: tuple[Path, Path]) -> None:
    assert "less than a patch of 64" in fails(*training(folders, tmp_path / "run"), "--patch-size", "64")


def test_truncated_tiff(fails: Fails, tmp_path: Path, folders: tuple[Path, Path], model_path: Path) -> None:
    damaged = folders[0] / "1.tif"
    damaged.write_bytes(damaged.read_bytes()[:700])
    assert "1.tif" in fails(*training(folders, tmp_path / "run"))
    assert "1.tif" in fails("translate", damaged, "--model", model_path, "--out", tmp_path / "out.tif")
    assert "1.tif" in fails(
        "translate", folders[0], "--model", model_path, "--out", tmp_path / "o", "--on-error", "stop"
    )


def test_image_without_a_valid_pixel(
    fails: Fails, tmp_path: Path, folders: tuple[Path, Path], model_path: Path
) -> None:
    empty = tmp_path / "nan.tif"
    tifffile.imwrite(empty, np.full((40, 48), np.nan, np.float32))
    save_model(model_for(1, 1, "float32"), model_path)
    assert "not one valid pixel" in fails("translate", empty, "--model", model_path, "--out", tmp_path / "out.tif")
    message = fails(*training((empty, folders[1] / "0.tif"), tmp_path / "run"), "--validation", "0")
    assert "not one valid pixel" in message


def test_constant_target(fails: Fails, tmp_path: Path, folders: tuple[Path, Path]) -> None:
    for path in folders[1].iterdir():
        tifffile.imwrite(path, np.full((40, 48), 9, np.uint8))
    assert "nothing to learn" in fails(*training(folders, tmp_path / "run"))


@pytest.mark.parametrize("damage", ["corrupt", "truncated", "newer", "pickle"])
def test_model_file_that_cannot_be_used(
    fails: Fails, damage: str, model_path: Path, image_path: Path, tmp_path: Path
) -> None:
    content = model_path.read_bytes()
    if damage == "corrupt":
        model_path.write_bytes(content[:20] + bytes(len(content) - 20))
    elif damage == "truncated":
        model_path.write_bytes(content[: len(content) // 2])
    elif damage == "newer":
        rewrite_header(model_path, format_version=3)
    else:
        model_path.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
    message = fails("translate", image_path, "--model", model_path, "--out", tmp_path / "out.tif")
    assert "model" in message
    fails("info", model_path)


def test_existing_output(fails: Fails, tmp_path: Path, model_path: Path, image_path: Path) -> None:
    out = tmp_path / "out.tif"
    out.write_bytes(b"precious")
    assert "exists already" in fails("translate", image_path, "--model", model_path, "--out", out)
    assert out.read_bytes() == b"precious"


def test_existing_run(fails: Fails, tmp_path: Path, folders: tuple[Path, Path]) -> None:
    assert run([str(a) for a in training(folders, tmp_path / "run")]) == 0
    assert "holds a training run already" in fails(*training(folders, tmp_path / "run"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(fails: Fails, tmp_path: Path, model_path: Path, image_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "permission" in fails("translate", image_path, "--model", model_path, "--out", locked / "out.tif")


def test_folder_that_is_a_file(
    fails: Fails, tmp_path: Path, model_path: Path, image_path: Path, folders: tuple[Path, Path]
) -> None:
    assert "is not a folder" in fails("translate", image_path, "--model", model_path, "--out", image_path / "out.tif")
    assert "image.tif" in fails(*training(folders, image_path / "run"))
    assert "give a folder" in fails("translate", folders[0], "--model", model_path, "--out", image_path)


def test_image_with_other_channels_than_the_model(fails: Fails, tmp_path: Path, model_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "rgb.png")
    message = fails("translate", tmp_path / "rgb.png", "--model", model_path, "--out", tmp_path / "out.png")
    assert "3 channels, the model expects 1" in message


def test_format_that_cannot_hold_the_result(fails: Fails, tmp_path: Path, model_path: Path) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((3, 20, 20), np.uint8), imagej=True, metadata={"axes": "ZYX"})
    message = fails("translate", tmp_path / "stack.tif", "--model", model_path, "--out", tmp_path / "out.png")
    assert "use the format" in message


def test_two_inputs_with_one_name(fails: Fails, tmp_path: Path, model_path: Path, folders: tuple[Path, Path]) -> None:
    message = fails("translate", *folders, "--model", model_path, "--out", tmp_path / "out")
    assert "would both become" in message


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--steps", "1", "--minutes", "1"], "give only one"),
        (["--preset", "fancy"], "choose one of seamless, paper, faithful"),
        (["--depth", "99"], "between 2 and 10"),
        (["--patch-size", "100"], "not a multiple"),
        (["--device", "cuda:7"], "cuda"),
        (["--device", "tpu"], "not known"),
        (["--validation", "2"], "fraction"),
        (["--validation", "nowhere"], "neither a fraction"),
        (["--validation", "0:9,0:9"], "single pair"),
        (["--source-channels", "a"], "not a list of numbers"),
        (["--source-channels", "5"], "no channel 5"),
        (["--source-values", "guess"], "choose one of"),
        (["--target-values", "image"], "per image"),
        (["--config", "none.toml"], "does not exist"),
        (["--init", "none.safetensors"], "does not exist"),
        (["--no-such-option"], "No such option"),
        (["--steps", "many"], "--steps"),
        (["--pairs", "x"], "not both"),
    ],
)
def test_wrong_use_of_train(
    fails: Fails, arguments: list[str], message: str, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    source, target = folders
    assert message in fails("train", "--source", source, "--target", target, "--out", tmp_path / "run", *arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--max-memory", "plenty"], "is not understood"),
        (["--scheme", "magic"], "choose one of"),
        (["--backend", "tensorrt"], "choose another backend"),
        (["--on-error", "shrug"], "stop or skip"),
        (["--format", "gif"], "no format 'gif'"),
        (["--tile", "3"], "between"),
        (["--statistics", "running"], "no running statistics"),
    ],
)
def test_wrong_use_of_translate(
    fails: Fails, arguments: list[str], message: str, model_path: Path, image_path: Path, tmp_path: Path
) -> None:
    assert message in fails("translate", image_path, "--model", model_path, "--out", tmp_path / "out.tif", *arguments)


@pytest.mark.parametrize("name", ["o.webp", "results.v2", "o.jp2"])
@pytest.mark.parametrize("options", [[], ["--format", "png"]])
def test_unknown_ending_of_an_output(
    fails: Fails, name: str, options: list[str], model_path: Path, image_path: Path, tmp_path: Path
) -> None:
    message = fails("translate", image_path, "--model", model_path, "--out", tmp_path / name, *options)
    assert f"no format that is written has the ending {Path(name).suffix}" in message


@pytest.mark.parametrize("name", ["image.tif", "link.tif", "hard.tif", "folder/../image.tif"])
def test_output_in_place_of_its_input(
    fails: Fails, name: str, model_path: Path, image_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.tif").symlink_to(image_path)
    (tmp_path / "hard.tif").hardlink_to(image_path)
    message = fails("translate", image_path, "--model", model_path, "--out", tmp_path / name, "--overwrite")
    assert "would take the place of the input" in message


@pytest.mark.parametrize("name", ["n" * 300, "n" * 300 + ".tif", "n" * 300 + ".ome.zarr", "n" * 245 + ".tif"])
def test_name_that_is_too_long_for_the_disk(
    fails: Fails, name: str, model_path: Path, image_path: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    message = fails("translate", image_path, "--model", model_path, "--out", tmp_path / name)
    assert f"{tmp_path / name} cannot be written: File name too long; choose another name" in message
    if name == "n" * 300:
        message = fails("train", "--source", folders[0], "--target", folders[1], "--out", tmp_path / name)
        assert f"{tmp_path / name} cannot be written: File name too long; choose another name" in message


def test_outputs_in_the_folder_of_their_inputs(fails: Fails, model_path: Path, folders: tuple[Path, Path]) -> None:
    message = fails("translate", folders[0], "--model", model_path, "--out", folders[0], "--overwrite")
    assert "0.tif would take the place of the input" in message


@pytest.mark.parametrize("name", ["o.tif", "o.ome.zarr", "o.PNG"])
def test_name_of_an_image_for_several(
    fails: Fails, name: str, model_path: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    message = fails("translate", folders[0], "--model", model_path, "--out", tmp_path / name)
    assert f"{name} is the name of an image, and there are 4 inputs; give a folder" in message


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give either --prediction"),
        (["--data-range", "5,1"], "LOW must be below HIGH"),
        (["--region", "everything"], "not of the form"),
    ],
)
def test_wrong_use_of_evaluate(fails: Fails, arguments: list[str], message: str, folders: tuple[Path, Path]) -> None:
    prediction = ["--prediction", str(folders[0])] if arguments else []
    assert message in fails("evaluate", "--target", folders[1], *prediction, *arguments)


@pytest.mark.parametrize(
    ("options", "name", "message"),
    [
        (["--format", "onnx"], "o.txt", "has the ending .onnx, not .txt"),
        (["--format", "onnx"], "model.safetensors", "has the ending .onnx, not .safetensors"),
        (["--format", "state-dict"], "o.onnx", "has the ending .pth or .pt, not .onnx"),
        (["--format", "bioimageio"], "o.tar", "has the ending .zip, not .tar"),
    ],
)
def test_ending_that_an_export_does_not_have(
    fails: Fails, model_path: Path, tmp_path: Path, options: list[str], name: str, message: str
) -> None:
    assert message in fails("export", model_path, "--out", tmp_path / name, "--overwrite", *options)


def test_ending_that_a_model_does_not_have(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "g.pth").write_bytes(b"")
    message = fails("import-weights", tmp_path / "g.pth", "--out", tmp_path / "g.pth", "--overwrite")
    assert "has the ending .safetensors, not .pth" in message


@pytest.mark.parametrize("name", ["model.safetensors", "run.tif", "config.toml"])
def test_name_of_a_file_for_a_folder(
    fails: Fails, tmp_path: Path, folders: tuple[Path, Path], model_path: Path, name: str
) -> None:
    out = tmp_path / "new" / name
    expected = f"is the name of a file, and a folder is written; give a name without {out.suffix}"
    assert expected in fails(*training(folders, out))
    assert expected in fails("demo", "--out", out)
    assert expected in fails("compile", model_path, "--architectures", "sm86", "--out", out)


def test_no_command_and_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["paint"]) == 2
    assert "No such command" in capsys.readouterr().err
    assert run([]) == 2
    assert run(["--help"]) == 0


@pytest.mark.parametrize(
    "options, message",
    [
        (["--format", "hdf5"], "format 'hdf5' is not known; choose onnx, state-dict, bioimageio"),
        (["--format", "onnx", "--name", "my model"], "--name is for --format bioimageio, not for onnx"),
        (["--format", "state-dict", "--dropout", "off"], "--dropout is for --format onnx or bioimageio"),
        (["--format", "state-dict", "--with-mapping"], "--with-mapping is for --format onnx, not for state-dict"),
        (["--format", "onnx", "--statistics", "guess"], "choose one of running, image, tile"),
        (["--format", "state-dict"], "5 down-samplings or more, and this one has 3"),
        (["--format", "bioimageio"], "needs --name TEXT, and --sample IMAGE"),
        (["--format", "bioimageio", "--name", "my model", "--sample", "x.tif"], "--author"),
    ],
)
def test_exports_that_cannot_be(
    fails: Fails, model_path: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    out = tmp_path / "exported"
    assert message in fails("export", model_path, "--out", out, *options)
    assert not out.exists()


def test_name_that_is_too_long(fails: Fails, tmp_path: Path, model_path: Path, image_path: Path) -> None:
    out = tmp_path / ("n" * 300 + ".tif")
    message = fails("translate", image_path, "--model", model_path, "--out", out)
    assert message.endswith("cannot be written: File name too long; choose another name")


def test_link_that_leads_back_to_itself(fails: Fails, tmp_path: Path, model_path: Path, image_path: Path) -> None:
    loop = tmp_path / "loop.tif"
    loop.symlink_to(loop)
    assert "leads back to itself" in fails("translate", image_path, "--model", model_path, "--out", loop)
    assert "does not exist" in fails("translate", loop, "--model", model_path, "--out", tmp_path / "out.tif")


def test_names_that_no_file_can_have(fails: Fails, tmp_path: Path, model_path: Path, image_path: Path) -> None:
    long = tmp_path / ("n" * 300)
    assert "File name too long" in fails("info", long)
    assert "File name too long" in fails("translate", image_path, "--model", long, "--out", tmp_path / "out.tif")
    assert "File name too long" in fails("translate", long, "--model", model_path, "--out", tmp_path / "out.tif")
    assert "File name too long" in fails("evaluate", "--prediction", long, "--target", image_path)
    assert "File name too long" in fails(*training((long, long), tmp_path / "run"))


def test_a_pipe_is_no_image(fails: Fails, tmp_path: Path, model_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    assert "is no ordinary file" in fails("info", tmp_path / "pipe.tif")
    message = fails("translate", tmp_path / "pipe.tif", "--model", model_path, "--out", tmp_path / "out.tif")
    assert "is no ordinary file" in message


@pytest.mark.parametrize("leads_to", ["loop", "nowhere"])
def test_links_that_lead_nowhere(
    leads_to: str, fails: Fails, tmp_path: Path, folders: tuple[Path, Path], model_path: Path
) -> None:
    link, image = tmp_path / "loop", folders[0] / "0.tif"
    link.symlink_to(leads_to)
    assert "loop does not exist" in fails("translate", link, "--model", model_path, "--out", tmp_path / "o.tif")
    lost = f"is a link that leads {'back to itself' if leads_to == 'loop' else 'nowhere'}; choose another place"
    assert lost in fails(*training(folders, link))
    assert lost in fails("demo", "--out", link)
    (tmp_path / "loop.tif").symlink_to(f"{leads_to}.tif")
    for out in (link, link / "o.tif", tmp_path / "loop.tif"):
        assert lost in fails("translate", image, "--model", model_path, "--out", out, "--overwrite")
    assert lost in fails("export", model_path, "--format", "state-dict", "--out", link)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "loop.tif").symlink_to(f"{leads_to}.tif")
    translation = ("translate", tmp_path / "images", "--model", model_path, "--out", tmp_path / "o")
    assert "loop.tif does not exist" in fails(*translation)
    assert "loop.tif does not exist" in fails(*translation, "--on-error", "skip", code=1)


def test_demo_replaces_only_its_own_files(fails: Fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demonstration, "_TRAINING_SIZE", 64)
    monkeypatch.setattr(demonstration, "_LARGE_SIZE", 64)
    (tmp_path / "notes.txt").touch()
    assert "is not the folder of a demo" in fails("demo", "--out", tmp_path, "--overwrite")
    (tmp_path / "notes.txt").unlink()
    demonstration.prepare_demo(tmp_path, overwrite=False)
    (tmp_path / "notes.txt").touch()
    demonstration.prepare_demo(tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").exists()
    assert "exists already" in fails("demo", "--out", tmp_path)
