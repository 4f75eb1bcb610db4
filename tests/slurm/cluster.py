"""The private Slurm of the tests, and runs of the workflow on it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from conftest import ROOT

HERE = Path(__file__).parent
PATIENCE = 600
"""Seconds that any one step may take; on an idle machine none takes more than 90."""


def wait_for(what: str, condition: Callable[[], object], patience: float = PATIENCE) -> object:
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {patience} s for {what}"
        time.sleep(0.2)
    return found


class Job(NamedTuple):
    """A line of squeue."""

    id: str
    state: str
    comment: str
    folder: str


@dataclass(frozen=True)
class Slurm:
    """A started Slurm in a folder."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        # Environment of a user's shell. Snakemake's own names stay out of the jobs, as do OpenMP's threads.
        path = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def ask(self, *command: str) -> str:
        done = subprocess.run(["timeout", "-s", "KILL", "60", *command], env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def jobs(self, folder: Path | None = None) -> list[Job]:
        """All jobs that were submitted from `folder`, ended or not, in order."""
        lines = self.ask("squeue", "-h", "-t", "all", "-S", "i", "-o", "%A|%T|%k|%Z").splitlines()
        jobs = [Job(*line.split("|")) for line in lines]
        return [job for job in jobs if folder is None or job.folder == str(folder.resolve())]

    def running(self, folder: Path, comment: str, other_than: str = "") -> str:
        """Id of a running job with these words in its comment, or nothing."""
        jobs = [job for job in self.jobs(folder) if job.state == "RUNNING" and comment in job.comment]
        return next((job.id for job in jobs if job.id != other_than), "")

    def facts(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says."""
        words = self.ask("scontrol", "show", "job", "--detail", "--oneliner", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def seconds_at_work(self, folder: Path) -> float:
        """How long at least one job from `folder` was running."""
        spans = []
        for job in self.jobs(folder):
            facts = self.facts(job.id)
            spans.append([datetime.fromisoformat(facts[key]).timestamp() for key in ("StartTime", "EndTime")])
        total, reached = 0.0, 0.0
        for start, end in sorted(spans):
            total += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        return total

    def stop_controller(self) -> None:
        pid = int((self.folder / "pid/slurmctld.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        wait_for("the end of slurmctld", lambda: not Path(f"/proc/{pid}").exists())

    def start_controller(self) -> None:
        subprocess.run(["timeout", "-s", "KILL", "60", HERE / "controller.sh", self.folder], check=True, stdin=subprocess.DEVNULL)


@dataclass
class Run:
    """A Snakemake in a folder."""

    folder: Path
    process: subprocess.Popen[bytes]
    output: Path
    started: float = field(default_factory=time.monotonic)

    def wait_for(self, what: str, condition: Callable[[], str | list[str] | bool]) -> str:
        """Wait for something that must happen before it ends."""

        def met() -> object:
            return condition() or self.process.poll() is not None

        found = wait_for(what, met)
        assert self.process.poll() is None, f"ended before {what}:\n{self.explanation}"
        return str(found)

    def end(self, patience: float = PATIENCE) -> int:
        """Its exit status."""
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"Snakemake did not end:\n{self.text}") from None

    def kill(self) -> None:
        """End it as a power cut would, with all its local children."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def text(self) -> str:
        return self.output.read_text()

    @property
    def explanation(self) -> str:
        """Everything that may say why it failed."""
        logs = [*self.folder.glob("results/logs/**/*.log"), *self.folder.glob(".snakemake/slurm_logs/**/*.log")]
        return "\n".join([self.text[-6000:], *(f"--- {log}\n{log.read_text()[-1500:]}" for log in logs)])


def start_run(slurm: Slurm, folder: Path, *arguments: str, program: tuple[str, ...] = ("-m", "snakemake")) -> Run:
    """Start the workflow in `folder` with the profile that users have; polls come early, for jobs of seconds."""
    options = ["--snakefile", str(ROOT / "Snakefile"), "--configfile", "experiment.yaml", "--profile", "slurm"]
    quick = ["--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "20"]
    output = folder / f"run-{len(list(folder.glob('run-*')))}.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            ["timeout", "-s", "KILL", "1200", sys.executable, *program, *options, *quick, *arguments],
            cwd=folder, env=slurm.environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    return Run(folder, process, output)


def resume_run(slurm: Slurm, folder: Path, *arguments: str) -> Run:
    return start_run(slurm, folder, *arguments, program=("-m", "speechft.cli", "resume"))


def training_process(folder: Path) -> int:
    """Process id of the fine-tuning that works in `folder`, or 0."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if (process / "cwd").resolve() == folder.resolve() and b"finetune" in words and words[1].endswith(b"speechft"):
                return int(process.name)
        except (OSError, IndexError):
            continue
    return 0


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("results/models/tiny/words/.work/*/checkpoints/checkpoint_1_*.pt"))
