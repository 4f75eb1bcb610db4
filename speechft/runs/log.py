"""Parse Snakemake's log (.snakemake/log) into one record per job: state, attempts, cause of failure, time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from speechft.errors import SpeechFTError, missing_file
from speechft.runs.last_words import last_line

FOLDER = Path(".snakemake/log")
LONGEST_EVENT = 60
"""Maximum lines of one event; Snakemake's have fewer than 20."""

_TIME = re.compile(r"\[(\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4})\]")
_JOB = re.compile(r"(?:local)?(?:rule|checkpoint) (\w+):")
_ERROR = re.compile(r"Error in rule (\w+):")
_DONE = re.compile(r"Finished jobid: (\d+)\b.*")
_KEY = re.compile(r"([\w-]+): (.*)")
_HINT = " (check log file(s) for error details)"
_PLANNED = re.compile(r"^Job stats:\njob +count\n[- ]+\n((?:\w+ +\d+\n)+)", re.MULTILINE)
_SIGNAL = re.compile(r"died with <Signals\.(SIG\w+): \d+>|returned non-zero exit status (1[3-9]\d)\b")
_STATUS = re.compile(r"SLURM status is: '(\w+)'")
_CAUSES = {
    "TIMEOUT": "it reached its time limit",
    "DEADLINE": "it reached its time limit",
    "OUT_OF_MEMORY": "it reached its memory limit",
    "CANCELLED": "it was cancelled",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node failed",
    "PREEMPTED": "it was preempted",
    "SIGKILL": "it was killed (SIGKILL), as the system does when memory runs out",
    "137": "it was killed (SIGKILL), as the system does when memory runs out",
    "SIGTERM": "it was ended (SIGTERM)",
    "143": "it was ended (SIGTERM)",
}


@dataclass
class Job:
    """A job that started at least once."""

    rule: str
    jobid: int
    wildcards: dict[str, str] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    """Its own log, then that of its last Slurm job, if it failed there."""
    attempts: int = 0
    state: str = "running"
    """`running` (or interrupted with the run), `done`, or `failed`."""
    cause: str | None = None
    """External cause that ended the last attempt, if Snakemake reports one: a signal, a limit, a failed node."""
    grouped: bool = False
    """Whether the last attempt failed within a group, where the actual failure may be another job."""
    began: datetime | None = None
    """Time of the first start; on a cluster, of the submission."""
    since: datetime | None = None
    """Time of the last start."""
    seconds: float = 0.0
    """Wall seconds of all finished attempts; on a cluster including queue time."""

    @property
    def target(self) -> str:
        """What it makes: `hubert_base/none/pretrained/ks`; for a rule without wildcards its first output."""
        return target_of(self.wildcards, self.outputs)

    def end(self, state: str, now: datetime | None) -> None:
        """Record the end of the current attempt."""
        self.state = state
        if now and self.since:
            self.seconds += (now - self.since).total_seconds()


@dataclass
class RunLog:
    """One run of Snakemake."""

    path: Path
    planned: dict[str, int] = field(default_factory=dict)
    """Rule -> number of planned jobs."""
    jobs: list[Job] = field(default_factory=list)
    """Started jobs, in order of first start."""
    began: datetime | None = None
    ended: datetime | None = None
    last_line: str | None = None
    """Last line of the log, which says why a run planned nothing."""

    @property
    def failed(self) -> list[Job]:
        """Jobs whose last attempt failed."""
        return [job for job in self.jobs if job.state == "failed"]


def target_of(wildcards: dict[str, str], outputs: Iterable[str]) -> str:
    """Name of a job within its rule: its wildcards, otherwise its first output."""
    return "/".join(wildcards.values()) or next(iter(outputs), "")


def newest_log() -> Path:
    """Find the log of the latest run in the working folder.

    Raises:
        SpeechFTError: no log found.
    """
    logs = sorted(FOLDER.glob("*.snakemake.log"))  # names are times
    if not logs:
        raise SpeechFTError(f"{FOLDER}: contains no log of a run. Run this where Snakemake ran, or name its log.")
    return logs[-1]


