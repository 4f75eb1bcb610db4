#!/usr/bin/env bash
# The environment in which merge.py runs mergekit 0.1.5: benchmarks/.venv-mergekit. Takes the Python to use as argument.
set -euo pipefail
cd "$(dirname "$0")"
"${1:-python3.11}" -m venv .venv-mergekit
pip=".venv-mergekit/bin/python -m pip install --quiet --disable-pip-version-check"
$pip torch==2.13.0
$pip mergekit==0.1.5 torch==2.13.0
.venv-mergekit/bin/python -c 'from importlib.metadata import version; print("mergekit", version("mergekit"), "is ready")'
