#!/usr/bin/env bash
# The environment in which the benchmarks run s3prl 0.4.18: benchmarks/.venv-s3prl. Takes the Python to use as argument.
# Only what its HuBERT expert and the tasks of superb_cell.py import is installed; the rest of its requirements is for other tasks.
set -euo pipefail
cd "$(dirname "$0")"
"${1:-python3.11}" -m venv .venv-s3prl
pip=".venv-s3prl/bin/python -m pip install --quiet --disable-pip-version-check"
$pip torch==2.13.0
$pip numpy==2.4.6 requests==2.34.2 filelock tqdm==4.70.1
$pip soundfile==0.14.0 editdistance==0.8.1
$pip --no-deps s3prl==0.4.18

# A module of the expert imports torchaudio for a function that it never calls. torchaudio's wheel is linked against CUDA libraries, so
# this environment has a stand-in instead, which fails loudly if it is ever used. (superb_cell_worker.py adds a reader of WAV files.)
site=$(.venv-s3prl/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cat > "$site/torchaudio.py" <<'PYTHON'
"""Stand-in: s3prl's HuBERT expert imports torchaudio but uses nothing of it."""


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    raise RuntimeError(f"torchaudio.{name} was asked for, but this environment has a stand-in only (benchmarks/make_s3prl_env.sh)")
PYTHON
.venv-s3prl/bin/python -c 'from s3prl.upstream.hubert.expert import UpstreamExpert; import s3prl; print("s3prl", s3prl.__version__, "is ready")'
