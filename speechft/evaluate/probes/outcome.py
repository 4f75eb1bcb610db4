"""Results of an evaluation's heads for the cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from speechft.errors import TaskError
from speechft.evaluate.probes.bank import Counts
from speechft.evaluate.probes.checkpoints import TrialState
from speechft.recipes.cell import Scores, Selected, Trial
from speechft.recipes.items import ItemShares, TrialScores
from speechft.tasks.base import Task

Shares = Mapping[str, Sequence[tuple[float, float]]]
"""Metric -> part and total of each item; see `speechft.recipes.items.ItemShares`."""


@dataclass(frozen=True)
class Tested:
    """Test results of one probe, as fractions."""

    scores: Mapping[str, float]
    alternatives: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Scores with other post-processing settings, by name."""
    cuts: Sequence[Any] = ()
    """Test items."""
    shares: Shares = field(default_factory=dict)
    """Shares of the items in the metrics."""
    trials: Sequence[float] = ()
    """Score of each trial, if the items are trials."""


def shares_of(task: Task, counts: Sequence[Counts], total: Counts) -> Shares:
    """Compute each item's share of the metrics from its statistics (zeros may be missing) and their sum.

    Metrics that are undefined without one of the items are left out.
    """
    known: dict[tuple[tuple[str, float], ...], Mapping[str, float]] = {}  # many items have equal statistics

    def scores_without(item: Counts) -> Mapping[str, float]:
        key = tuple(sorted(item.items()))
        if key not in known:
            known[key] = task.scores({name: value - item.get(name, 0.0) for name, value in total.items()})
        return known[key]

    shares: dict[str, list[tuple[float, float]]] = {}
    for metric in task.metrics:
        if metric.key in task.quotients:
            part, whole = task.quotients[metric.key]
            shares[metric.key] = [(item.get(part, 0.0), item.get(whole, 0.0)) for item in counts]
            continue
        try:
            without = [scores_without(item)[metric.key] for item in counts]
        except (TaskError, ArithmeticError):
            continue
        middle, score = sum(without) / len(without), task.scores(total)[metric.key]
        shares[metric.key] = [(round(score + (len(without) - 1) * (middle - value), 9) + 0.0, 1.0) for value in without]
    return shares


@dataclass
class Run:
    """Results of all seeds; `values` maps metric keys to one value per seed."""

    trials: list[Trial] = field(default_factory=list)
    selected: list[Selected] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    trainable_parameters: int = 0
    feature_seconds: float = 0.0
    training_seconds: float = 0.0
    selected_on: Literal["dev", "test"] = "dev"
    tested: list[Tested] = field(default_factory=list)
    """Test results in the order of `selected`."""
    items: ItemShares | TrialScores | None = None

    def add(
        self,
        task: Task,
        trials: Sequence[TrialState],
        chosen: int,
        seed: int,
        test: Tested,
        fold: str | None = None,
    ) -> None:
        """Record the trials of a seed, the chosen one, and its test results."""
        best = trials[chosen]
        self.tested.append(test)
        settings = {name: shown(task, scores) for name, scores in test.alternatives.items()}
        head: dict[str, Any] = {"seed": seed, "fold": fold, "learning_rate": best.learning_rate, "best_step": best.best_step}
        self.selected.append(Selected(**head, test=shown(task, test.scores), alternatives=settings))
        for index, trial in enumerate(trials):
            head = {"seed": seed, "fold": fold, "learning_rate": trial.learning_rate, "best_step": trial.best_step}
            dev = shown(task, trial.dev)
            self.trials.append(Trial(**head, dev=dev, diverged=trial.diverged, dropped=trial.dropped, selected=index == chosen))

    def average(self, task: Task, seeds: Sequence[int | None]) -> None:
        """Fill `values`, with the mean over folds for each seed, and the items."""
        for metric in task.metrics:
            of_seeds = [[chosen.test[metric.key] for chosen in self.selected if chosen.seed == seed] for seed in seeds]
            self.values[metric.key] = [sum(values) / len(values) for values in of_seeds]
        if self.tested and self.tested[0].shares:
            self.items = self._items(task, seeds)

    def _items(self, task: Task, seeds: Sequence[int | None]) -> ItemShares:
        """Concatenate the items of all folds."""
        of_seeds = [[tested for chosen, tested in zip(self.selected, self.tested, strict=True) if chosen.seed == seed] for seed in seeds]
        folds = [chosen.fold for chosen in self.selected if chosen.seed == seeds[0]]
        cuts = [cut for tested in of_seeds[0] for cut in tested.cuts]
        keys = [metric.key for metric in task.metrics if all(metric.key in tested.shares for tested in self.tested)]
        parts = {key: [[part for tested in of_seed for part, _ in tested.shares[key]] for of_seed in of_seeds] for key in keys}
        return ItemShares(
            unit=task.item,
            ids=[cut.id for cut in cuts],
            speakers=speakers_of(cuts),
            folds=[str(fold) for fold, tested in zip(folds, of_seeds[0], strict=True) for _ in tested.cuts] if folds[0] else None,
            totals={key: [total for tested in of_seeds[0] for _, total in tested.shares[key]] for key in keys},
            parts=parts,
        )


def speakers_of(cuts: Sequence[Any]) -> list[str] | None:
    """Return the speaker of each cut; None unless every cut has exactly one."""
    speakers = [{supervision.speaker for supervision in cut.supervisions} for cut in cuts]
    return [str(*of_cut) for of_cut in speakers] if all(len(of_cut) == 1 and all(of_cut) for of_cut in speakers) else None


def shown(task: Task, scores: Mapping[str, float]) -> Scores:
    """Convert scores of the task's metrics to the units of tables."""
    metrics = dict.fromkeys((*task.metrics, *task.dev_metrics))
    return {metric.key: metric.of_fraction(scores[metric.key]) for metric in metrics if metric.key in scores}
