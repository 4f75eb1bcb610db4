"""Estimate the cost of a stage 1 training from its recipe and corpus sizes. This module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from speechft.planning.corpus_sizes import CorpusSize, SplitSize
from speechft.recipes.finetuning import FinetuneRecipe, JointTask
from speechft.tasks.catalog import task_entry


@dataclass(frozen=True)
class TrainingEstimate:
    """Estimated cost of training an encoder: hours of audio without and with a backward pass, and other determinants of time."""

    forward_hours: float
    update_hours: float
    updates: int
    frozen_extractor: bool
    precision: str
    heads: Mapping[str, tuple[float, Mapping[str, Any]]] = field(default_factory=dict)
    """Task (or kind of a user's task) -> hours of audio that its head is trained on, and options of the task."""
    early: int = 0
    """Number of early checkpoints."""
    kept_hours: float = 0.0
    """Hours of audio whose extractor output can be cached during training."""


def estimate_finetuning(recipe: FinetuneRecipe, sizes: Mapping[str, CorpusSize]) -> TrainingEstimate:
    """Estimate a fine-tuning; `sizes` maps the tasks of `recipe.parts` to their corpus sizes.

    The encoder is frozen for the first `head_only` of the updates. Dev is scored every `validate_every` updates and after the last one.
    Utterances are assumed to have the mean duration of train.
    """
    shares = sum(part.share for part in recipe.parts.values())
    forward, update, kept = 0.0, 0.0, 0.0
    heads: dict[str, tuple[float, Mapping[str, Any]]] = {}
    for name, part in recipe.parts.items():
        batches = recipe.updates * recipe.accumulate * part.share / shares
        train, dev = sizes[name].fold("train"), sizes[name].fold("dev")
        hours = batches * _batch_seconds(recipe, part, train) / 3600
        forward += recipe.head_only * hours + dev.hours * -(-recipe.updates // recipe.validate_every)
        update += (1 - recipe.head_only) * hours
        if recipe.freeze_extractor and recipe.padding == "alone":
            kept += (train - train.longer(task_entry(part.task, part.kind).crop_seconds)).hours + dev.hours
        task = part.kind or part.task
        heads[task] = (heads.get(task, (0.0, {}))[0] + hours, part.task_options)
    return TrainingEstimate(forward, update, recipe.updates, recipe.freeze_extractor, recipe.precision, heads, len(recipe.early), kept)


def _batch_seconds(recipe: FinetuneRecipe, part: JointTask, train: SplitSize) -> float:
    """Return the seconds of audio in a batch of utterances of mean length."""
    entry = task_entry(part.task, part.kind)
    mean = train.cropped(entry.crop_seconds).mean_seconds
    if part.batch_size is None:
        return recipe.max_batch_seconds
    if recipe.order == "superb":
        return mean * part.batch_size / (2 if entry.halved and part.batch_size > 1 else 1)
    return min(mean * part.batch_size, max(mean, recipe.max_batch_seconds))
