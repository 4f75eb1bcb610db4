"""Estimate the cost of an evaluation from its recipe, corpus size and encoder shape. This module does not import torch.

The estimate is approximate: which utterances a batch draws, removed silence, and utterances that are left out are not known in advance.
Tests compare it with counted evaluations.
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
"""Bytes per weight of a head in its training state: the weight, its best value so far, and two moments."""


@dataclass(frozen=True)
class EvaluationEstimate:
    """Estimated cost of a cell without interruption and divergence."""

    encoder_passes: float
    """Utterances (or crops) encoded, counting repetitions."""
    encoder_hours: float
    """Hours of audio encoded, counting repetitions."""
    new_crops: float = 0.0
    """Passes of random crops, which cannot be kept."""
    head_steps: float = 0.0
    """Optimizer steps of all seeds and folds; a step trains all learning rates at once."""
    head_hours: float = 0.0
    """Hours of training audio of frame-level heads, summed over learning rates; `scored_hours`: of scored audio."""
    scored_hours: float = 0.0
    search_frames: float = 0.0
    """QbE: pairs of a query frame and a document frame."""
    memory_gb: float = 0.0
    """Features kept in memory; `memory_gb_to_keep_all`: needed to encode every utterance only once."""
    memory_gb_to_keep_all: float = 0.0
    disk_gb: float = 0.0
    """Features in the work folder until the cell is written; `state_gb`: the state of the heads there."""
    state_gb: float = 0.0

    def __str__(self) -> str:
        lines = [
            f"encoder: about {self.encoder_passes:,.0f} passes, {self.encoder_hours:.2f} h of audio",
            f"heads: {self.head_steps:,.0f} optimizer steps, each of all learning rates",
            f"features in memory: {_size(self.memory_gb)}",
            f"features on disk: {_size(self.disk_gb)}, state of the heads: {_size(self.state_gb)}",
        ]
        if self.new_crops:
            lines.insert(1, f"  of which {self.new_crops:,.0f} passes are random crops, drawn at every visit")
        if self.memory_gb < self.memory_gb_to_keep_all:
            enough = math.ceil(100 * self.memory_gb_to_keep_all) / 100
            lines.append(f"With `cache_gb: {enough:g}` or more, every utterance would be encoded once.")
        return "\n".join([*lines, "Estimated from the recipe and the durations in the manifests (docs/cost.md)."])


def _size(gigabytes: float) -> str:
    return f"{gigabytes:.2f} GB" if gigabytes >= 0.1 else f"{1000 * gigabytes:.2f} MB"


def plan_evaluation(
    model_dir: str | Path, task: str, manifests: str | Path, recipe: EvaluationRecipe | Mapping[str, Any] | None = None
) -> EvaluationEstimate:
    """Estimate the cost of `evaluate` with the same arguments. Only the encoder's config.json and the manifests are read.

    A user's model is not run; it counts as a base model.

    Raises:
        ConfigError: the recipe is invalid.
        CheckpointError: the encoder has no readable config.json.
        CorpusError: the manifests are missing or damaged.
    """
    resolved = recipe if isinstance(recipe, EvaluationRecipe) else evaluation_recipe(task, recipe or {})
    if is_class_name(model_dir):
        logger.warning("%s: not run for an estimate; counted as a base model", model_dir)
        shape = base_shape("hubert")
    else:
        shape = shape_of_directory(Path(model_dir))
    return estimate_evaluation(resolved, size_of_manifests(Path(manifests)), shape)


def evaluations(recipe: EvaluationRecipe) -> int:
    """Return how often a training scores dev: every `eval_every` steps, when learning rates are dropped, and at the end."""
    return len(recipe.scored_after)


def visits(recipe: EvaluationRecipe) -> float:
    """Return the number of utterances in all batches of one training."""
    halved = 2 if recipe.entry.halved and recipe.batch_size > 1 else 1
    return recipe.counts[0] * recipe.accumulate * recipe.batch_size / halved


def estimate_evaluation(recipe: EvaluationRecipe, size: CorpusSize, shape: EncoderShape) -> EvaluationEstimate:
    """Estimate the cost of one cell with `recipe` on a corpus of `size`, with an encoder of `shape`."""
    entry, recipe = recipe.entry, recipe.resolved(size.fold("train").utterances)
    if entry.chunk_seconds is not None:
        size = replace(size, splits={name: split.chunked(entry.chunk_seconds) for name, split in size.splits.items()})
    makers = {"search": _search, "pooled": _means, "frames": _frames}
    return makers[entry.features](recipe, size, shape)


def _means(recipe: EvaluationRecipe, size: CorpusSize, shape: EncoderShape) -> EvaluationEstimate:
    """Estimate a head on mean vectors: every utterance once; for long ones a fixed number of crops, or one per visit."""
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
    """Estimate a frame-level head: train per visit, the selecting split per evaluation (except cached features), test once per seed."""
    crop, seeds, rates = recipe.entry.crop_seconds, len(recipe.seeds), recipe.mean_rates
    train, test = size["train"].cropped(crop), size["test"]
    selecting = size["dev"] if size["dev"].utterances else test
    whole = train - size["train"].longer(crop).cropped(crop)
    kept = whole.within(recipe.cache_gb / _hour_gb(shape))
    kept_too = selecting.within(recipe.cache_gb / _hour_gb(shape) - kept.hours)
    epochs = seeds * visits(recipe) / train.utterances if train.utterances else 0.0
    rounds = seeds * evaluations(recipe)
    passes = (train - kept) * epochs + (selecting - kept_too) * rounds + kept + kept_too
    # If test selects, its cached features also serve for the final scores.
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
    """Estimate QbE: queries and documents once if they can be cached, else for the frame statistics, for dev and for test."""
    kept = size.whole.within(recipe.cache_gb / _hour_gb(shape))
    passes = kept + (size.whole - kept) * 3
    # Two searches: with every hidden state, then with the best. Split sizes do not distinguish queries from documents, so the smaller split
    # counts as the queries of both; this is exact if all documents are in the other split.
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
    """Return the size in GB of the features of an hour of audio."""
    return 3600 * shape.frames_per_second * shape.vector_bytes / 1e9
