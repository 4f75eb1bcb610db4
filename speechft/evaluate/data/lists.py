"""What the lists of a corpus tell about an evaluation, before there is an encoder and before a recording is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from speechft.conventions import SPLITS
from speechft.corpora.trials import Trial
from speechft.evaluate.data.splits import check_targets, need_splits, refuse_folds, split_titles
from speechft.evaluate.engine import OWN_EVALUATION
from speechft.tasks.base import Task


def check_evaluation(task: Task, cuts: Mapping[str, Sequence[Any]], trials: Sequence[Trial]) -> None:
    """Refuse a corpus on which the task cannot be evaluated; `cuts` are those of each split that there is.

    Raises:
        CorpusError, TaskError: a split, a column, trials, a class or a word is missing, as the evaluation itself would say it.
    """
    own = OWN_EVALUATION.get(task.name)
    if own is not None:
        own.check(task, cuts, trials)
        return
    folds = task.folds(cuts["train"]) if set(cuts) == {"train"} else None
    if folds is None:
        need_splits(cuts, SPLITS)
        refuse_folds(task, cuts["train"])
        check_targets(task, {name: cuts[name] for name in SPLITS}, split_titles())
        return
    for fold, divided in folds.items():
        check_targets(task, divided, split_titles(fold))
