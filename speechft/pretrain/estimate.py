"""Estimate the cost of a pre-training from its recipe and corpus size. This module does not import torch."""

from __future__ import annotations

from speechft.finetune.estimate import TrainingEstimate
from speechft.planning.corpus_sizes import SplitSize
from speechft.recipes.pretraining import ContinuedPretrainRecipe, PretrainRecipe


def estimate_pretraining(recipe: PretrainRecipe | ContinuedPretrainRecipe, train: SplitSize) -> TrainingEstimate:
    """Estimate a pre-training: updates, validations, and one pass over the audio if targets come from an encoder."""
    if isinstance(recipe, ContinuedPretrainRecipe):
        head_only, frozen, precision = recipe.head_only, recipe.freeze_extractor, "fp32"
    else:
        head_only, frozen, precision = 0.0, False, recipe.precision
    hours = recipe.updates * recipe.batch_seconds / 3600
    validations = -(-recipe.updates // recipe.validate_every)
    targets = 0.0 if recipe.targets == "mfcc" else train.hours
    forward = head_only * hours + validations * recipe.valid_fraction * train.hours + targets
    return TrainingEstimate(forward, (1 - head_only) * hours, recipe.updates, frozen, precision)
