"""Jobs that are not tried again: an error that can only repeat itself is noted beside the job's log, for the rest of the run.

Snakemake repeats every failed job as often as `retries` says, whatever its exit status, and removes its log first. A job that was refused
in this run ends at once instead, with the same message (the shell function in rules/job.sh), and asks for no GPU
(`Workflow.gpus`). The note names the run, so it is void in the next one, whose first attempt removes it.
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
"""Environment variable that names the run of the workflow; its Snakemake processes on other nodes inherit it."""
NOTE = "SPEECHFT_REFUSAL"
"""Environment variable of a job: the file that notes its refusal."""
Resource = Callable[[Any, int, str], int]
"""What Snakemake calls, by the names wildcards, attempt and rulename."""
SUFFIX = ".refused"
"""Behind the name of the job's log, the name of that file. Its first line is the run, the others are the message."""


def run_name() -> str:
    """Name of this run of the workflow."""
    return os.environ.setdefault(RUN, uuid.uuid4().hex[:12])


def note_refusal(error: SpeechFTError, message: str) -> None:
    """Note that this job was refused; nothing outside a job of the workflow, nor for an error that may pass by itself."""
    if (path := os.environ.get(NOTE)) and not isinstance(error, TransientError):
        write_text(path, f"{run_name()}\n{message}\n")


def was_refused(log: str | Path) -> bool:
    """Whether the job with this log was refused in this run."""
    try:
        return Path(f"{log}{SUFFIX}").read_text(encoding="utf-8").splitlines()[:1] == [run_name()]
    except OSError:
        return False


def resource(log_of: Callable[[str, Any], str] | None, amount: int, limit: int | None, refused: int) -> Resource:
    """Make a Snakemake resource function: `amount` times the attempt, no more than `limit`.

    An attempt that only repeats a refusal asks for `refused`. `log_of` gives the log of a job by its rule and wildcards; without it no
    attempt counts as refused.
    """

    def of_attempt(wildcards: Any, attempt: int, rulename: str) -> int:
        if attempt > 1 and log_of is not None and was_refused(log_of(rulename, wildcards)):
            return min(refused, amount)
        return min(amount * attempt, limit if limit is not None else amount * attempt)

    return of_attempt
