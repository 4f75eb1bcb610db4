"""Columns of tables: metrics of tasks, and the two SUPERB scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from speechft.errors import TableError
from speechft.tasks.catalog import TASKS
from speechft.tasks.metric import Metric

_SCORES = [Metric(key, key, higher_is_better=True, unit="") for key in ("SUPERB_S", "SUPERB_FULL")]


class _Metrics(Mapping[str, Metric]):
    """Live view of the metrics of all registered tasks, which plug-ins can extend."""

    def _found(self) -> dict[str, Metric]:
        return {metric.key: metric for metric in [*(metric for task in TASKS.values() for metric in task.metrics), *_SCORES]}

    def __getitem__(self, key: str) -> Metric:
        return self._found()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())


METRICS: Mapping[str, Metric] = _Metrics()
"""Key -> metric, for all tasks with a catalog entry, and the scores."""


def task_metrics(tasks: Iterable[str], described: Mapping[str, Iterable[Metric]] | None = None) -> list[Metric]:
    """List the columns of tasks in order; `described` provides those of tasks without a catalog entry.

    Raises:
        TableError: a task has no metrics.
    """
    tasks, described = list(tasks), described or {}
    if unknown := [task for task in tasks if task not in TASKS and not described.get(task)]:
        raise TableError(f"No known metrics for task {', '.join(map(repr, unknown))}. Tasks with metrics: {', '.join(TASKS)}.")
    return [metric for task in tasks for metric in described.get(task) or TASKS[task].metrics]
