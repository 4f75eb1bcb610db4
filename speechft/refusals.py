"""Jobs that are not tried again: an error of ours that only repeats itself is marked in the job's log, for the rest of the run.

Snakemake repeats every failed job as often as `retries` says, whatever its exit status. A job of the workflow whose log bears the mark of
the run ends at once instead (the shell function `job` in rules/common.smk), and asks for no GPU (`Workflow.gpus`). The mark names the run,
so it is void in the next one, and the first attempt there writes the log anew.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from speechft.errors import SpeechFTError, TransientError

RUN = "SPEECHFT_RUN"
"""Environment variable that names the run of the workflow; its Snakemake processes on other nodes inherit it."""
MARK = "SPEECHFT_REFUSAL"
"""Environment variable of a job: the line to end its log with if it is refused."""


def refusal_mark() -> str:
    """The line that marks logs in this run of the workflow."""
    run = os.environ.setdefault(RUN, uuid.uuid4().hex[:12])
    return f"No further attempt in run {run}: it could only end the same way."


def mark_of(error: SpeechFTError) -> str | None:
    """The line to print behind an error; None outside a job, and for what may pass by itself."""
    return None if isinstance(error, TransientError) else os.environ.get(MARK)


def was_refused(log: str | Path) -> bool:
    """Whether the job with this log was refused in this run."""
    try:
        lines = Path(log).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return refusal_mark() in lines
