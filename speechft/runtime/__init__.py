"""The machine that jobs run on: GPUs and Slurm. No torch here."""
