"""Hooks that the Snakefile calls when a run starts and ends. Only this module accesses Snakemake's own objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechft.runs.log import read_log, target_of
from speechft.runs.report import failures_of, note_failures, print_failures
from speechft.runtime.slurm import forget_run, note_run


def started() -> None:
    """Record that this Snakemake works in the folder, so that `speechft resume` elsewhere does not cancel its jobs."""
    note_run()


def ended() -> None:
    """Remove the record that a Snakemake works in this folder."""
    forget_run()


def failed(workflow: Any, log: str | Sequence[str]) -> None:
    """Log which jobs failed and why, at the end of a run. Arguments as in `describe_failures`."""
    from snakemake.logging import logger  # type: ignore[import-untyped]

    forget_run()
    if failures := describe_failures(workflow, log):
        logger.error(failures)


def describe_failures(workflow: Any, log: str | Sequence[str]) -> str:
    """Describe the failed jobs of a run that is ending, and record them next to its log for `speechft jobs`.

    Args:
        workflow: Snakemake's workflow object.
        log: argument of Snakemake's `onerror` handler: its log file, or a list with it.
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
    """Id of each failed job -> (rule, target) of the jobs that depend on it; empty if Snakemake does not provide it."""
    waiting: dict[int, list[tuple[str, str]]] = {}
    try:
        dag = workflow.dag
        for failed in workflow.scheduler.failed:
            for job in getattr(failed, "jobs", [failed]):  # a group contains several jobs
                behind = [
                    other for other in dag.bfs(dag.depending, job) if other is not job and dag.needrun(other) and not dag.finished(other)
                ]
                waiting[dag.jobid(job)] = [(other.rule.name, target_of(other.wildcards_dict, map(str, other.output))) for other in behind]
    except (AttributeError, TypeError):  # not a public interface: names can differ between versions
        return {}
    return waiting
