"""Slurm as the workflow sees it: commands that tolerate an unreachable slurmctld, and how to resume a run that was killed."""

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
"""Prefixes of the comments that Snakemake gives its jobs."""
QUERY_SECONDS = 60
SLURM_LOGS = Path(".snakemake/slurm_logs")
"""Output of Snakemake's Slurm jobs; absent until it submits one."""
RUNS = Path(".snakemake/speechft_runs")
"""Holds a file HOST.PROCESS for each Snakemake at work in a folder; a killed one leaves its file behind."""


def prefer_commands(folder: Path) -> None:
    """Let this process and its children find the Slurm commands in `folder` first, on a machine that has Slurm."""
    if shutil.which("squeue") and folder.is_dir():
        os.environ["PATH"] = f"{folder.resolve()}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def quote_python() -> None:
    """Let Slurm jobs start where the path of Python holds a space: Snakemake's executors put it into shell commands as it is."""
    if not shutil.which("squeue"):
        return
    from snakemake_executor_plugin_slurm_jobstep import Executor  # type: ignore[import-untyped]
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor  # type: ignore[import-untyped]

    for executor in (RemoteExecutor, Executor):
        executor.get_python_executable = _quoted(executor.get_python_executable)


def _quoted(path_of: Callable[[Any], str]) -> Callable[[Any], str]:
    def quoted(executor: Any) -> str:
        return shlex.quote(path_of(executor))

    # A process that reads the Snakefile twice must not quote twice.
    return path_of if path_of.__name__ == quoted.__name__ else quoted


def orphans(directory: Path) -> list[str]:
    """Ids of Slurm jobs that a Snakemake started in `directory`, and that have not ended.

    Raises:
        ClusterError: squeue gave no answer.
    """
    command = ["squeue", "--noheader", "--user", getpass.getuser(), "--states", ALIVE, "--format", "%A|%Z|%k"]
    lines = [line.split("|", 2) for line in _ask(command).splitlines()]
    here = str(directory.resolve())
    return sorted({fields[0] for fields in lines if len(fields) == 3 and fields[1] == here and fields[2].startswith(COMMENTS)}, key=int)


def cancel(ids: Sequence[str], patience: float = 300) -> None:
    """Cancel Slurm jobs and wait until their processes have ended: a training writes a checkpoint first.

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
            raise ClusterError(f"Slurm jobs {', '.join(left)} were cancelled and have not ended. Look at `squeue -j {','.join(left)}`.")
        time.sleep(1)


def _ask(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_SECONDS, check=True)
    except (OSError, subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        raise ClusterError(
            f"`{command[0]}` gives no answer ({said}). Try again when Slurm does, or cancel the old jobs yourself."
        ) from error
    return done.stdout


def living_snakemakes(directory: Path) -> list[int]:
    """Process ids of this user's Snakemake programs on this machine that work in `directory`."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            there = (process / "cwd").resolve(strict=True) == directory.resolve()
        except OSError:  # it has ended, or is another user's
            continue
        # A job runs a Snakemake of its own, which is told its target; on a cluster of one machine it is here too.
        if there and b"--target-jobs" not in words and any(Path(os.fsdecode(word)).name == "snakemake" for word in words[:3]):
            pids.append(int(process.name))
    return pids


def note_run() -> None:
    """Note that this Snakemake works in the working folder."""
    RUNS.mkdir(parents=True, exist_ok=True)
    _note().touch()


def forget_run() -> None:
    """Note that this Snakemake has ended."""
    _note().unlink(missing_ok=True)


def _note() -> Path:
    return RUNS / f"{socket.gethostname()}.{os.getpid()}"


def check_ended(directory: Path, jobs: Sequence[str]) -> None:
    """See that Slurm jobs belong to no Snakemake that may still run: each that was noted in `directory` ran on this machine, and has ended.

    Raises:
        ClusterError: one was started on another machine, or none was noted, so that it cannot be known.
    """
    noted = sorted(path.name.rpartition(".")[::2] for path in (directory / RUNS).glob("*.*"))
    elsewhere = [f"process {pid} of {host}" for host, pid in noted if host != socket.gethostname()]
    if jobs and (elsewhere or not noted):
        who = f"a Snakemake that was started as {elsewhere[0]}" if elsewhere else "a Snakemake of which there is no record"
        record = f", remove {directory / RUNS}" if elsewhere else ""
        raise ClusterError(
            f"Slurm jobs {', '.join(jobs)} are of {who} and may still run. Let it work; if it has ended, cancel them "
            f"(scancel {' '.join(jobs)}){record}, and resume again."
        )
    for host, pid in noted:
        if host == socket.gethostname():
            (directory / RUNS / f"{host}.{pid}").unlink(missing_ok=True)


def is_dry_run(arguments: Sequence[str]) -> bool:
    """Whether Snakemake is asked only to say what it would do."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return any(word in ("--dry-run", "--dryrun") or re.fullmatch(r"-[a-zA-Z]*n[a-zA-Z]*", word) for word in options)


def resume(directory: Path, arguments: Sequence[str]) -> int:
    """Cancel what a killed Snakemake left in Slurm, remove its lock, and run Snakemake again; returns its exit status.

    `directory` is where it ran, `arguments` those of Snakemake, the same as before. A dry run (`-n`) cancels and removes nothing.

    Raises:
        ClusterError: a Snakemake still runs there, or may do so on another machine, or Slurm does not answer.
    """
    if running := living_snakemakes(directory):
        pid = running[0]
        raise ClusterError(f"{directory}: a Snakemake still runs here, process {pid}. Let it work, or end it first: kill -INT {pid}")
    dry_run = is_dry_run(arguments)
    if shutil.which("squeue"):
        try:
            left = orphans(directory)
        except ClusterError as error:
            if (directory / SLURM_LOGS).exists():
                raise
            LOGGER.info("%s It was never used from here.", error)
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
