"""What an evaluation costs, estimated from its recipe, the sizes of its corpus and the shape of the encoder. No torch.

Close to what is done, not exact: which utterances a batch draws, silence that is cut off, and utterances that are left out are not known
before. Tests compare it with evaluations that were counted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from speechft.planning.corpus_sizes import CorpusSize, SplitSize, size_of_manifests
from speechft.planning.shapes import EncoderShape, base_shape, head_parameters, shape_of_directory
from speechft.recipes.evaluation import EvaluationRecipe, evaluation_recipe
from speechft.recipes.modules import is_class_name

logger = logging.getLogger(__name__)

ADAM_BYTES = 16
"""Of a weight of a head in its training state: the weight, the best one so far, and two moments."""


@dataclass(frozen=True)
class EvaluationEstimate:
    """One cell that is not interrupted and where no learning rate diverges."""

    encoder_passes: float
    """Utterances (or crops) sent through the encoder, each as often as it is."""
    encoder_hours: float
    """Audio sent through the encoder."""
    new_crops: float = 0.0
    """Passes of crops that are drawn anew at every visit, and cannot be kept."""
    head_steps: float = 0.0
    """Optimizer steps, each of all learning rates at once; all seeds and folds together."""
    head_hours: float = 0.0
    """Audio that heads on frames train on, all learning rates added up; `scored_hours` what they only score."""
    scored_hours: float = 0.0
    search_frames: float = 0.0
    """QbE: pairs of a frame of a query and a frame of a document."""
    memory_gb: float = 0.0
    """Features kept in memory; `memory_gb_to_keep_all` if every utterance went through the encoder once."""
    memory_gb_to_keep_all: float = 0.0
    disk_gb: float = 0.0
    """Features in the work folder until the cell is written, and the state of the heads (`state_gb`) beside them."""
    state_gb: float = 0.0

    def __str__(self) -> str:
        lines = [
            f"encoder: about {self.encoder_passes:,.0f} passes, {self.encoder_hours:.2f} h of audio",
            f"heads: {self.head_steps:,.0f} optimizer steps, each of all learning rates",
            f"features in memory: {_size(self.memory_gb)}",
            f"features on disk: {_size(self.disk_gb)}, state of the heads: {_size(self.state_gb)}",
        ]
        if self.new_crops:
            lines.insert(1, f"  of which {self.new_crops:,.0f} passes are crops that are drawn anew at every visit")
        if self.memory_gb < self.memory_gb_to_keep_all:
            enough = math.ceil(100 * self.memory_gb_to_keep_all) / 100
            lines.append(f"With `cache_gb: {enough:g}` or more every utterance would go through the encoder once.")
        return "\n".join([*lines, "Estimated from the recipe and the durations in the manifests (docs/cost.md)."])


def _size(gigabytes: float) -> str:
    return f"{gigabytes:.2f} GB" if gigabytes >= 0.1 else f"{1000 * gigabytes:.2f} MB"


def plan_evaluation(
    model_dir: str | Path, task: str, manifests: str | Path, recipe: EvaluationRecipe | Mapping[str, Any] | None = None
) -> EvaluationEstimate:
    """About what `evaluate` with the same arguments costs. Only the encoder's config.json and the manifests are read.

    A module of the user's own is not run; it counts as a base model.

    Raises:
        ConfigError: the recipe is not valid.
        CheckpointError: the encoder has no readable config.json.
        CorpusError: the manifests are missing or damaged.
    """
    resolved = recipe if isinstance(recipe, EvaluationRecipe) else evaluation_recipe(task, recipe or {})
    if is_class_name(model_dir):
        logger.warning("%s: is not run for an estimate; its features are counted as those of a base model", model_dir)
        shape = base_shape("hubert")
    else:
        shape = shape_of_directory(Path(model_dir))
    return estimate_evaluation(resolved, size_of_manifests(Path(manifests)), shape)


def evaluations(recipe: EvaluationRecipe) -> int:
    """Times that a training scores dev: every so many steps, where learning rates are dropped and after the last."""
    return len(recipe.scored_after)


def visits(recipe: EvaluationRecipe) -> float:
    """Utterances in all batches of one training."""
    halved = 2 if recipe.entry.halved and recipe.batch_size > 1 else 1
    return recipe.counts[0] * recipe.accumulate * recipe.batch_size / halved


def estimate_evaluation(recipe: EvaluationRecipe, size: CorpusSize, shape: EncoderShape) -> EvaluationEstimate:
    """One cell of a task with `recipe` on a corpus, with an encoder of `shape`."""
    entry, recipe = recipe.entry, recipe.resolved(size.fold("train").utterances)
    if entry.chunk_seconds is not None:
        size = replace(size, splits={name: split.chunked(entry.chunk_seconds) for name, split in size.splits.items()})
    makers = {"search": _search, "pooled": _means, "frames": _frames}
    return makers[entry.features](recipe, size, shape)


def _means(recipe: EvaluationRecipe, size: CorpusSize, shape: EncoderShape) -> EvaluationEstimate:
    """Every utterance once. Crops of long ones: as many as are drawn once, or a new one at every visit."""
    crop, trainings = recipe.entry.crop_seconds, len(recipe.seeds) * (size.folds or 1)
    train = size["train"]
    long = train.longer(crop).cropped(crop)
    passes = train.cropped(crop) + size["dev"] + size["test"]
    new_crops = 0.0
    if recipe.crop_draws == "every":
        drawn = long * (len(recipe.seeds) * visits(recipe) / train.utterances) if train.utterances else SplitSize()
        passes, new_crops = passes - long + drawn, drawn.utterances
    else:
        passes = passes + long * (recipe.crop_draws - 1)
    kept = shape.vector_bytes * size.whole.utterances / 1e9
    weights = head_parameters("pr", {"outputs": 0}, shape.width)
    return EvaluationEstimate(
        passes.utterances,
        passes.hours,
        new_crops,
        head_steps=recipe.counts[0] * trainings,
        memory_gb=kept,
        memory_gb_to_keep_all=kept,
        disk_gb=min(kept, recipe.disk_gb),
        state_gb=ADAM_BYTES * weights * len(recipe.learning_rates) * trainings / 1e9,
    )


def _frames(recipe: EvaluationRecipe, size: CorpusSize, shape: EncoderShape) -> EvaluationEstimate:
    """Every visit of train, and of the selecting split at every evaluation, but for what fits into `cache_gb`; test once a seed."""
    crop, seeds, rates = recipe.entry.crop_seconds, len(recipe.seeds), recipe.mean_rates
    train, test = size["train"].cropped(crop), size["test"]
    selecting = size["dev"] if size["dev"].utterances else test
    whole = train - size["train"].longer(crop).cropped(crop)
    kept = whole.within(recipe.cache_gb / _hour_gb(shape))
    kept_too = selecting.within(recipe.cache_gb / _hour_gb(shape) - kept.hours)
    epochs = seeds * visits(recipe) / train.utterances if train.utterances else 0.0
    rounds = seeds * evaluations(recipe)
    passes = (train - kept) * epochs + (selecting - kept_too) * rounds + kept + kept_too
    # Where test selects, its features that are kept serve for the last scores too.
    passes = passes + (test - kept_too if selecting is test else test) * seeds
    return EvaluationEstimate(
        passes.utterances,
        passes.hours,
        (train - whole).utterances * epochs,
        head_steps=recipe.counts[0] * seeds,
        head_hours=train.hours * epochs * rates,
        scored_hours=selecting.hours * rounds * rates + test.hours * seeds,
        memory_gb=(kept.hours + kept_too.hours) * _hour_gb(shape),
        memory_gb_to_keep_all=(whole.hours + selecting.hours) * _hour_gb(shape),
        state_gb=ADAM_BYTES
        * head_parameters(recipe.kind or recipe.task, recipe.task_options, shape.width)
        * len(recipe.learning_rates)
        * seeds
        / 1e9,
    )


def _search(recipe: EvaluationRecipe, size: CorpusSize, shape: EncoderShape) -> EvaluationEstimate:
    """Queries and documents: once where they can be kept, else for the statistics of frames, for dev and for test."""
    kept = size.whole.within(recipe.cache_gb / _hour_gb(shape))
    passes = kept + (size.whole - kept) * 3
    # Two searches, one with every hidden state and one with the best. Splits do not say who is a query: the smaller split is taken for
    # the queries of either side, which is exact where all documents stand on the other.
    second = 3600 * shape.frames_per_second
    queries = min(size["dev"].hours, size["test"].hours) * second
    return EvaluationEstimate(
        passes.utterances,
        passes.hours,
        search_frames=max(0.0, queries * (size.whole.hours * second - 2 * queries)) * (shape.states + 1),
        memory_gb=kept.hours * _hour_gb(shape),
        memory_gb_to_keep_all=size.whole.hours * _hour_gb(shape),
    )


def _hour_gb(shape: EncoderShape) -> float:
    """Features of an hour of audio."""
    return 3600 * shape.frames_per_second * shape.vector_bytes / 1e9
