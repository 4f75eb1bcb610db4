"""Summary of a run by rule, and its failed jobs with the error in each log and the jobs that were not started."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from speechft.files.escapes import terminal_text
from speechft.files.structured import write_json
from speechft.runs.last_words import last_line, last_words, log_text
from speechft.runs.log import Job, RunLog, cause_in

NAMES_SHOWN = 3
NOTE = ".failures.json"
"""Suffix of the file next to Snakemake's log that lists the failed jobs."""
CLOCK_SECONDS = 5.0
"""Tolerated lag of the file system's clock behind that of the run."""


class Failure(NamedTuple):
    """A failed job; `not_started` maps rules to the targets of jobs that depend on it."""

    rule: str
    target: str
    attempts: int
    message: str
    log: str | None
    not_started: Mapping[str, Sequence[str]] = MappingProxyType({})

    def __str__(self) -> str:
        attempts = f" ({self.attempts} attempts)" if self.attempts > 1 else ""
        lines = [f"  {self.rule} {self.target}{attempts}", *(f"    {line}" for line in self.message.splitlines())]
        lines += [f"    log: {self.log}"] if self.log else []
        waiting = [_waiting(rule, targets) for rule, targets in self.not_started.items()]
        lines += [f"    not started because of it: {', '.join(waiting)}"] if waiting else []
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The failure as JSON."""
        return {**self._asdict(), "not_started": dict(self.not_started)}


def _waiting(rule: str, targets: Sequence[str]) -> str:
    names = ", ".join(filter(None, targets[:NAMES_SHOWN])) + (", ..." if len(targets) > NAMES_SHOWN else "")
    return f"{len(targets)} {rule}" + (f" ({names})" if names else "")


def failures_of(run: RunLog, waiting: Mapping[int, Sequence[tuple[str, str]]] | None = None) -> list[Failure]:
    """List the failed jobs of a run, each once; their logs are read from the working folder.

    `waiting` maps the id of a failed job to (rule, target) of the jobs not started because of it, which Snakemake's log does not contain.
    Without it, the record written at the end of the run (`note_failures`) is used if present.
    """
    if waiting is None and (noted := _read_note(run.path)) is not None:
        return noted
    failures = []
    for job in run.failed:
        by_rule: dict[str, list[str]] = {}
        for rule, target in (waiting or {}).get(job.jobid, ()):
            by_rule.setdefault(rule, []).append(target)
        failures.append(Failure(job.rule, job.target, job.attempts, explain(job), next(iter(job.logs), None), by_rule))
    return failures


def explain(job: Job) -> str:
    """Explain why a job failed: the error in its log, and the external cause if any."""
    own = log_text(job.logs[0]) if job.logs and _written_since(job.logs[0], job.began) else None
    of_cluster = [text for text in map(log_text, job.logs[1:]) if text is not None]
    causes = [job.cause, *map(cause_in, of_cluster)]
    cause = next(filter(None, causes), None)
    silent = "a job of its group failed" if job.grouped else "its log contains no error"
    if own and (words := last_words(own)):
        return f"{words} ({cause})" if cause else words
    if own and (said := last_line(own)):
        return f"{cause or silent}; last line of its log: {said}"
    if cause or job.grouped:
        return cause or silent
    said = next(filter(None, map(last_line, of_cluster)), None)
    return f"it wrote no log; last line of Slurm's log: {said}" if said else "it wrote no log"


def _written_since(path: str, began: datetime | None) -> bool:
    """Whether a log is from this run, not left by an earlier one."""
    try:
        written = Path(path).stat().st_mtime
    except OSError:
        return False
    return began is None or written >= began.timestamp() - CLOCK_SECONDS


def print_failures(failures: Sequence[Failure]) -> str:
    """Format the failed jobs as text."""
    return terminal_text("\n".join([f"Failed jobs: {len(failures)}", *map(str, failures)]))


def note_failures(log: Path, failures: Iterable[Failure]) -> None:
    """Record failures next to Snakemake's log, including blocked jobs, which only the run itself knows."""
    write_json(log.with_suffix(NOTE), [failure.to_json() for failure in failures])


def _read_note(log: Path) -> list[Failure] | None:
    try:
        noted = json.loads(log.with_suffix(NOTE).read_text(encoding="utf-8"))
        return [Failure(**{**values, "not_started": dict(values["not_started"])}) for values in noted]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def summary(run: RunLog) -> dict[str, Any]:
    """Count planned, done and failed jobs and sum their wall seconds, by rule and in total."""
    jobs: dict[str, list[Job]] = {rule: [] for rule in run.planned}
    for job in run.jobs:
        jobs.setdefault(job.rule, []).append(job)
    rows: list[dict[str, Any]] = [
        {
            "rule": rule,
            "planned": run.planned.get(rule, 0),
            **{state: sum(job.state == state for job in started) for state in ("done", "failed")},
            "seconds": sum(round(job.seconds) for job in started),
        }
        for rule, started in jobs.items()
    ]
    keys = ("planned", "done", "failed", "seconds")
    return {
        "log": str(run.path),
        "rules": rows,
        "total": {key: sum(row[key] for row in rows) for key in keys},
        "wall_seconds": round((run.ended - run.began).total_seconds()) if run.began and run.ended else 0,
        "unfinished": [f"{job.rule} {job.target}" for job in run.jobs if job.state == "running"],
        "not_started": {rule: waiting for rule, count in run.planned.items() if (waiting := count - len(jobs[rule])) > 0},
    }


def print_summary(values: Mapping[str, Any]) -> str:
    """Format the result of `summary` as a table."""
    header = ["rule", *values["total"]]
    rows = [*values["rules"], {"rule": "total", **values["total"]}]
    lines = [header, *([str(row[key]) for key in header] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(header))]
    shown = [
        "  ".join([line[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]
    shown.append(f"Wall time: {values['wall_seconds']} s.")
    if values["unfinished"]:
        shown.append(f"Running, or interrupted with the run: {', '.join(values['unfinished'])}.")
    if values["not_started"]:
        shown.append(f"Not started: {', '.join(f'{count} {rule}' for rule, count in values['not_started'].items())}.")
    return "\n".join(shown)