def read_log(path: str | Path) -> RunLog:
    """Read and parse a log of Snakemake.

    Raises:
        SpeechFTError: the file cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        raise SpeechFTError(missing_file(path, "as the log of a run", "Snakemake's logs are in .snakemake/log.")) from None
    return parse_log(text, Path(path))


def parse_log(text: str, path: Path = Path()) -> RunLog:
    """Parse the text of a log, complete or not; other lines are skipped.

    Jobs of a group are indented, but otherwise have the same format.
    """
    run = RunLog(path, last_line=last_line(text))
    if stats := _PLANNED.search(text):
        rows = [line.split() for line in stats[1].splitlines()]
        run.planned = {rule: int(count) for rule, count in rows if rule != "total"}
    jobs: dict[int, Job] = {}
    signal: str | None = None  # of the command reported last; the error of its rule follows
    timed = False  # whether the previous line is a time, as before every event
    lines = text.splitlines()
    stripped = [line.strip() for line in lines]
    for place, line in enumerate(stripped):
        if stamp := _TIME.fullmatch(line):
            run.ended = datetime.strptime(stamp[1], "%a %b %d %H:%M:%S %Y")
            run.began = run.began or run.ended
            timed = True
            continue
        if match := _SIGNAL.search(line):
            signal = match[1] or match[2]
        if timed and (match := _JOB.fullmatch(line)):
            _start(jobs, match[1], _keys(stripped[place + 1 : place + LONGEST_EVENT]), run.ended)
        elif timed and (match := _ERROR.fullmatch(line)):
            _fail(jobs, _keys(stripped[place + 1 : place + LONGEST_EVENT]), signal, run.ended, grouped=lines[place].startswith("    "))
            signal = None
        elif timed and (match := _DONE.fullmatch(line)) and (job := jobs.get(int(match[1]))) and job.state == "running":
            job.end("done", run.ended)
        timed = False
    run.jobs = list(jobs.values())
    return run


def _start(jobs: dict[int, Job], rule: str, keys: dict[str, str], now: datetime | None) -> None:
    if not keys.get("jobid", "").isdecimal():
        return
    job = jobs.setdefault(int(keys["jobid"]), Job(rule, int(keys["jobid"])))
    pairs = [pair.partition("=") for pair in keys.get("wildcards", "").split(", ") if pair]
    job.wildcards = {name: value for name, _, value in pairs}
    job.outputs = [output.removesuffix(" (update)") for output in keys.get("output", "").split(", ")]
    job.logs = _logs(keys.get("log", ""))
    job.attempts += 1
    job.state, job.cause, job.since = "running", None, now
    job.began = job.began or now


def _fail(jobs: dict[int, Job], keys: dict[str, str], signal: str | None, now: datetime | None, *, grouped: bool) -> None:
    jobid = keys.get("jobid", "")
    job = jobs.get(int(jobid)) if jobid.isdecimal() else None
    if job is None or job.state != "running":
        return
    job.end("failed", now)
    job.grouped = grouped
    status = _STATUS.search(keys.get("message", ""))
    job.cause = _CAUSES.get(status[1] if status else signal or "")
    job.logs = _logs(keys.get("log", "").removesuffix(_HINT)) or job.logs


def _keys(lines: list[str]) -> dict[str, str]:
    """Parse the `key: value` lines of an event; a message may have several lines."""
    values: dict[str, str] = {}
    for line in lines:
        if not line or line == "shell:" or line.startswith("Shell command: ") or _TIME.fullmatch(line):
            break
        if match := _KEY.fullmatch(line):
            values.setdefault(match[1], match[2])
    return values


def cause_in(text: str) -> str | None:
    """External cause that ended a command, if a Snakemake log reports one."""
    match = _SIGNAL.search(text)
    return _CAUSES.get(match[1] or match[2]) if match else None


def _logs(text: str) -> list[str]:
    """Split a list of log files; folder names may contain commas."""
    return [name for name in re.split(r"(?<=\.log), ", text) if name]
