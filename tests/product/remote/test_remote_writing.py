"""OME-Zarr that is written to a bucket, compared with the same on the disk."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import tifffile
import zarr

from napari_pix2pix.cli.application import run
from napari_pix2pix.formats import ome_zarr_layout, open_image
from napari_pix2pix.formats.output_state import OutputState
from napari_pix2pix.formats.remote import RemotePath, as_path, zarr_place
from napari_pix2pix.formats.remote_output import CLAIM, claim
from napari_pix2pix.translation import region_grid as region_geometry
from napari_pix2pix.translation.pipeline import translate_file
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.errors import OutputError, Pix2PixError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.model_file import Model, save_model
from pix2pix_training.network_config import GeneratorConfig
from tests.product.remote.conftest import SECRET, pixels_of, upload, write_pixels
from tests.product.remote.servers import WebServer
from tests.product.translation.conftest import random_model

EXACT = TranslationSettings(scheme="exact", tile=64, region=128)
SIZE = (200, 230)


@pytest.fixture(autouse=True)
def small_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regions of 128 pixels with chunks of 32: 4 regions, levels of their own and above them."""
    monkeypatch.setattr(region_geometry, "MULTIPLE_PX", 128)
    monkeypatch.setattr(ome_zarr_layout, "CHUNK_PX", 32)
    monkeypatch.setattr(ome_zarr_layout, "_UNITS_PX", (128,))
    monkeypatch.setattr(ome_zarr_layout, "_SMALLEST_LEVEL_PX", 32)


@pytest.fixture
def model() -> Model:
    return random_model(GeneratorConfig(base_width=3, depth=3, source_channels=1, target_channels=2), InferenceConfig())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, pixels_of(*SIZE)[0])
    return path


@pytest.fixture
def out(bucket: str) -> RemotePath:
    path = as_path(f"{bucket}/results/x.ome.zarr")
    assert isinstance(path, RemotePath)
    return path


def content(path: Path) -> Iterator[object]:
    """Metadata and pixels of all levels."""
    group = zarr.open_group(zarr_place(path), mode="r")
    ome = group.attrs.asdict()["ome"]
    yield ome
    for level in range(len(ome["multiscales"][0]["datasets"])):  # type: ignore[index,call-overload,arg-type]
        array = group[str(level)]
        assert isinstance(array, zarr.Array)
        yield array.metadata.to_dict()
        yield np.asarray(array[:]).tobytes()


def objects_below(path: RemotePath) -> list[str]:
    return sorted(path.versions_below())


def stopped(image: Path, model: Model, out: Path) -> None:
    """A translation that ends in its second region, by an error that nothing expects."""

    def stop(_done: int, _all: int) -> None:
        if OutputState(out).regions_done:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        translate_file(image, model, out, EXACT, progress=stop)


def test_an_output_in_a_bucket_is_what_it_is_on_the_disk(
    image: Path, model: Model, out: RemotePath, tmp_path: Path
) -> None:
    translate_file(image, model, tmp_path / "x.ome.zarr", EXACT)

    translate_file(image, model, out, EXACT)

    assert list(content(out)) == list(content(tmp_path / "x.ome.zarr"))
    assert CLAIM not in objects_below(out)
    local = {file.relative_to(tmp_path / "x.ome.zarr").as_posix() for file in (tmp_path / "x.ome.zarr").rglob("*")}
    assert set(objects_below(out)) <= local
    assert not list((tmp_path / "state").iterdir())


