"""Regions made by a Dask cluster: the bytes are those of one process, whatever becomes of a worker or the client."""

from __future__ import annotations

import builtins
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_pix2pix.cli.application import run
from napari_pix2pix.formats.output_state import OutputState, Part
from napari_pix2pix.formats.remote import as_path
from napari_pix2pix.translation import cluster as dask_cluster
from napari_pix2pix.translation import cluster_connection, cluster_worker
from napari_pix2pix.translation.batch import BatchReport, Job
from napari_pix2pix.translation.cluster import translate_on_cluster
from napari_pix2pix.translation.cluster_connection import Cluster, connected
from napari_pix2pix.translation.pipeline import translate_file
from napari_pix2pix.translation.progress import ended
from napari_pix2pix.translation.settings import TranslationSettings
from pix2pix_training.cancel import Cancel, Interrupted
from pix2pix_training.errors import ClusterError, InputError, OutputError, Pix2PixError, SettingsError
from pix2pix_training.inference_config import InferenceConfig
from pix2pix_training.model_file import Model, save_model
from pix2pix_training.network_config import GeneratorConfig
from tests.product.translation.conftest import random_image, random_model

distributed = pytest.importorskip("distributed", reason="needs the extra [dask]")

SETTINGS = TranslationSettings(scheme="exact", tile=128, region=256, max_memory=1 << 30)
REGIONS = 12
"""Of an image of 1000 x 760 pixels."""


@pytest.fixture(scope="module")
def here() -> Iterator[Cluster]:
    """Two workers that are threads of this process."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as workers,
        connected(workers.scheduler_address) as cluster,
    ):
        yield cluster


@pytest.fixture
def model() -> Model:
    return random_model(GeneratorConfig(base_width=3, depth=4, source_channels=1, target_channels=2), InferenceConfig())


@pytest.fixture
def model_file(tmp_path: Path, model: Model) -> Path:
    save_model(model, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "image.tif", random_image(1, 1000, 760)[0])
    return tmp_path / "image.tif"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """An image of two regions."""
    tifffile.imwrite(tmp_path / "small.tif", random_image(1, 100, 300)[0])
    return tmp_path / "small.tif"


class Way:
    """A cluster, and what all of its translations have alike."""

    def __init__(self, cluster: Cluster, model: Model, model_file: Path) -> None:
        self.cluster = cluster
        self.model = model
        self.model_file = model_file
        self.cancel = Cancel()

    def __call__(
        self,
        image: Path,
        out: Path,
        settings: TranslationSettings = SETTINGS,
        *,
        stop_at: float = 2.0,
        more: tuple[Job, ...] = (),
        **options: Any,
    ) -> BatchReport:
        self.cancel = Cancel()

        def each(event: dask_cluster.ClusterProgress) -> None:
            if event.fraction >= stop_at:
                self.cancel.set()

        return ended(
            translate_on_cluster(
                [Job((image,), out), *more],
                self.model_file,
                self.model,
                settings,
                self.cluster,
                cancel=self.cancel,
                **options,
            ),
            each,
        )


@pytest.fixture
def way(here: Cluster, model: Model, model_file: Path) -> Way:
    return Way(here, model, model_file)


def content(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def alone(image: Path, model: Model, out: Path) -> Path:
    """What one process makes of it, in another folder under the same name."""
    expected = out.parent / "alone" / out.name
    translate_file(image, model, expected, SETTINGS)
    return expected


def test_images_of_many_regions_and_of_one_are_those_of_one_process(
    tmp_path: Path, way: Way, image: Path, model: Model
) -> None:
    tiny = tmp_path / "tiny.tif"
    tifffile.imwrite(tiny, random_image(1, 90, 100)[0])
    out, of_tiny = tmp_path / "out.ome.zarr", tmp_path / "tiny.ome.zarr"
    report = way(image, out, more=(Job((tiny,), of_tiny),))
    assert report.outputs == (out, of_tiny)
    assert report.total is not None
    assert (report.total.pixels, report.total.complete) == (1000 * 760 + 90 * 100, True)
    assert content(out) == content(alone(image, model, out))
    assert content(of_tiny) == content(alone(tiny, model, of_tiny))
    assert not list(tmp_path.glob("*partial*"))


def test_a_file_that_is_put_together_at_the_end(tmp_path: Path, way: Way, small: Path, model: Model) -> None:
    way(small, tmp_path / "out.tif")
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "out.tif"), tifffile.imread(alone(small, model, tmp_path / "out.tif"))
    )


def test_what_a_client_leaves_that_was_stopped(
    tmp_path: Path, way: Way, image: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody works on it any more, and one process or the cluster goes on with it."""
    made = cluster_worker._made

    def slowly(*share: Any) -> Any:
        time.sleep(0.1)
        return made(*share)

    monkeypatch.setattr(cluster_worker, "_made", slowly)
    out = tmp_path / "out.ome.zarr"
    with pytest.raises(Interrupted):
        way(image, out, stop_at=0.4)
    state = OutputState(out)
    done = state.regions_done
    assert 0 < done < REGIONS
    assert not state.others_at_work(Part(1, 1))
    with pytest.raises(OutputError, match=r"regions .* are done already; add --resume"):
        way(image, out)
    with pytest.raises(Interrupted):
        way(image, out, stop_at=0.6, resume=True)
    assert state.regions_done > done
    report = translate_file(image, model, out, SETTINGS, resume=True)
    assert report.tiles_reused > 0
    assert content(out) == content(alone(image, model, out))


