"""What a training of stage 1 costs, estimated from its recipe and the sizes of its corpora. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from speechft.planning.corpus_sizes import CorpusSize, SplitSize
from speechft.recipes.finetuning import FinetuneRecipe, JointTask
from speechft.tasks.catalog import task_entry


@dataclass(frozen=True)
class TrainingEstimate:
    """One training of an encoder: hours of audio through it without and with a backward pass, and what else the time depends on."""

    forward_hours: float
    update_hours: float
    updates: int
    frozen_extractor: bool
    precision: str
    heads: Mapping[str, tuple[float, Mapping[str, Any]]] = field(default_factory=dict)
    """Task (or kind of a task of the user's own) -> hours of audio that its head trains on, and options of the task."""
    early: int = 0
    """Early checkpoints that are kept beside the result."""
    kept_hours: float = 0.0
    """Hours of audio of which the output of the frozen extractor is kept while the training runs, if there is room."""


def estimate_finetuning(recipe: FinetuneRecipe, sizes: Mapping[str, CorpusSize]) -> TrainingEstimate:
    """A fine-tuning; `sizes` of the corpora by the name of the task that is trained on them (`recipe.parts`).

    The encoder is frozen for the first `head_only` of the updates. Dev is scored every `validate_every` updates and after the last.
    Batches have the mean duration of train.
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
    """Audio in a batch of utterances of mean length."""
    entry = task_entry(part.task, part.kind)
    mean = train.cropped(entry.crop_seconds).mean_seconds
    if part.batch_size is None:
        return recipe.max_batch_seconds
    if recipe.order == "superb":
        return mean * part.batch_size / (2 if entry.halved and part.batch_size > 1 else 1)
    return min(mean * part.batch_size, max(mean, recipe.max_batch_seconds))