def test_from_bucket_to_bucket_by_the_command(model: Model, out: RemotePath, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model.safetensors")
    local = write_pixels(tmp_path / "in.ome.zarr", pixels_of(*SIZE), "ome-zarr")
    upload(local, str(out.parent))
    options = ["--model", str(tmp_path / "model.safetensors"), "--region", "128", "--tile", "64", "--scheme", "exact"]

    assert run(["translate", str(local), *options, "--out", str(tmp_path / "x.ome.zarr")]) == 0
    assert run(["translate", f"{out.parent}/in.ome.zarr", *options, "--out", str(out), "--resume"]) == 0

    assert list(content(out)) == list(content(tmp_path / "x.ome.zarr"))


def test_it_is_no_image_before_it_is_complete_and_goes_on_from_where_it_was(
    image: Path, model: Model, out: RemotePath, tmp_path: Path
) -> None:
    translate_file(image, model, tmp_path / "x.ome.zarr", EXACT)

    stopped(image, model, out)

    assert OutputState(out).regions_done == 1
    assert "zarr.json" not in objects_below(out)
    with pytest.raises(OutputError, match="are done already"):
        translate_file(image, model, out, EXACT)
    report = translate_file(image, model, out, EXACT, resume=True)
    assert report.tiles_reused > 0
    assert list(content(out)) == list(content(tmp_path / "x.ome.zarr"))
    assert CLAIM not in objects_below(out)


def test_a_changed_shard_is_made_again(image: Path, model: Model, out: RemotePath, tmp_path: Path) -> None:
    translate_file(image, model, tmp_path / "x.ome.zarr", EXACT)
    stopped(image, model, out)
    (out / "0" / "c" / "0" / "0" / "0").write(b"damaged")
    (out / "0" / "c" / "0" / "0" / "1").unlink()

    translate_file(image, model, out, EXACT, resume=True)

    assert list(content(out)) == list(content(tmp_path / "x.ome.zarr"))


def test_a_complete_output_is_refused_left_or_replaced_as_asked(image: Path, model: Model, out: RemotePath) -> None:
    translate_file(image, model, out, EXACT)
    before = out.versions_below()

    with pytest.raises(OutputError, match=re.escape(f"{out} exists already")):
        translate_file(image, model, out, EXACT)
    assert translate_file(image, model, out, EXACT, resume=True).complete
    assert out.versions_below() == before
    tifffile.imwrite(image, pixels_of(100, 150, seed=1)[0])
    translate_file(image, model, out, EXACT, overwrite=True)
    assert len(objects_below(out)) < len(before)
    with open_image(out) as replaced:
        assert replaced.shape[-2:] == (100, 150)


def test_what_was_begun_is_thrown_away_only_where_that_is_asked(image: Path, model: Model, out: RemotePath) -> None:
    stopped(image, model, out)

    translate_file(image, model, out, EXACT, overwrite=True)

    assert CLAIM not in objects_below(out)
    assert "zarr.json" in objects_below(out)


def test_an_output_that_another_machine_writes_is_refused(
    image: Path, model: Model, out: RemotePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(image, model, out)
    before = out.versions_below()
    monkeypatch.setenv("NAPARI_PIX2PIX_STATE", str(tmp_path / "another state"))

    for resume, overwrite in ((False, False), (True, False), (False, True)):
        with pytest.raises(OutputError, match="is being written by"):
            translate_file(image, model, out, EXACT, resume=resume, overwrite=overwrite)

    assert out.versions_below() == before
    assert not list((tmp_path / "another state").iterdir())


def test_objects_of_somebody_else_stay(image: Path, model: Model, out: RemotePath) -> None:
    (out / "notes.txt").write(b"mine")

    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"objects lie below that name \(notes.txt\)"):
            translate_file(image, model, out, EXACT, overwrite=overwrite)

    assert objects_below(out) == ["notes.txt"]


def test_an_image_with_labels_is_not_replaced(image: Path, model: Model, out: RemotePath) -> None:
    translate_file(image, model, out, EXACT)
    (out / "labels" / "zarr.json").write(b"{}")

    with pytest.raises(OutputError, match="holds more than an image"):
        translate_file(image, model, out, EXACT, overwrite=True)


def test_two_at_once_are_told_apart_by_the_bucket(out: RemotePath) -> None:
    claim(out, "one", None)

    with pytest.raises(OutputError, match="is being written by"):
        claim(out, "two", None)

    claim(out, "one", None)
    claim(out, "three", "one")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.tif", "outputs in buckets are OME-Zarr"),
        ("results/x.ome.zarr/inner.ome.zarr", "lies inside .*results/x.ome.zarr, which is a Zarr store"),
    ],
)
def test_outputs_that_cannot_be(name: str, words: str, image: Path, model: Model, out: RemotePath, bucket: str) -> None:
    translate_file(image, model, out, EXACT)

    with pytest.raises(OutputError, match=words):
        translate_file(image, model, as_path(f"{bucket}/{name}"), EXACT)


def test_a_web_server_is_not_written_to(image: Path, model: Model, web: WebServer) -> None:
    with pytest.raises(OutputError, match="a web server can only be read"):
        translate_file(image, model, as_path(f"{web.url}/x.ome.zarr"), EXACT)


