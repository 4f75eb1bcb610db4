"""Cuts for training and selection in stage 1: a corpus's train and dev splits, or those of a fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from speechft.conventions import Manifests
from speechft.corpora import load_split
from speechft.errors import TaskError
from speechft.evaluate.data.splits import check_targets, need_splits, split_titles
from speechft.files.text import nfc
from speechft.tasks.base import Task


def needed_splits(fold: str | None) -> tuple[str, ...]:
    """Return the required manifests; a corpus with folds has all recordings in train."""
    return ("train",) if fold is not None else ("train", "dev")


def load_stage1_split(task: Task, manifests: Manifests, split: str, fold: str | None) -> list[Any]:
    """Load the cuts of `split`. With `fold`, that fold is test, and the task divides the rest into train and dev.

    Raises:
        CorpusError: the split does not exist.
        TaskError: the task defines no folds for this corpus, or none of that name.
    """
    if fold is None:
        return list(load_split(manifests, split))
    return list(_without(task, list(load_split(manifests, "train")), fold)[split])


def check_stage1(task: Task, cuts: Mapping[str, Sequence[Any]], fold: str | None) -> None:
    """Check that the task can be trained on a corpus; `cuts` maps split -> cuts.

    Raises:
        CorpusError, TaskError: a split, the fold, a column, a class or a word is missing.
    """
    need_splits(cuts, needed_splits(fold))
    divided = cuts if fold is None else _without(task, cuts["train"], fold)
    check_targets(task, {name: divided[name] for name in ("train", "dev")}, split_titles(fold))


def _without(task: Task, cuts: Sequence[Any], fold: str) -> Mapping[str, tuple[Any, ...]]:
    folds = task.folds(cuts)
    fold = nfc(fold)
    if folds is None:
        raise TaskError(f"fold: task {task.name!r} has no folds for this corpus. Fill the corpus's fold column, or leave `fold` out.")
    if fold not in folds:
        raise TaskError(f"fold: the corpus has no fold {fold!r}. Folds: {', '.join(folds)}.")
    return folds[fold]
