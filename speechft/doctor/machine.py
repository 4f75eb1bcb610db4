"""GPU and driver, and the speed of the folder of results."""

from __future__ import annotations

import shutil
from pathlib import Path

from speechft.cost.writing import write_speed
from speechft.doctor.findings import OK, PROBLEM, WARNING, Finding, ask
from speechft.errors import SpeechFTError

SLOW_MB = 20.0
"""Below this a checkpoint of a base model takes more than a minute to write."""
_WRITTEN_MB = 64
_LOGIN_NODE = "On a cluster run this on a compute node (`srun --gres=gpu:1 speechft doctor`); the demo and the tests need no GPU."
_CUDA_BUILD = "Install a CUDA build of the same version over it; https://pytorch.org/get-started says which index goes with the driver."


def check_gpu(*, needed: bool, must: bool) -> Finding:
    """GPUs as the driver sees them, and whether torch can use them.

    Args:
        needed: the experiment asks for GPUs.
        must: so that one that is missing is a problem and not a warning, unless this is a cluster, where jobs run elsewhere.
    """
    import torch

    answer = ask("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    if answer.status is None:
        if torch.cuda.is_available():
            return Finding("GPU", OK, f"{torch.cuda.get_device_name()}, nvidia-smi is not on PATH")
        elsewhere = shutil.which("sinfo") is not None
        status = OK if not needed else PROBLEM if must and not elsewhere else WARNING
        return Finding("GPU", status, "none here (no nvidia-smi)", "" if status == OK else _LOGIN_NODE)
    if answer.status != 0:
        return Finding("GPU", PROBLEM, f"nvidia-smi: {answer.complaint}", "The driver does not work; ask who looks after this machine.")
    rows = [line.strip() for line in answer.output.splitlines() if line.strip()]
    found = "; ".join(dict.fromkeys(rows)) + (f" ({len(rows)} GPUs)" if len(rows) > 1 else "")
    if not rows:
        return Finding("GPU", WARNING, "the driver sees none", _LOGIN_NODE)
    if torch.version.cuda is None:
        return Finding("GPU", PROBLEM, f"{found}; but torch {torch.__version__} is a CPU build", _CUDA_BUILD)
    if not torch.cuda.is_available():
        remedy = f"The driver may be too old for CUDA {torch.version.cuda}: update it, or install a build of torch for an older CUDA."
        return Finding("GPU", PROBLEM, f"{found}; but torch cannot use it", remedy)
    return Finding("GPU", OK, f"{found}; CUDA {torch.version.cuda}")


def check_write_speed(folder: Path) -> Finding:
    """How fast checkpoints and results can be written."""
    try:
        speed = write_speed(folder, _WRITTEN_MB)
    except SpeechFTError as error:
        return Finding("writing", PROBLEM, str(error), "Let `results` in the experiment name a folder that you may write to.")
    status = OK if speed >= SLOW_MB else WARNING
    remedy = "" if status == OK else "Checkpoints will be slow to write; let `results` in the experiment lie on a faster file system."
    return Finding("writing", status, f"{folder}: {speed:.0f} MB/s", remedy)
