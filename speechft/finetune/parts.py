"""The tasks of one fine-tuning: usually one, or several that share the encoder and take turns."""

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
    """Tasks of a fine-tuning by name, with their metrics on dev.

    Several tasks are selected by their mean error: the selection metric of each, or one minus it where higher is better. The paper does
    not say how it selects; this is ours.
    """

    def __init__(self, recipe: FinetuneRecipe) -> None:
        self.recipes: dict[str, JointTask] = recipe.parts
        self.tasks: dict[str, Task] = {name: task_of(part) for name, part in self.recipes.items()}
        keys = Counter(metric.key for task in self.tasks.values() for metric in task.dev_metrics)
        # Two tasks of one kind report the same metrics, so the name of the part is appended.
        self._columns = {
            (name, metric.key): metric.key if keys[metric.key] == 1 else f"{metric.key}_{name}"
            for name, task in self.tasks.items()
            for metric in task.dev_metrics
        }

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def dev_metrics(self) -> tuple[Metric, ...]:
        """Metrics in the result of `scores`."""
        each = tuple(
            replace(metric, key=self._columns[name, metric.key]) for name, task in self.tasks.items() for metric in task.dev_metrics
        )
        return each if len(self) == 1 else (*each, MEAN_ERROR)

    @property
    def selection_metric(self) -> Metric:
        """Metric that selects the best encoder on dev."""
        if len(self) > 1:
            return MEAN_ERROR
        (task,) = self.tasks.values()
        return task.selection_metric

    def scores(self, statistics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Compute metric key -> value from the summed statistics of each task on dev."""
        scores: dict[str, float] = {}
        errors = []
        for name, task in self.tasks.items():
            of_task = task.scores(statistics[name])
            scores |= {self._columns[name, key]: value for key, value in of_task.items()}
            chosen = of_task[task.selection_metric.key]
            errors.append(1.0 - chosen if task.selection_metric.higher_is_better else chosen)
        return scores if len(self) == 1 else {**scores, MEAN_ERROR.key: sum(errors) / len(errors)}


def take_turns(shares: Sequence[float], count: int) -> list[int]:
    """Assign each of `count` batches to the task that is furthest behind its share; the first one on ties.

    There is no randomness: after any number of batches each task has had its share to within one batch. Tasks of equal shares alternate,
    and an update that accumulates as many batches as there are tasks sees all of them.
    """
    total = sum(shares)
    had = [0] * len(shares)
    turns = []
    for number in range(1, count + 1):
        behind = [share / total * number - done for share, done in zip(shares, had, strict=True)]
        # Shares that are equal but for rounding must not depend on it.
        chosen = max(range(len(shares)), key=lambda index: (round(behind[index], 9), -index))
        had[chosen] += 1
        turns.append(chosen)
    return turns
