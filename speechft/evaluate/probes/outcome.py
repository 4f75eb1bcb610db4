"""What the heads of an evaluation gave, in the form that goes into the cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from speechft.recipes.cell import Scores, Selected, Trial
from speechft.tasks.base import Task

if TYPE_CHECKING:
    from speechft.evaluate.probes.training import TrialState


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
        self.selected.append(
            Selected(
                seed=seed,
                fold=fold,
                learning_rate=best.learning_rate,
                best_step=best.best_step,
                test=shown(task, test),
                alternatives={name: shown(task, scores) for name, scores in (alternatives or {}).items()},
            )
        )
        for index, trial in enumerate(trials):
            self.trials.append(
                Trial(
                    seed=seed,
                    fold=fold,
                    learning_rate=trial.learning_rate,
                    dev=shown(task, trial.dev),
                    best_step=trial.best_step,
                    diverged=trial.diverged,
                    selected=index == chosen,
                )
            )

    def average(self, task: Task, seeds: Sequence[int | None]) -> None:
        """Fill `values`: for each seed the mean over its folds."""
        for metric in task.metrics:
            of_seeds = [[chosen.test[metric.key] for chosen in self.selected if chosen.seed == seed] for seed in seeds]
            self.values[metric.key] = [sum(values) / len(values) for values in of_seeds]


def shown(task: Task, scores: Mapping[str, float]) -> Scores:
    """Scores as tables show them, of the metrics that are there."""
    metrics = dict.fromkeys((*task.metrics, *task.dev_metrics))
    return {metric.key: metric.shown(scores[metric.key]) for metric in metrics if metric.key in scores}
