"""The columns of tables: the metrics of all tasks, and SUPERB's two scores over tasks."""

from __future__ import annotations

from collections.abc import Iterable

from speechft.errors import TableError
from speechft.tasks.catalog import TASKS
from speechft.tasks.metric import Metric

_SCORES = [Metric(key, key, higher_is_better=True, unit="") for key in ("SUPERB_S", "SUPERB_FULL")]
METRICS = {metric.key: metric for metric in [*(metric for task in TASKS.values() for metric in task.metrics), *_SCORES]}


def task_metrics(tasks: Iterable[str]) -> list[Metric]:
    """The columns of evaluation tasks, in their order.

    Raises:
        TableError: a task has no metric here.
    """
    tasks = list(tasks)
    if unknown := [task for task in tasks if task not in TASKS]:
        raise TableError(f"No metric is known of task {', '.join(map(repr, unknown))}. Tasks with metrics: {', '.join(TASKS)}.")
    return [metric for task in tasks for metric in TASKS[task].metrics]