def test_the_cluster_goes_on_with_what_one_process_has_left(
    tmp_path: Path, way: Way, image: Path, model: Model
) -> None:
    out = tmp_path / "out.ome.zarr"
    translate_file(image, model, out, SETTINGS, part=Part(2, 3))
    report = way(image, out, resume=True).total
    assert report is not None
    assert report.pixels == 1000 * 760
    assert 0.2 * report.tiles < report.tiles_reused < 0.5 * report.tiles
    assert content(out) == content(alone(image, model, out))


def test_existing_outputs(
    tmp_path: Path, way: Way, small: Path, image: Path, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out.ome.zarr"
    translate_file(image, model, out, SETTINGS)
    before = content(out)
    with pytest.raises(OutputError, match=r"exists already.*--overwrite"):
        way(image, out)
    assert way(image, out, resume=True).outputs == (out,)
    assert content(out) == before
    assert caplog.text.count("is complete already, nothing to do") == 2  # by the worker, and by the client
    with pytest.raises(OutputError, match="is not what would be made"):
        way(small, out, resume=True)
    way(small, out, overwrite=True)
    assert content(out) == content(alone(small, model, out))


def test_an_image_that_is_planned_as_one_region(
    tmp_path: Path, way: Way, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker makes it; the others have nothing to show for their shares."""
    monkeypatch.setattr(dask_cluster, "_SEEN_S", 0.0)
    settings = TranslationSettings(statistics="tile", region=256, max_memory=1 << 30)
    report = way(image, tmp_path / "out.ome.zarr", settings).total
    assert report is not None
    assert report.pixels == 1000 * 760
    translate_file(image, way.model, tmp_path / "alone" / "out.ome.zarr", settings)
    assert content(tmp_path / "out.ome.zarr") == content(tmp_path / "alone" / "out.ome.zarr")


def test_what_cannot_be_dealt_out_is_refused(tmp_path: Path, way: Way, image: Path) -> None:
    with pytest.raises(OutputError, match="give a path there"):
        way(image, as_path("s3://bucket/out.ome.zarr"))
    with pytest.raises(InputError, match=r"--match-pixel-size|pixel size"):
        way(image, tmp_path / "out.ome.zarr", replace(SETTINGS, match_pixel_size=True))


def test_an_image_that_fails_does_not_keep_others_from_it(
    tmp_path: Path, way: Way, small: Path, caplog: pytest.LogCaptureFixture
) -> None:
    two = tmp_path / "two.tif"
    tifffile.imwrite(two, np.zeros((2, 100, 300), np.uint8), planarconfig="separate", photometric="minisblack")
    job = Job((two,), tmp_path / "two.ome.zarr")
    with pytest.raises(Pix2PixError, match=r"two\.tif has 2 channels"):
        way(small, tmp_path / "a" / "out.ome.zarr", more=(job,))
    report = way(small, tmp_path / "b" / "out.ome.zarr", more=(job,), on_error="skip")
    assert report.outputs == (tmp_path / "b" / "out.ome.zarr",)
    assert list(report.failed) == [two]
    assert caplog.text.count("skipped: ") == 1


def test_what_all_regions_say_is_said_once(
    tmp_path: Path, way: Way, image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grey = tifffile.imread(image)
    tifffile.imwrite(tmp_path / "float.tif", grey.astype(np.float32) * 4)
    way(tmp_path / "float.tif", tmp_path / "out.ome.zarr", replace(SETTINGS, convert_values="values"))
    said = [line.getMessage() for line in caplog.records if line.name == "napari_pix2pix.translation.cluster"]
    assert len([line for line in said if "77 % of the values lie beyond" in line]) == 1
    assert len(set(said)) == len(said)


def test_a_worker_of_another_version_is_named(
    tmp_path: Path, way: Way, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_cluster, "version", lambda _: "0.0.9")
    with pytest.raises(ClusterError, match=r"the worker inproc://.* has version .* and 0\.0\.9 is needed"):
        way(image, tmp_path / "out.ome.zarr")


def test_a_worker_without_the_program_is_named(
    tmp_path: Path, way: Way, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = dask_cluster._task()

    def without(wanted: str, request: bytes) -> Any:
        """In a process of its own the worker finds nothing; here the client is not to be disturbed."""

        def missing(name: str, *others: Any) -> Any:
            if name == "napari_pix2pix.translation.cluster_worker":
                raise ModuleNotFoundError(f"No module named {name!r}")
            return __import__(name, *others)

        return FunctionType(task.__code__, {"__builtins__": {**vars(builtins), "__import__": missing}})(wanted, request)

    monkeypatch.setattr(dask_cluster, "_task", lambda: without)
    with pytest.raises(ClusterError, match=r"the worker inproc://.* cannot run napari-pix2pix .*install version"):
        way(image, tmp_path / "out.ome.zarr")


def test_a_worker_without_the_model_file_is_named(tmp_path: Path, way: Way, image: Path, model: Model) -> None:
    way.model_file = tmp_path / "elsewhere.safetensors"
    with pytest.raises(ClusterError, match=r"the worker inproc://.* does not find .*elsewhere\.safetensors"):
        way(image, tmp_path / "out.ome.zarr")
    other = random_model(replace(model.generator_config, base_width=4), InferenceConfig())
    save_model(other, way.model_file)
    with pytest.raises(ClusterError, match=r"the worker inproc://.* has another model"):
        way(image, tmp_path / "out.ome.zarr")


def test_a_disk_that_is_not_shared_is_noticed(
    tmp_path: Path, way: Way, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_cluster, "_SEEN_S", 0.0)
    made = cluster_worker._made

    def elsewhere(share: cluster_worker.Share, *others: Any) -> Any:
        return made(replace(share, job=replace(share.job, output=tmp_path / "own" / "out.ome.zarr")), *others)

    monkeypatch.setattr(cluster_worker, "_made", elsewhere)
    with pytest.raises(ClusterError, match=r"not seen here; give an output on a file system that all workers"):
        way(image, tmp_path / "out.ome.zarr")


def test_the_model_is_loaded_once(tmp_path: Path, way: Way, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster_worker._kept.clear()
    loaded: list[Path] = []
    load = sys.modules["pix2pix_training.model_file"].load_model
    monkeypatch.setattr(
        "pix2pix_training.model_file.load_model",
        lambda path: loaded.append(path) or load(path),  # type: ignore[func-returns-value]
    )
    way(image, tmp_path / "out.ome.zarr")
    assert loaded.count(way.model_file) == 1


def test_an_address_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster_connection._CONNECT_S < 10
    monkeypatch.setattr(cluster_connection, "_CONNECT_S", 0.5)
    for address in ("tcp://127.0.0.1:9", "localhost:9"):
        with pytest.raises(InputError, match=f"no Dask scheduler answers at {address} "), connected(address):
            pass
    for wrong in ("local", "local:two", "local:0"):
        with pytest.raises(SettingsError, match=wrong), connected(wrong):
            pass


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SettingsError, match=r"napari-pix2pix\[dask\]"), connected("local:2"):
        pass


def test_options_that_do_not_go_together(
    tmp_path: Path, image: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["translate", str(image), "--model", str(model_file), "--out", str(tmp_path / "o.tif"), "--dask", "x:1"]
    assert run([*command, "--shard", "1/2"]) == 2
    assert run([*command, "--dry-run"]) == 2
    assert capsys.readouterr().err.count("leave out --shard and --dry-run") == 2


# --- processes


def _free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return int(any_port.getsockname()[1])


def _answers(address: str) -> bool:
    host, port = address.removeprefix("tcp://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def processes(folder: Path, workers: int) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and workers as a user starts them: its address, and the workers."""
    address = f"tcp://127.0.0.1:{_free_port()}"
    scheduler = ["dask_scheduler", "--host", "127.0.0.1", "--port", address.rsplit(":", 1)[1], "--no-dashboard"]
    worker = [
        "dask_worker",
        address,
        "--nthreads",
        "1",
        "--no-nanny",
        "--no-dashboard",
        "--local-directory",
        str(folder),
    ]
    with ExitStack() as stack:
        started: list[subprocess.Popen[bytes]] = []
        for command in (scheduler, *[worker] * workers):
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{command[0]}", *command[1:]],
                stderr=stack.enter_context((folder / f"{len(started)}.log").open("wb")),
                cwd=folder,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            started.append(process)
        until = time.monotonic() + 120
        while not _answers(address):
            assert time.monotonic() < until
            time.sleep(0.1)
        yield address, started[1:]


def client(image: Path, model_file: Path, out: Path, dask: str, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "napari_pix2pix", "translate", str(image), "--model", str(model_file)),
        *("--out", str(out), "--scheme", "exact", "--tile", "128", "--region", "256", "--max-memory", "1GiB"),
        *("--dask", dask, *more),
    ]


def wait_for_regions(out: Path, count: int, process: subprocess.Popen[Any]) -> None:
    until = time.monotonic() + 300
    while OutputState(out).regions_done < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_nothing(tmp_path: Path, image: Path, model: Model, model_file: Path) -> None:
    out = tmp_path / "out.ome.zarr"
    with processes(tmp_path, 2) as (address, workers):
        with subprocess.Popen(client(image, model_file, out, address), stderr=subprocess.PIPE, text=True) as process:
            wait_for_regions(out, 3, process)
            workers[0].kill()
            _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    assert content(out) == content(alone(image, model, out))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["scheduler", "local:2"])
