"""The machine that jobs run on: GPUs and Slurm."""
