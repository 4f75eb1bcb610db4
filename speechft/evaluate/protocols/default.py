"""Protocol of most tasks: three splits or folds, heads chosen on dev, scores over the utterances of test.

Pooling heads train on one mean vector per clip and layer, computed once. Frame-level heads of all learning rates share each pass of the
encoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from torch import Generator

from speechft.conventions import SPLITS, Manifests
from speechft.corpora.trials import Trial
from speechft.encoders import FeatureEncoder
from speechft.evaluate.data.features import FrameFeatures, FrozenEncoder, keep_frames
from speechft.evaluate.data.folds import Fold, FoldMeans, load_folds
from speechft.evaluate.data.splits import Split, check_targets, need_splits, refuse_folds, split_titles
from speechft.evaluate.probes.bank import Batch, ProbeBank, new_head
from speechft.evaluate.probes.batches import all_rows, dev_rows, scoring_batches, training_batches
from speechft.evaluate.probes.outcome import Run, Tested, shares_of
from speechft.evaluate.probes.training import HeadTraining, train_folds
from speechft.recipes.evaluation import EvaluationRecipe
from speechft.tasks.base import Task
from speechft.tasks.heads import PooledHead


def check(task: Task, cuts: Mapping[str, Sequence[Any]], trials: Sequence[Trial]) -> None:  # noqa: ARG001
    """Check splits, labels, words and classes of a corpus, or of its folds if it has only train; errors as for `load`."""
    folds = task.folds(cuts["train"]) if set(cuts) == {"train"} else None
    if folds is None:
        need_splits(cuts, SPLITS)
        refuse_folds(task, cuts["train"])
        check_targets(task, {name: cuts[name] for name in SPLITS}, split_titles())
    for fold, divided in (folds or {}).items():
        check_targets(task, divided, split_titles(fold))


def load(task: Task, manifests: Manifests, encoder: FeatureEncoder, recipe: EvaluationRecipe, *_: object) -> list[Fold]:
    """Load the three splits, or folds of train; errors as for `load_folds`."""
    return load_folds(task, manifests, encoder, recipe.crop_draws)


def run(task: Task, recipe: EvaluationRecipe, encoder: FrozenEncoder, folds: Sequence[Fold], folder: Path) -> Run:
    """Train the heads of all folds, seeds and learning rates, choose on dev, and score test."""
    head = new_head(task, encoder.encoder.hidden_size, folds[0].labels, recipe.seeds[0])
    means = cache(lambda: FoldMeans(encoder, folds, folder, recipe.disk_gb * 1e9))

    def prepare(fold: Fold) -> SplitTraining:
        features: Mapping[str, Any]
        if isinstance(head, PooledHead):
            features = {name: means().of(split) for name, split in fold.splits.items()}
        else:
            features = {name: FrameFeatures(encoder, fold.splits[name].clips) for name in SPLITS}
            keep_frames(features, recipe.cache_gb)
        return SplitTraining(task, recipe, fold.splits, features)

    return train_folds(task, recipe, encoder, folds, folder, prepare)


class SplitTraining(HeadTraining):
    """Head training with train in the task's order and the task's scores on dev and test."""

    def __init__(self, task: Task, recipe: EvaluationRecipe, splits: Mapping[str, Split], features: Mapping[str, Any]) -> None:
        self.task, self.recipe, self.splits = task, recipe, splits
        self.metric = task.selection_metric
        self.features, self.dev, self.tested = (features[name] for name in SPLITS)

    def batches(self, generator: Generator) -> Iterator[Batch]:
        """Yield batches of clips and targets."""
        return training_batches(self.task, self.splits["train"], self.recipe.batch_size, generator)

    def score(self, bank: ProbeBank[Any], probes: Sequence[int], seed: int) -> list[dict[str, float]]:
        """Score on dev, on the utterances drawn for the seed."""
        dev = self.splits["dev"]
        return bank.scores(self.dev, scoring_batches(dev, dev_rows(bank.setting, dev, seed), bank.frame_level), probes)

    def test(self, bank: ProbeBank[Any], chosen: int) -> Tested:
        """Score on all of test."""
        test = self.splits["test"]
        by_clip, total = bank.outcomes(self.tested, scoring_batches(test, all_rows(test), bank.frame_level), chosen)
        shares = shares_of(self.task, [by_clip[clip] for clip in test.first_clip[:-1]], total)
        return Tested(self.task.scores(total), cuts=test.cuts, shares=shares)
