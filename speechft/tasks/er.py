"""Emotion recognition (ER): how an utterance is said; accuracy, over folds where the corpus has them. SUPERB recipe, as in s3prl 0.4.18."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from speechft.errors import TaskError, listing
from speechft.tasks.catalog import TASKS
from speechft.tasks.classification import UtteranceClassification


class EmotionRecognition(UtteranceClassification):
    """ER. The class of a cut is its `label`: SUPERB has four (neutral, happy, angry, sad), any other number works too.

    A corpus without dev and test whose recordings name their fold is cross-validated: each fold (SUPERB: each session of IEMOCAP) is test
    once, while the others, in the order of the corpus, are divided into train and dev by `er_fold_split`. The reference seeds the division
    with 0 whatever the seed of the training, so here too it is the same for all seeds. That the reference thereby also gives all seeds
    the same initial head is not followed: heads depend on the seed.
    """

    name = "er"
    metrics = TASKS["er"].metrics

    def folds(self, cuts: Sequence[Any]) -> dict[str, dict[str, tuple[Any, ...]]] | None:
        """Divide a corpus that names folds; see `cross_validation`."""
        return cross_validation(cuts)


def cross_validation(cuts: Sequence[Any]) -> dict[str, dict[str, tuple[Any, ...]]] | None:
    """Fold -> its train, dev and test cuts, in order of the fold's name; None where no cut names a fold.

    Raises:
        TaskError: some cuts name no fold (all are listed), there is one fold only, or a fold leaves too few cuts to train on.
    """
    names = [(cut.custom or {}).get("fold") for cut in cuts]
    if not any(names):
        return None
    if missing := [f"{cut.id}: has no fold" for cut, name in zip(cuts, names, strict=True) if not name]:
        raise TaskError(listing(f"{len(missing)} utterance(s) name no fold, others do. Fill the corpus' fold column.", missing))
    different = sorted({str(name) for name in names})
    if len(different) < 2:
        raise TaskError(f"All utterances are of fold {different[0]!r}; cross-validation needs two folds or more.")
    divided = {}
    for fold in different:
        rest = [cut for cut, name in zip(cuts, names, strict=True) if str(name) != fold]
        if len(rest) < 2:
            raise TaskError(f"Without fold {fold!r} one utterance is left, too few for train and dev.")
        train, dev = er_fold_split(len(rest))
        test = tuple(cut for cut, name in zip(cuts, names, strict=True) if str(name) == fold)
        divided[fold] = {"train": tuple(rest[index] for index in train), "dev": tuple(rest[index] for index in dev), "test": test}
    return divided


def er_fold_split(num_utterances: int) -> tuple[list[int], list[int]]:
    """Indices of train and dev among the utterances that are not in the fold's test, in the order in which the reference draws them.

    The reference seeds torch's generator with 0 and calls `random_split` with int(0.8 n) and the rest.
    """
    order: list[int] = torch.randperm(num_utterances, generator=torch.Generator().manual_seed(0)).tolist()
    num_train = int(0.8 * num_utterances)
    return order[:num_train], order[num_train:]
