"""Images by workers that SLURM starts as jobs; they begin one by one, as the queue lets them.

    python dask_jobqueue_slurm.py slide.tif --model model.safetensors --out slide.ome.zarr

Whatever stands behind the name of the script goes to `translate`. Needs the packages dask-jobqueue and
napari-pix2pix[dask]. For GPUs: `job_extra_directives=["--gpus-per-task=1"]`. Other queues have classes of their own:
PBSCluster, LSFCluster, SGECluster.
"""

import subprocess
import sys

from dask_jobqueue import SLURMCluster

JOBS = 16


def main() -> int:
    # One process for each job: a worker makes one region at a time, with all of its cores.
    with SLURMCluster(cores=8, processes=1, memory="32GB", walltime="04:00:00") as cluster:
        cluster.scale(jobs=JOBS)
        command = ["napari-pix2pix", "translate", *sys.argv[1:], "--dask", cluster.scheduler_address]
        return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
