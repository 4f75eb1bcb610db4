"""Reasons why cells are pending, from the logs of the jobs they depend on."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from speechft.planning.jobs import Job, jobs_behind
from speechft.runs.last_words import last_words, log_text

NOT_RUN = "not run"


def pending_reasons(experiment: str | Path, cells: Iterable[str], results: str | Path, planned: str) -> dict[str, str]:
    """Map each missing cell to its reason: `finetune hubert_base/asr/stable_ft failed: ... (LOG)`, or `not run`.

    Only jobs whose output is missing count, so failures fixed since are ignored. If several failed, the latest is given.

    Args:
        experiment: the experiment file.
        cells: names, `encoder/finetuning/method/task`.
        results: folder with `cells` and `logs`. The result is empty without logs or Snakemake.
        planned: results folder named in the experiment, of which `results` may be a copy.
    """
    pending = [cell for cell in cells if not Path(results, "cells", f"{cell}.json").exists()]
    if not pending or not Path(results, "logs").is_dir():
        return {}
    try:
        jobs = {job.name: job for job in jobs_behind(experiment, pending)}
    except ImportError:  # tables do not require Snakemake
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
