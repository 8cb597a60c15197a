"""The examples for schedulers: what they start, in which order it may come, makes the output of one process.

What stands in for the schedulers is no more than what they do for an example: variables, a loop, workers. Their shell
lines are run by a shell, with a program in the place of `napari-pix2pix` that notes what it is given; this process then
does that.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_pix2pix.cli.application import run
from pix2pix_training.model_file import save_model
from tests.product.conftest import model_for

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NOTES = """#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word"; done >> "$NOTES"; echo . >> "$NOTES"
"""
STAND_IN_SBATCH = """#!/bin/bash
# Runs a script for each number of its array, in a folder of the same name, as sbatch does with one task after another.
array=$(sed -n 's/^#SBATCH --array=//p' "$1"); cpus=$(sed -n 's/^#SBATCH --cpus-per-task=//p' "$1")
for SLURM_ARRAY_TASK_ID in $(seq "${array%-*}" "${array#*-}"); do
    export SLURM_ARRAY_TASK_ID SLURM_CPUS_PER_TASK=$cpus
    bash "$@" || exit
done
"""
STAND_IN_JOBQUEUE = """
from distributed import LocalCluster


class SLURMCluster(LocalCluster):
    def __init__(self, *, cores, processes, memory, walltime):
        assert processes == 1
        super().__init__(n_workers=0, threads_per_worker=1, dashboard_address=None)

    def scale(self, n=0, *, jobs=None):
        super().scale(n if jobs is None else min(jobs, 2))
"""


class Folder:
    """An image of four regions, a model, and programs that stand in for others."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.image, self.model, self.out = path / "an image.tif", path / "model.safetensors", path / "out.ome.zarr"
        self.programs = path / "programs"
        self.notes = path / "notes"
        self.programs.mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (400, 300), np.uint8)
        tifffile.imwrite(self.image, pixels)
        save_model(model_for(1, 1), self.model)

    def program(self, name: str, content: str) -> None:
        (self.programs / name).write_text(content, encoding="utf-8")
        (self.programs / name).chmod(0o755)

    def environment(self) -> dict[str, str]:
        path = f"{self.programs}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "NOTES": str(self.notes)}

    def shell(self, *command: str) -> None:
        """Run a command of the shell, and then what it has called `napari-pix2pix` with."""
        self.program("napari-pix2pix", NOTES)
        subprocess.run(command, cwd=self.path, env=self.environment(), check=True, timeout=300)
        calls = self.notes.read_text(encoding="utf-8").split("\n.\n")[:-1]
        for call in calls:
            assert run([*call.splitlines(), "--region", "256"]) == 0

    def is_that_of_one_process(self) -> bool:
        alone = self.path / "alone" / self.out.name
        command = ["translate", str(self.image), "--model", str(self.model), "--out", str(alone), "--region", "256"]
        assert run(command) == 0
        found, expected = (content(path) for path in (self.out, alone))
        return found == expected


def content(path: Path) -> Mapping[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@needs_bash
def test_slurm_array(folder: Folder) -> None:
    folder.program("sbatch", STAND_IN_SBATCH)
    script = EXAMPLES / "slurm-array.sh"
    folder.shell("sbatch", str(script), str(folder.image), str(folder.model), str(folder.out))
    assert len(folder.notes.read_text(encoding="utf-8").split("\n.\n")) == 16 + 1
    assert folder.is_that_of_one_process()
    text = script.read_text(encoding="utf-8")
    assert re.findall(r"--array=1-(\d+)", text) == re.findall(r"^parts=(\d+)", text, re.MULTILINE)


@needs_bash
def test_lines_of_the_snakefile(folder: Folder) -> None:
    text = (EXAMPLES / "Snakefile").read_text(encoding="utf-8")
    line = "".join(re.findall(r'^ +"(.*)"$', text.partition("shell:")[2], re.MULTILINE))
    names = {"{input.image}": shlex.quote(str(folder.image)), "{input.model}": str(folder.model)}
    names |= {"{params.out}": str(folder.out), "{params.shards}": "3"}
    for name, value in names.items():
        assert name in line
        line = line.replace(name, value)
    folder.shell("bash", "-ec", "\n".join(line.replace("{wildcards.shard}", str(shard)) for shard in (3, 1, 2)))
    assert folder.is_that_of_one_process()


@pytest.mark.slow
def test_the_snakefile_itself(folder: Folder) -> None:
    """PIX2PIX_SNAKEMAKE names a snakemake of an environment of its own."""
    snakemake = os.environ.get("PIX2PIX_SNAKEMAKE") or shutil.which("snakemake")
    if snakemake is None:
        pytest.skip("snakemake is not installed")
    image = folder.image.rename(folder.path / "image.tif")
    folder.image = image
    config = [f"image={image}", f"model={folder.model}", f"out={folder.out}", "shards=3"]
    common = [snakemake, "--cores", "1", "--snakefile", str(EXAMPLES / "Snakefile"), "--config", *config]
    folder.shell(*common)
    assert folder.is_that_of_one_process()
    again = subprocess.run(common, cwd=folder.path, env=folder.environment(), capture_output=True, text=True)
    assert "Nothing to be done" in again.stdout + again.stderr


@needs_bash
def test_script_of_the_nextflow_process(folder: Folder) -> None:
    script = re.findall(r'"""\n(.*?)\n +"""', (EXAMPLES / "regions.nf").read_text(encoding="utf-8"), re.DOTALL)[0]
    variables = {"image": shlex.quote(str(folder.image)), "model": folder.model, "out": folder.out, "shards": 2}
    for name, value in variables.items():
        assert f"${{params.{name}}}" in script
        script = script.replace(f"${{params.{name}}}", str(value))
    folder.shell("bash", "-ec", "\n".join(script.strip().replace("${shard}", str(shard)) for shard in (2, 1)))
    assert folder.is_that_of_one_process()


@pytest.mark.slow
def test_dask_jobqueue(folder: Folder) -> None:
    """With workers of this machine in the place of jobs."""
    pytest.importorskip("distributed", reason="needs the extra [dask]")
    (folder.programs / "dask_jobqueue.py").write_text(STAND_IN_JOBQUEUE, encoding="utf-8")
    folder.program("napari-pix2pix", f'#!/bin/sh\nexec {sys.executable} -m napari_pix2pix "$@" --region 256 --json\n')
    environment = folder.environment()
    environment["PYTHONPATH"] = f"{folder.programs}{os.pathsep}{environment.get('PYTHONPATH', '')}"
    script = [sys.executable, str(EXAMPLES / "dask_jobqueue_slurm.py"), str(folder.image)]
    script += ["--model", str(folder.model), "--out", str(folder.out)]
    done = subprocess.run(script, env=environment, cwd=folder.path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["outputs"] == [str(folder.out)]
    assert folder.is_that_of_one_process()
