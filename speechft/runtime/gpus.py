"""Share the GPUs of a machine among jobs: each job claims its own. This module does not import torch.

A claim is a lock on a file in the machine's temporary folder, which the system releases when the process ends for any reason. On a
cluster, where the scheduler assigns GPUs, claims separate the jobs within one allocation.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from speechft.errors import MissingGpuError

VISIBLE = "CUDA_VISIBLE_DEVICES"
LOGGER = logging.getLogger(__name__)
_claims: list[int] = []
"""Open lock files of this process's claims, held until it ends."""


def visible_gpus() -> list[str]:
    """Return the names of the GPUs available to this process: those in CUDA_VISIBLE_DEVICES, else all listed by nvidia-smi."""
    if (named := os.environ.get(VISIBLE)) is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return listed.stdout.split() if listed.returncode == 0 else []


def claim_gpus(count: int, folder: Path | None = None) -> list[str]:
    """Wait until `count` visible GPUs are free, claim them, and hide the others; must run before torch looks for GPUs.

    Returns their names, as in CUDA_VISIBLE_DEVICES. 0 changes nothing. Processes started by torchrun never claim, since their parent has.
    `folder` has the lock files; default: one per user, and within Slurm one per allocation, since GPUs are renumbered there.

    Raises:
        MissingGpuError: fewer than `count` GPUs are visible.
    """
    if count == 0 or under_torchrun():
        return []
    names = visible_gpus()
    if len(names) < count:
        source = f"{VISIBLE}={os.environ[VISIBLE]}" if VISIBLE in os.environ else "nvidia-smi"
        raise MissingGpuError(
            f"--gpus {count}: {len(names)} visible here ({source}). Ask for fewer (`resources` in the experiment; 0 runs on the CPU), "
            "or start the job on a machine that has them."
        )
    folder = folder or Path(tempfile.gettempdir()) / f"speechft-gpus-{os.getuid()}-{os.environ.get('SLURM_JOB_ID', 'local')}"
    folder.mkdir(parents=True, exist_ok=True)
    told = False
    while not (claimed := _try_to_claim(names, count, folder)):
        if not told:
            LOGGER.info("waiting for %d of the GPUs %s", count, ",".join(names))
            told = True
        time.sleep(random.uniform(0.5, 1.5))  # random, so that jobs that need several GPUs do not block each other in lockstep
    os.environ[VISIBLE] = ",".join(claimed)
    LOGGER.info("GPUs: %s", os.environ[VISIBLE])
    return claimed


def _try_to_claim(names: list[str], count: int, folder: Path) -> list[str]:
    """Claim `count` of the devices or none; holding some while waiting for more could deadlock with another job."""
    held: dict[str, int] = {}
    for name in names:
        file = os.open(folder / re.sub(r"[^\w-]", "_", name), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            continue
        held[name] = file
        if len(held) == count:
            for file in held.values():
                os.set_inheritable(file, True)  # the claim must survive exec of torchrun
            _claims.extend(held.values())
            return list(held)
    for file in held.values():
        os.close(file)
    return []


def under_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def processes_here() -> int:
    """Return the number of this job's processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def become_torchrun(processes: int) -> NoReturn:
    """Replace this process by torchrun, which runs the same command in `processes` processes and forwards signals."""
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m", "speechft.cli", *sys.argv[1:]]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", *torchrun])
