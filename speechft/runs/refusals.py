"""Jobs that are not retried: a permanent error is recorded next to the job's log for the rest of the run.

Snakemake retries every failed job up to `retries` times, whatever its exit status, and removes its log first. If a permanent error was
recorded in this run, the attempt ends at once with the same message (the shell function in rules/job.sh) and requests no GPU
(`Workflow.gpus`). The record names the run, so the next run ignores it, and its first attempt removes it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from speechft.errors import SpeechFTError, TransientError
from speechft.files.atomic import write_text

RUN = "SPEECHFT_RUN"
"""Environment variable with the name of the workflow run; inherited by Snakemake processes on other nodes."""
NOTE = "SPEECHFT_REFUSAL"
"""Environment variable of a job: the file that records its permanent error."""
Resource = Callable[[Any, int, str], int]
"""Resource function of Snakemake, with the arguments wildcards, attempt and rulename."""
SUFFIX = ".refused"
"""Suffix of that file, appended to the name of the job's log. The first line is the run, the rest the message."""


def run_name() -> str:
    """Return the name of this workflow run."""
    return os.environ.setdefault(RUN, uuid.uuid4().hex[:12])


def note_refusal(error: SpeechFTError, message: str) -> None:
    """Record a permanent error of this job. Does nothing for transient errors and outside the workflow."""
    if (path := os.environ.get(NOTE)) and not isinstance(error, TransientError):
        write_text(path, f"{run_name()}\n{message}\n")


def was_refused(log: str | Path) -> bool:
    """Whether the job with this log had a permanent error in this run."""
    try:
        return Path(f"{log}{SUFFIX}").read_text(encoding="utf-8").splitlines()[:1] == [run_name()]
    except OSError:
        return False


def resource(log_of: Callable[[str, Any], str] | None, amount: int, limit: int | None, refused: int) -> Resource:
    """Make a Snakemake resource function: `amount` times the attempt, at most `limit`.

    An attempt after a permanent error requests `refused`. `log_of` maps rule and wildcards to the job's log; without it, permanent errors
    are unknown.
    """

    def of_attempt(wildcards: Any, attempt: int, rulename: str) -> int:
        if attempt > 1 and log_of is not None and was_refused(log_of(rulename, wildcards)):
            return min(refused, amount)
        return min(amount * attempt, limit if limit is not None else amount * attempt)

    return of_attempt
