"""Audio and updates of stage 1 and of pre-training, from recipes and sizes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from speechft.cost.passes import CROP_SECONDS, HALVED_TASKS
from speechft.cost.sizes import CorpusSize, SplitSize
from speechft.recipes.finetuning import FinetuneRecipe, JointTask
from speechft.recipes.pretraining import ContinuedPretrainRecipe, PretrainRecipe

_KEPT_CHECKPOINTS = 5
"""fairseq keeps the last two intervals, the last and the best, and writes the next one beside them."""


@dataclass(frozen=True)
class TrainingCost:
    """One training of an encoder. Hours of audio: `forward_hours` without, `update_hours` with a backward pass through the encoder."""

    forward_hours: float = 0.0
    update_hours: float = 0.0
    updates: float = 0.0
    frozen_extractor: bool = True
    precision: str = "fp32"
    head_hours: Mapping[str, float] = field(default_factory=dict)
    head_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    early: int = 0

    @property
    def hours(self) -> float:
        """Audio through the encoder."""
        return self.forward_hours + self.update_hours

    def disk_gb(self, parameters: int) -> float:
        """Checkpoints of the work folder at the most: weights and two moments of each."""
        return 3 * 4 * parameters * _KEPT_CHECKPOINTS / 1e9


def finetuning_cost(recipe: FinetuneRecipe, sizes: Mapping[str, CorpusSize]) -> TrainingCost:
    """A fine-tuning; `sizes` of the corpora by the name of the task that listens to them (`recipe.parts`).

    The encoder is frozen for the first `head_only` of the updates. Each validation hears dev, and there is one every `validate_every`
    updates and after the last. Batches have the mean duration of train.
    """
    shares = sum(part.share for part in recipe.parts.values())
    forward, update = 0.0, 0.0
    head_hours: dict[str, float] = {}
    options: dict[str, dict[str, Any]] = {}
    for name, part in recipe.parts.items():
        size = sizes[name]
        train, dev = (size.fold(split) if size.folds else size[split] for split in ("train", "dev"))
        batches = recipe.updates * recipe.accumulate * part.share / shares
        heard = batches * _batch_seconds(recipe, part, train) / 3600
        forward += recipe.head_only * heard + dev.hours * -(-recipe.updates // recipe.validate_every)
        update += (1 - recipe.head_only) * heard
        head_hours[part.task] = head_hours.get(part.task, 0.0) + heard
        options[part.task] = dict(part.task_options)
    return TrainingCost(
        forward, update, recipe.updates, recipe.freeze_extractor, recipe.precision, head_hours, options, len(recipe.early)
    )  # fmt: skip


def _batch_seconds(recipe: FinetuneRecipe, part: JointTask, train: SplitSize) -> float:
    """Audio in a batch of mean length."""
    mean = train.cropped(CROP_SECONDS.get(part.task)).mean_seconds
    if part.batch_size is None:
        return recipe.max_batch_seconds
    if recipe.order == "superb":
        return mean * part.batch_size / (2 if part.task in HALVED_TASKS and part.batch_size > 1 else 1)
    return min(mean * part.batch_size, max(mean, recipe.max_batch_seconds))


def pretraining_cost(recipe: PretrainRecipe | ContinuedPretrainRecipe, train: SplitSize) -> TrainingCost:
    """A pre-training, from random weights or continued: its updates, validations, and one pass over the audio for targets of an encoder."""
    head_only = recipe.head_only if isinstance(recipe, ContinuedPretrainRecipe) else 0.0
    frozen = recipe.freeze_extractor if isinstance(recipe, ContinuedPretrainRecipe) else False
    heard = recipe.updates * recipe.batch_seconds / 3600
    validations = -(-recipe.updates // recipe.validate_every)
    targets = 0.0 if recipe.targets == "mfcc" else train.hours
    forward = head_only * heard + validations * recipe.valid_fraction * train.hours + targets
    precision = recipe.precision if isinstance(recipe, PretrainRecipe) else "fp32"
    return TrainingCost(forward, (1 - head_only) * heard, recipe.updates, frozen, precision)
