"""The tasks of a fine-tuning: usually one, or several that share the encoder and take turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from speechft.recipes.finetuning import FinetuneRecipe, JointTask
from speechft.tasks import task_of
from speechft.tasks.base import Task
from speechft.tasks.metric import Metric

MEAN_ERROR = Metric("MEAN_ERROR", "mean error over the tasks", higher_is_better=False, unit="")


class Parts:
    """Tasks of a fine-tuning by name, with their dev metrics.

    With several tasks, the encoder is selected by their mean error: the selection metric of each task, or one minus it if higher is better.
    The paper does not describe its selection; this is our choice.
    """

    def __init__(self, recipe: FinetuneRecipe) -> None:
        self.recipes: dict[str, JointTask] = recipe.parts
        self.tasks: dict[str, Task] = {name: task_of(part) for name, part in self.recipes.items()}
        keys = Counter(metric.key for task in self.tasks.values() for metric in task.dev_metrics)
        # Two tasks of one kind have the same metrics, so the task's name is appended.
        self._columns = {
            (name, metric.key): metric.key if keys[metric.key] == 1 else f"{metric.key}_{name}"
            for name, task in self.tasks.items()
            for metric in task.dev_metrics
        }

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def dev_metrics(self) -> tuple[Metric, ...]:
        """Metrics returned by `scores`."""
        each = tuple(
            replace(metric, key=self._columns[name, metric.key]) for name, task in self.tasks.items() for metric in task.dev_metrics
        )
        return each if len(self) == 1 else (*each, MEAN_ERROR)

    @property
    def selection_metric(self) -> Metric:
        """Dev metric that selects the best encoder."""
        if len(self) > 1:
            return MEAN_ERROR
        (task,) = self.tasks.values()
        return task.selection_metric

    def scores(self, statistics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Compute metric key -> value from each task's summed dev statistics."""
        scores: dict[str, float] = {}
        errors = []
        for name, task in self.tasks.items():
            of_task = task.scores(statistics[name])
            scores |= {self._columns[name, key]: value for key, value in of_task.items()}
            chosen = of_task[task.selection_metric.key]
            errors.append(1.0 - chosen if task.selection_metric.higher_is_better else chosen)
        return scores if len(self) == 1 else {**scores, MEAN_ERROR.key: sum(errors) / len(errors)}


def take_turns(shares: Sequence[float], count: int) -> list[int]:
    """Assign each of `count` batches to the task that is furthest behind its share; ties go to the first.

    This is deterministic: after any number of batches, each task has had its share to within one batch. Tasks with equal shares alternate,
    so an update that accumulates one batch per task includes all tasks.
    """
    total = sum(shares)
    had = [0] * len(shares)
    turns = []
    for number in range(1, count + 1):
        behind = [share / total * number - done for share, done in zip(shares, had, strict=True)]
        # Rounded, so that equal shares are not ordered by rounding errors.
        chosen = max(range(len(shares)), key=lambda index: (round(behind[index], 9), -index))
        had[chosen] += 1
        turns.append(chosen)
    return turns
