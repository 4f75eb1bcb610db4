"""Audio through the encoder, steps of heads and room for features: what `speechft.evaluate` and `speechft.finetune` do, from sizes alone.

`speechft evaluate --dry-run` says the same from manifests and an encoder, exactly; tests compare the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from speechft.cost.shapes import EncoderShape, head_parameters
from speechft.cost.sizes import CorpusSize, SplitSize
from speechft.recipes.evaluation import EvaluationRecipe

POOLED_TASKS = ("ks", "sid", "er", "ic")
"""Their heads see the mean over frames, so that every recording goes through the encoder once."""
CROP_SECONDS = {"sid": 8.0, "asv": 8.0}
"""Longer training utterances are cropped."""
HALVED_TASKS = ("asr", "asr_zh")
"""Their buckets are halved: real batches are half as large as the recipe says."""
CHUNK_SECONDS = {"sd": 40.0}
"""Longer recordings are cut into parts."""


@dataclass(frozen=True)
class Passes:
    """What goes through the encoder."""

    utterances: float = 0.0
    hours: float = 0.0

    def __add__(self, other: Passes) -> Passes:
        """Both."""
        return Passes(self.utterances + other.utterances, self.hours + other.hours)

    def __mul__(self, times: float) -> Passes:
        """So many times."""
        return Passes(times * self.utterances, times * self.hours)


def once(split: SplitSize) -> Passes:
    """Every utterance of a split."""
    return Passes(split.utterances, split.hours)


@dataclass(frozen=True)
class EvaluationCost:
    """One cell. `head_hours` is audio that heads on frames train on, all learning rates added up; `scored_hours` what they only score."""

    encoder: Passes
    head_steps: float = 0.0
    head_hours: float = 0.0
    scored_hours: float = 0.0
    search_frames: float = 0.0
    disk_gb: float = 0.0
    memory_gb: float = 0.0


def evaluations(recipe: EvaluationRecipe) -> int:
    """Times that a training scores dev: every so many steps and after the last."""
    return -(-recipe.steps // recipe.eval_every)


def visits(recipe: EvaluationRecipe) -> float:
    """Utterances in all batches of one training."""
    halved = 2 if recipe.task in HALVED_TASKS and recipe.batch_size > 1 else 1
    return recipe.steps * recipe.accumulate * recipe.batch_size / halved


def evaluation_cost(recipe: EvaluationRecipe, size: CorpusSize, shape: EncoderShape) -> EvaluationCost:
    """One cell of a task with `recipe` on a corpus, with an encoder of `shape`."""
    if recipe.task == "qbe":
        return _search(recipe, size, shape)
    if recipe.task in POOLED_TASKS:
        return _means(recipe, size, shape)
    return _frames(recipe, size, shape)


def _means(recipe: EvaluationRecipe, size: CorpusSize, shape: EncoderShape) -> EvaluationCost:
    folds = size.folds or 1
    crop, seeds = CROP_SECONDS.get(recipe.task), len(recipe.seeds)
    train = size["train"].cropped(crop)
    known = once(train) + once(size["dev"]) + once(size["test"])
    if crop is not None and size["train"].utterances:
        long = size["train"].longer(crop)
        if recipe.crop_draws == "every":
            # Utterances longer than a crop are encoded anew at every visit, and are not kept.
            known = known + once(long.cropped(crop)) * (seeds * visits(recipe) / size["train"].utterances - 1)
        else:
            known = known + once(long.cropped(crop)) * (recipe.crop_draws - 1)
    kept = shape.vector_bytes * size.whole.utterances
    state = 16 * head_parameters("pr", {"outputs": 0}, shape.width) * len(recipe.learning_rates) * seeds * folds
    return EvaluationCost(
        known,
        head_steps=recipe.steps * seeds * folds,
        disk_gb=(min(kept, 1e9 * recipe.disk_gb) + state) / 1e9,
        memory_gb=kept / 1e9,
    )


def _frames(recipe: EvaluationRecipe, size: CorpusSize, shape: EncoderShape) -> EvaluationCost:
    crop, seeds, rates = CROP_SECONDS.get(recipe.task), len(recipe.seeds), len(recipe.learning_rates)
    train = size["train"].cropped(crop)
    selecting = size["dev"] if size["dev"].utterances else size["test"]
    room = 1e9 * recipe.cache_gb / (shape.vector_bytes * shape.frames_per_second * 3600)
    whole = train if crop is None else _minus(train, size["train"].longer(crop).cropped(crop))
    kept = whole.within(room)
    kept_too = selecting.within(room - kept.hours)
    trained = once(train) * (seeds * visits(recipe) / train.utterances if train.utterances else 0.0)
    in_vain = once(kept) * (seeds * visits(recipe) / train.utterances - 1) if train.utterances else Passes()
    rounds = seeds * evaluations(recipe)
    encoder = trained + in_vain * -1 + once(selecting) * rounds + once(kept_too) * (1 - rounds)
    # Where test selects, its features that are kept serve for the last scores too.
    encoder = encoder + once(_minus(selecting, kept_too) if selecting is size["test"] else size["test"]) * seeds
    return EvaluationCost(
        encoder,
        head_steps=recipe.steps * seeds,
        head_hours=trained.hours * rates,
        scored_hours=selecting.hours * rounds * rates + size["test"].hours * seeds,
        disk_gb=16 * head_parameters(recipe.task, recipe.task_options, shape.width) * rates * seeds / 1e9,
        memory_gb=(kept.hours + kept_too.hours) * 3600 * shape.frames_per_second * shape.vector_bytes / 1e9,
    )


def _minus(whole: SplitSize, part: SplitSize) -> SplitSize:
    """What is left of a split without its longest utterances; exactly those where durations are known."""
    left = whole.durations[: len(whole.durations) - len(part.durations)] if part.durations else whole.durations
    return SplitSize(whole.utterances - part.utterances, max(0.0, whole.hours - part.hours), left)


def _search(recipe: EvaluationRecipe, size: CorpusSize, shape: EncoderShape) -> EvaluationCost:
    """Queries and documents: once where they can be kept, else for the statistics of frames, for dev and for test."""
    room = 1e9 * recipe.cache_gb / (shape.vector_bytes * shape.frames_per_second * 3600)
    kept = size.whole.within(room)
    encoder = once(kept) + once(_minus(size.whole, kept)) * 3
    # Of two searches, one with every hidden state and one with the best. Splits do not say who is a query: the smaller split is taken for
    # the queries of one side, which is exact where all documents stand on the other.
    queries = min(size["dev"].hours, size["test"].hours) * 3600 * shape.frames_per_second
    documents = size.whole.hours * 3600 * shape.frames_per_second - 2 * queries
    return EvaluationCost(
        encoder,
        search_frames=max(0.0, queries * documents) * (shape.states + 1),
        memory_gb=kept.hours * 3600 * shape.frames_per_second * shape.vector_bytes / 1e9,
    )