def test_a_client_that_is_interrupted(tmp_path: Path, image: Path, model: Model, model_file: Path, way: str) -> None:
    """A terminal sends Ctrl-C to all processes of a command; those of "local:2" are not to hear it."""
    out = tmp_path / "out.ome.zarr"
    with ExitStack() as stack:
        address = stack.enter_context(processes(tmp_path, 2))[0] if way == "scheduler" else way
        process = subprocess.Popen(
            client(image, model_file, out, address), stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        wait_for_regions(out, 3, process)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=300)
        last = said.splitlines()[-1]
        assert process.returncode == 130, said
        assert last.startswith("error: interrupted; ")
        assert last.endswith("--resume goes on from there")
        assert "Traceback" not in said
        assert not OutputState(out).others_at_work(Part(1, 1))
    done = OutputState(out).regions_done
    assert 3 <= done < REGIONS
    assert translate_file(image, model, out, SETTINGS, resume=True).tiles_reused > 0
    assert content(out) == content(alone(image, model, out))


@pytest.mark.slow
def test_processes_of_this_machine(tmp_path: Path, image: Path, model: Model, model_file: Path) -> None:
    out = tmp_path / "out.ome.zarr"
    done = subprocess.run(client(image, model_file, out, "local:2"), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("translating: ") for line in done.stderr.splitlines()[:-2]), done.stderr
    assert content(out) == content(alone(image, model, out))
