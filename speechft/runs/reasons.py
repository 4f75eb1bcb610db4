"""Why a cell is not there: what the logs of the jobs behind it say."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from speechft.planning.jobs import Job, jobs_behind
from speechft.runs.last_words import last_words, log_text

NOT_RUN = "not run"


def pending_reasons(experiment: str | Path, cells: Iterable[str], results: str | Path, planned: str) -> dict[str, str]:
    """For each cell that is not there, why, e.g. `finetune hubert_base/asr/stable_ft failed: ... (LOG)`, or `not run`.

    Only jobs whose output is missing count, so that a failure that was mended since is no reason. Of several the latest is given.

    Args:
        experiment: the experiment file.
        cells: names, `encoder/finetuning/method/task`.
        results: folder with `cells` and `logs`. Without logs, or without Snakemake, nothing is known, and the answer is empty.
        planned: the folder of results in the experiment, of which `results` may be a copy.
    """
    pending = [cell for cell in cells if not Path(results, "cells", f"{cell}.json").exists()]
    if not pending or not Path(results, "logs").is_dir():
        return {}
    try:
        jobs = {job.name: job for job in jobs_behind(experiment, pending)}
    except ImportError:  # tables are also made where Snakemake is not installed
        return {}

    def here(path: str) -> Path:
        return Path(results, Path(path).relative_to(planned)) if Path(path).is_relative_to(planned) else Path(path)

    @cache
    def of_job(job: Job) -> tuple[float, str] | None:
        log = here(job.log).as_posix()
        if job.rule == "recipe" or here(job.outputs[0]).exists() or (text := log_text(log)) is None:
            return None
        words = last_words(text)
        said = f"failed: {words.splitlines()[0]}" if words else "began and has not finished"
        return Path(log).stat().st_mtime if words else 0.0, f"{job.name} {said} ({log})"

    reasons = {}
    for cell in pending:
        known = [reason for job in jobs[f"evaluate {cell}"].behind() if (reason := of_job(job)) is not None]
        reasons[cell] = max(known)[1] if known else NOT_RUN
    return reasons
