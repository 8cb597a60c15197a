#!/bin/bash
# One image by the jobs of a SLURM array, each of which makes every 16th region:
#
#     sbatch slurm-array.sh slide.tif model.safetensors slide.ome.zarr
#
# A job that failed is sent again with its number: sbatch --array=7 slurm-array.sh ...
#SBATCH --job-name=translate
#SBATCH --array=1-16
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --requeue
# For GPUs also: --gpus-per-task=1
set -euo pipefail
parts=16 # as many as in --array

export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
napari-pix2pix translate "$1" --model "$2" --out "$3" --max-memory 24GB --shard "$SLURM_ARRAY_TASK_ID/$parts"
