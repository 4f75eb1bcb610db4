"""Emotion recognition (ER): accuracy, over folds if the corpus has them. SUPERB recipe, as in s3prl 0.4.18."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from speechft.errors import TaskError, listing
from speechft.tasks.catalog import TASKS
from speechft.tasks.classification import UtteranceClassification


class EmotionRecognition(UtteranceClassification):
    """Emotion recognition. The class of a cut is its `label`; SUPERB has four (neutral, happy, angry, sad), but any number works.

    A corpus with folds and without dev and test is cross-validated: each fold (SUPERB: each session of IEMOCAP) is test once, while
    `er_fold_split` divides the others, in corpus order, into train and dev. As in s3prl, the division is the same for all seeds. In s3prl,
    all seeds also share the initial head; here heads depend on the seed.
    """

    name = "er"
    metrics = TASKS["er"].metrics

    def folds(self, cuts: Sequence[Any]) -> dict[str, dict[str, tuple[Any, ...]]] | None:
        """Divide a corpus with folds; see `cross_validation`."""
        return cross_validation(cuts)


def cross_validation(cuts: Sequence[Any]) -> dict[str, dict[str, tuple[Any, ...]]] | None:
    """Return fold -> its train, dev and test cuts, sorted by fold; None if no cut has a fold.

    Raises:
        TaskError: some cuts have no fold (all are listed), there is only one fold, or a fold leaves too few cuts to train on.
    """
    names = [(cut.custom or {}).get("fold") for cut in cuts]
    if not any(names):
        return None
    if missing := [f"{cut.id}: has no fold" for cut, name in zip(cuts, names, strict=True) if not name]:
        raise TaskError(listing(f"{len(missing)} utterance(s) have no fold, others do. Fill the corpus's fold column.", missing))
    different = sorted({str(name) for name in names})
    if len(different) < 2:
        raise TaskError(f"All utterances are in fold {different[0]!r}; cross-validation needs at least two folds.")
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
    """Draw indices of train and dev among the utterances outside the test fold, in s3prl's order.

    s3prl seeds torch's generator with 0 and calls `random_split` with int(0.8 n) and the rest.
    """
    order: list[int] = torch.randperm(num_utterances, generator=torch.Generator().manual_seed(0)).tolist()
    num_train = int(0.8 * num_utterances)
    return order[:num_train], order[num_train:]
