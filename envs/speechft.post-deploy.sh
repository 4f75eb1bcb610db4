#!/usr/bin/env bash
# Snakemake runs this inside the new conda environment, from the repository root.
set -euo pipefail
python -m pip install --quiet torch==2.13.0
python -m pip install --quiet --no-deps --require-hashes -r envs/requirements.lock
python -m pip install --quiet --no-deps --no-build-isolation .