def test_a_bucket_that_does_not_exist_is_one_line(
    image: Path, model: Model, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(model, tmp_path / "model.safetensors")

    code = run(
        ["translate", str(image), "--model", str(tmp_path / "model.safetensors"), "--out", f"{bucket}-x/x.ome.zarr"]
    )

    assert code == 2
    assert "its bucket does not exist" in capsys.readouterr().err


def test_wrong_credentials_are_one_line(
    image: Path, model: Model, out: RemotePath, tmp_path: Path, s3_endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(model, tmp_path / "model.safetensors")
    (out.parent / "x.tif").write(image.read_bytes())
    wrong = ["--model", str(tmp_path / "model.safetensors"), "--out"]
    answers_all_until(s3_endpoint, "0")
    try:
        assert run(["info", f"{out.parent}/x.tif", "--json"]) == 2
        assert run(["translate", f"{out.parent}/x.tif", *wrong, str(tmp_path / "y.tif")]) == 2
        assert run(["translate", str(image), *wrong, str(out)]) == 2
    finally:
        answers_all_until(s3_endpoint, "inf")

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert "access is denied; check the credentials in the environment (AWS_ACCESS_KEY_ID" in line
        assert str(out.parent) in line
        assert SECRET not in line


def answers_all_until(endpoint: str, requests: str) -> None:
    """After so many requests, moto asks for credentials that it knows."""
    headers = {"Content-Type": "text/plain"}
    asked = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", requests.encode(), headers, method="POST")
    urllib.request.urlopen(asked).close()


def test_a_bucket_that_cannot_be_reached_is_one_line(
    image: Path,
    model: Model,
    out: RemotePath,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_model(model, tmp_path / "model.safetensors")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.get_filesystem_class("s3").clear_instance_cache()

    assert run(["translate", str(image), "--model", str(tmp_path / "model.safetensors"), "--out", str(out)]) == 2

    fsspec.get_filesystem_class("s3").clear_instance_cache()
    assert f"{out} cannot be written: its server cannot be reached" in capsys.readouterr().err


def test_a_server_that_is_gone_midway_is_one_line(image: Path, model: Model, out: RemotePath) -> None:
    def vanish(_done: int, _all: int) -> None:
        if OutputState(out).regions_done == 1:
            (out / "0" / "zarr.json").unlink()

    with pytest.raises(Pix2PixError, match=re.escape(f"{out} could not be completed")):
        translate_file(image, model, out, EXACT, progress=vanish)


def test_no_secret_is_left_anywhere(
    image: Path,
    model: Model,
    out: RemotePath,
    tmp_path: Path,
    served: Path,
    web: WebServer,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    save_model(model, tmp_path / "model.safetensors")
    (served / "image.tif").write_bytes(image.read_bytes())
    web.signature = SECRET
    options = ["--model", str(tmp_path / "model.safetensors"), "--region", "128", "--tile", "64", "--scheme", "exact"]

    assert run(["translate", f"{web.url}/image.tif?sig={SECRET}", *options, "--out", str(out), "--json"]) == 0
    assert run(["translate", f"{web.url}/image.tif?sig={SECRET}", *options, "--out", str(out), "--json"]) == 2
    local = tmp_path / "local.ome.zarr"
    assert run(["translate", f"{web.url}/image.tif?sig={SECRET}", *options, "--out", str(local), "--json"]) == 0
    stopped(image, model, out.with_name("y.ome.zarr"))

    said = capsys.readouterr()
    assert SECRET not in said.out + said.err + caplog.text
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 5
    assert not [file for file in files if SECRET.encode() in file.read_bytes()]
    for name in objects_below(out.parent):
        with (out.parent / name).open("rb") as file:
            assert SECRET.encode() not in file.read()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("regions", [1, 3, 7])
def test_a_killed_process_is_gone_on_with(
    regions: int, model: Model, out: RemotePath, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save_model(model, tmp_path / "model.safetensors")
    tifffile.imwrite(tmp_path / "large.tif", pixels_of(2500, 2500)[0])
    options = ["--model", str(tmp_path / "model.safetensors"), "--region", "1024", "--tile", "512", "--scheme", "exact"]
    command = [sys.executable, "-m", "napari_pix2pix", "translate", str(tmp_path / "large.tif"), *options]
    subprocess.run([*command, "--out", str(tmp_path / "x.ome.zarr")], check=True)
    process = subprocess.Popen([*command, "--out", str(out)])
    while OutputState(out).regions_done < regions:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert "zarr.json" not in objects_below(out)

    subprocess.run([*command, "--out", str(out), "--resume"], check=True)

    assert list(content(out)) == list(content(tmp_path / "x.ome.zarr"))
    assert CLAIM not in objects_below(out)
    assert SECRET not in "".join(capfd.readouterr())
