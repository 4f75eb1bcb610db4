"""Slurm for the workflow: commands that tolerate an unreachable slurmctld, and resuming a killed run."""

from __future__ import annotations

import getpass
import logging
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from speechft.errors import ClusterError

LOGGER = logging.getLogger(__name__)
ALIVE = "PENDING,RUNNING,SUSPENDED,REQUEUED,CONFIGURING,COMPLETING,STOPPED"
COMMENTS = ("rule_", "group_")
"""Prefixes of the comments on Snakemake's jobs."""
QUERY_SECONDS = 60
SLURM_LOGS = Path(".snakemake/slurm_logs")
"""Output of Snakemake's Slurm jobs; absent before the first submission."""
RUNS = Path(".snakemake/speechft_runs")
"""Contains a file HOST.PROCESS for each Snakemake that runs in a folder; a killed one leaves its file behind."""


def prefer_commands(folder: Path) -> None:
    """Put `folder` first on PATH for this process and its children, on a machine with Slurm."""
    if shutil.which("squeue") and folder.is_dir():
        os.environ["PATH"] = f"{folder.resolve()}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def quote_python() -> None:
    """Quote the path of Python in Slurm jobs: Snakemake's executors put it into shell commands unquoted, which breaks on spaces."""
    if not shutil.which("squeue"):
        return
    from snakemake_executor_plugin_slurm_jobstep import Executor  # type: ignore[import-untyped]
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor  # type: ignore[import-untyped]

    for executor in (RemoteExecutor, Executor):
        executor.get_python_executable = _quoted(executor.get_python_executable)


def _quoted(path_of: Callable[[Any], str]) -> Callable[[Any], str]:
    def quoted(executor: Any) -> str:
        return shlex.quote(path_of(executor))

    # The Snakefile can be read twice in a process; quote once.
    return path_of if path_of.__name__ == quoted.__name__ else quoted


def orphans(directory: Path) -> list[str]:
    """Return the ids of unfinished Slurm jobs that a Snakemake started in `directory`.

    Raises:
        ClusterError: squeue does not answer.
    """
    command = ["squeue", "--noheader", "--user", getpass.getuser(), "--states", ALIVE, "--format", "%A|%Z|%k"]
    lines = [line.split("|", 2) for line in _ask(command).splitlines()]
    here = str(directory.resolve())
    return sorted({fields[0] for fields in lines if len(fields) == 3 and fields[1] == here and fields[2].startswith(COMMENTS)}, key=int)


def cancel(ids: Sequence[str], patience: float = 300) -> None:
    """Cancel Slurm jobs and wait until their processes have ended, since a training writes a checkpoint first.

    Raises:
        ClusterError: Slurm does not answer, or the jobs have not ended after `patience` seconds.
    """
    if not ids:
        return
    _ask(["scancel", *ids])
    deadline = time.monotonic() + patience
    command = ["squeue", "--noheader", "--user", getpass.getuser(), "--states", ALIVE, "--format", "%A"]
    while left := sorted(set(ids) & set(_ask(command).split()), key=int):
        if time.monotonic() > deadline:
            raise ClusterError(f"Slurm jobs {', '.join(left)} were canceled but have not ended. Check `squeue -j {','.join(left)}`.")
        time.sleep(1)


def _ask(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_SECONDS, check=True)
    except (OSError, subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        raise ClusterError(
            f"`{command[0]}` does not answer ({said}). Try again when Slurm responds, or cancel the old jobs yourself."
        ) from error
    return done.stdout


def living_snakemakes(directory: Path) -> list[int]:
    """Return the process ids of this user's Snakemake processes on this machine that run in `directory`."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            there = (process / "cwd").resolve(strict=True) == directory.resolve()
        except OSError:  # has ended, or belongs to another user
            continue
        # A job runs its own Snakemake with --target-jobs; on a single-machine cluster it also runs here.
        if there and b"--target-jobs" not in words and any(Path(os.fsdecode(word)).name == "snakemake" for word in words[:3]):
            pids.append(int(process.name))
    return pids


def note_run() -> None:
    """Record that this Snakemake runs in the working folder."""
    RUNS.mkdir(parents=True, exist_ok=True)
    _note().touch()


def forget_run() -> None:
    """Remove the record of this Snakemake when it ends."""
    _note().unlink(missing_ok=True)


def _note() -> Path:
    return RUNS / f"{socket.gethostname()}.{os.getpid()}"


def check_ended(directory: Path, jobs: Sequence[str]) -> None:
    """Check that Slurm jobs belong to no running Snakemake: all recorded in `directory` ran on this machine and have ended.

    Raises:
        ClusterError: a Snakemake was started on another machine, or none is recorded, so its state is unknown.
    """
    noted = sorted(path.name.rpartition(".")[::2] for path in (directory / RUNS).glob("*.*"))
    elsewhere = [f"process {pid} of {host}" for host, pid in noted if host != socket.gethostname()]
    if jobs and (elsewhere or not noted):
        who = f"a Snakemake started as {elsewhere[0]}" if elsewhere else "a Snakemake without a record"
        record = f", remove {directory / RUNS}" if elsewhere else ""
        raise ClusterError(
            f"Slurm jobs {', '.join(jobs)} belong to {who}, which may still run. Let it finish; if it has ended, cancel them "
            f"(scancel {' '.join(jobs)}){record}, and resume again."
        )
    for host, pid in noted:
        if host == socket.gethostname():
            (directory / RUNS / f"{host}.{pid}").unlink(missing_ok=True)


def is_dry_run(arguments: Sequence[str]) -> bool:
    """Whether Snakemake's arguments request a dry run."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return any(word in ("--dry-run", "--dryrun") or re.fullmatch(r"-[a-zA-Z]*n[a-zA-Z]*", word) for word in options)


def resume(directory: Path, arguments: Sequence[str]) -> int:
    """Cancel the Slurm jobs of a killed Snakemake, remove its lock, run Snakemake again, and return its exit status.

    `directory` is the folder it ran in, `arguments` its original arguments. A dry run (`-n`) cancels and removes nothing.

    Raises:
        ClusterError: a Snakemake still runs there, or may run on another machine, or Slurm does not answer.
    """
    if running := living_snakemakes(directory):
        pid = running[0]
        raise ClusterError(f"{directory}: a Snakemake still runs here, process {pid}. Let it finish, or end it first: kill -INT {pid}")
    dry_run = is_dry_run(arguments)
    if shutil.which("squeue"):
        try:
            left = orphans(directory)
        except ClusterError as error:
            if (directory / SLURM_LOGS).exists():
                raise
            LOGGER.info("%s Slurm was never used in this folder.", error)
            left = []
        LOGGER.info("orphaned Slurm jobs: %s", ", ".join(left) or "none")
        if not dry_run:
            check_ended(directory, left)
            cancel(left)
    snakemake = [sys.executable, "-m", "snakemake"]
    if not dry_run:
        unlocked = subprocess.run([*snakemake, "--unlock", *arguments], cwd=directory, capture_output=True, text=True, check=False)
        if unlocked.returncode:
            raise ClusterError(f"`snakemake --unlock` failed:\n{unlocked.stderr.strip()}")
    return subprocess.run([*snakemake, *arguments], cwd=directory, check=False).returncode
