"""Results of an evaluation's heads, as the cell holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from speechft.evaluate.probes.checkpoints import TrialState
from speechft.recipes.cell import Scores, Selected, Trial
from speechft.tasks.base import Task


@dataclass
class Run:
    """Results of all seeds; `values` is metric key -> one value a seed."""

    trials: list[Trial] = field(default_factory=list)
    selected: list[Selected] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    trainable_parameters: int = 0
    feature_seconds: float = 0.0
    training_seconds: float = 0.0
    selected_on: Literal["dev", "test"] = "dev"

    def add(
        self,
        task: Task,
        trials: Sequence[TrialState],
        chosen: int,
        seed: int,
        test: Mapping[str, float],
        *,
        fold: str | None = None,
        alternatives: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        """Record the trials of a seed, which of them was chosen, and its scores on test (fractions)."""
        best = trials[chosen]
        settings = {name: shown(task, scores) for name, scores in (alternatives or {}).items()}
        head: dict[str, Any] = {"seed": seed, "fold": fold, "learning_rate": best.learning_rate, "best_step": best.best_step}
        self.selected.append(Selected(**head, test=shown(task, test), alternatives=settings))
        for index, trial in enumerate(trials):
            head = {"seed": seed, "fold": fold, "learning_rate": trial.learning_rate, "best_step": trial.best_step}
            dev = shown(task, trial.dev)
            self.trials.append(Trial(**head, dev=dev, diverged=trial.diverged, dropped=trial.dropped, selected=index == chosen))

    def average(self, task: Task, seeds: Sequence[int | None]) -> None:
        """Fill `values`: for each seed the mean over its folds."""
        for metric in task.metrics:
            of_seeds = [[chosen.test[metric.key] for chosen in self.selected if chosen.seed == seed] for seed in seeds]
            self.values[metric.key] = [sum(values) / len(values) for values in of_seeds]


def shown(task: Task, scores: Mapping[str, float]) -> Scores:
    """Scores as tables show them, for the task's metrics."""
    metrics = dict.fromkeys((*task.metrics, *task.dev_metrics))
    return {metric.key: metric.of_fraction(scores[metric.key]) for metric in metrics if metric.key in scores}
