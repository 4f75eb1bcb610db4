"""Why a cell is not there: what the logs of the jobs behind it say."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from speechft.cost.jobs import Job, Jobs
from speechft.experiment.schema import PRETRAINED
from speechft.experiment.workflow import Workflow
from speechft.runs.last_words import last_words, log_text

NOT_RUN = "not run"
_LOGS = {"continue_pretraining": "finetune", "import_checkpoint": "import", "manifests": "corpora", "unite": "corpora"}
"""Folders of logs that are not called like their rule."""
_OF_ENCODERS = ("pretrain", "import_checkpoint", "fbank")


def job_files(flow: Workflow, job: Job, results: str) -> tuple[str, str] | None:
    """Log and first output of a job behind a cell, in the folder `results`; None for the small jobs that only write recipes."""
    names = "/".join(job.names)
    log = f"{results}/logs/{_LOGS.get(job.rule, job.rule)}/{names}.log"
    if job.rule == "recipe":
        return None
    if job.rule == "fetch":
        file = next(path for path, arguments in flow.public_files.items() if arguments[0] == job.names[0])
        return f"{results}/logs/fetch/{file}.log", file
    if job.rule == "evaluate":
        return log, f"{results}/cells/{names}.json"
    if job.rule in ("manifests", "unite"):
        return log, f"{results}/corpora/{names}"
    model = f"{names}/{'/'.join(PRETRAINED)}" if job.rule in _OF_ENCODERS else names
    return log, f"{results}/models/{model}/model.safetensors"


def pending_reasons(flow: Workflow, cells: Iterable[str], results: str | Path) -> dict[str, str]:
    """For each cell that is not there, why, e.g. `finetune hubert_base/asr/stable_ft failed: ... (LOG)`, or `not run`.

    Only jobs whose output is missing count, so that a failure that was mended since is no reason. Of several the latest is given.

    Args:
        flow: the workflow of the experiment.
        cells: names, `encoder/finetuning/method/task`.
        results: folder with `cells` and `logs`. Without logs nothing is known, and the answer is empty.
    """
    results = Path(results).as_posix()
    if not Path(results, "logs").is_dir():
        return {}

    @cache
    def of_job(job: Job) -> tuple[float, str] | None:
        files = job_files(flow, job, results)
        if files is None or Path(files[1]).exists() or (text := log_text(files[0])) is None:
            return None
        words = last_words(text)
        said = f"failed: {words.splitlines()[0]}" if words else "began and has not finished"
        return Path(files[0]).stat().st_mtime if words else 0.0, f"{job.name} {said} ({files[0]})"

    found = {}
    for cell in cells:
        if not Path(f"{results}/cells/{cell}.json").exists():
            encoder, finetuning, method, task = cell.split("/")
            jobs = Jobs(flow)
            jobs.add_cell((encoder, finetuning, method), task)
            known = [reason for job in jobs.found if (reason := of_job(job)) is not None]
            found[cell] = max(known)[1] if known else NOT_RUN
    return found
