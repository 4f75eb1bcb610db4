"""What a Snakefile calls when a run starts and ends. Here alone Snakemake's own objects are looked into."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechft.runs.log import read_log, target_of
from speechft.runs.report import failures_of, note_failures, print_failures
from speechft.runtime.slurm import forget_run, note_run


def started() -> None:
    """Note who works in this folder: `speechft resume` does not cancel jobs of a Snakemake that runs on another machine."""
    note_run()


def ended() -> None:
    """Forget that a Snakemake works here."""
    forget_run()


def failed(workflow: Any, log: str | Sequence[str]) -> None:
    """Say which jobs failed and why: the last word of a run, on the terminal and in Snakemake's log. Arguments: `describe_failures`."""
    from snakemake.logging import logger  # type: ignore[import-untyped]

    forget_run()
    if failures := describe_failures(workflow, log):
        logger.error(failures)


def describe_failures(workflow: Any, log: str | Sequence[str]) -> str:
    """The failed jobs of a run that is about to end, as text; noted beside its log too, for `speechft jobs`.

    Args:
        workflow: Snakemake's.
        log: what Snakemake gives its `onerror` handler: its log file, or a list with it.
    """
    paths = [log] if isinstance(log, str) else list(log)
    if not paths:
        return ""
    run = read_log(paths[0])
    failures = failures_of(run, jobs_behind(workflow))
    if not failures:
        return ""
    note_failures(Path(paths[0]), failures)
    return print_failures(failures)


def jobs_behind(workflow: Any) -> dict[int, list[tuple[str, str]]]:
    """For each failed job, by its id, the rules and targets of the jobs that wait for it; nothing where Snakemake does not tell."""
    waiting: dict[int, list[tuple[str, str]]] = {}
    try:
        dag = workflow.dag
        for failed in workflow.scheduler.failed:
            for job in getattr(failed, "jobs", [failed]):  # a group has several
                behind = [
                    other for other in dag.bfs(dag.depending, job) if other is not job and dag.needrun(other) and not dag.finished(other)
                ]
                waiting[dag.jobid(job)] = [(other.rule.name, target_of(other.wildcards_dict, map(str, other.output))) for other in behind]
    except (AttributeError, TypeError):  # no public interface: another version may have other names
        return {}
    return waiting
