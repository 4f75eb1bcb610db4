"""The columns of tables: the metrics of tasks, and SUPERB's two scores over tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from speechft.errors import TableError
from speechft.tasks.catalog import TASKS
from speechft.tasks.metric import Metric

_SCORES = [Metric(key, key, higher_is_better=True, unit="") for key in ("SUPERB_S", "SUPERB_FULL")]


class _Metrics(Mapping[str, Metric]):
    """A view of the tasks that there are at the moment."""

    def _found(self) -> dict[str, Metric]:
        return {metric.key: metric for metric in [*(metric for task in TASKS.values() for metric in task.metrics), *_SCORES]}

    def __getitem__(self, key: str) -> Metric:
        return self._found()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())


METRICS: Mapping[str, Metric] = _Metrics()
"""Key -> metric, of all tasks with an entry, and the scores."""


def task_metrics(tasks: Iterable[str], described: Mapping[str, Iterable[Metric]] | None = None) -> list[Metric]:
    """The columns of evaluation tasks, in their order; `described` has those of tasks without an entry.

    Raises:
        TableError: a task has no metric here.
    """
    tasks, described = list(tasks), described or {}
    if unknown := [task for task in tasks if task not in TASKS and not described.get(task)]:
        raise TableError(f"No metric is known of task {', '.join(map(repr, unknown))}. Tasks with metrics: {', '.join(TASKS)}.")
    return [metric for task in tasks for metric in described.get(task) or TASKS[task].metrics]
