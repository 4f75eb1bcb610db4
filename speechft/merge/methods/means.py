"""Means and sums of models that, unlike plain sums, are exact where all models agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from speechft.merge.models import Piece

if TYPE_CHECKING:
    from torch import Tensor


def add_step(base: Tensor, step: Tensor) -> Tensor:
    """Add a step to the base; where it is 0, keep the base bit for bit (-0.0 + 0.0 would be +0.0)."""
    return (base + step).where(step != 0, base)


def add_changes(piece: Piece, weights: Iterable[float]) -> Tensor:
    """Compute theta0 + sum_i w_i (theta_i - theta0); the fine-tuned values are modified."""
    total = piece.base.new_zeros(piece.base.shape)
    for weight, model in zip(weights, piece.finetuned, strict=True):
        total.add_(model.sub_(piece.base), alpha=weight)
    return add_step(piece.base, total)


def running_mean(tensors: Iterable[Tensor]) -> Tensor:
    """Average tensors of equal shape by mean_k = mean_{k-1} + (x_k - mean_{k-1}) / k; they are modified."""
    first, *others = tensors
    mean = first
    for count, tensor in enumerate(others, start=2):
        mean.add_(tensor.sub_(mean).div_(count))
    return mean


def elected_mean(base: Tensor, models: Sequence[Tensor], kept: Sequence[Tensor]) -> Tensor:
    """Elect a sign for each parameter and average the models that agree with it (TIES, steps 2 and 3).

    `kept` marks the changes that count in each model. The result is the mean of the models whose kept change has the sign of the sum of all
    kept changes, and `base` if there is none or they cancel (the published code then uses the most common sign of the whole model).
    """
    import torch

    changes = [torch.where(keep, model - base, 0.0) for model, keep in zip(models, kept, strict=True)]
    elected = torch.stack(changes).sum(0).sign()
    mean, count = base.clone(), torch.zeros_like(base)
    for model, change in zip(models, changes, strict=True):
        agrees = (change != 0) & (change.sign() == elected)
        count += agrees
        # The first model that agrees is copied, since 0 + x would lose the sign of a negative zero.
        step = torch.where(count == 1, model, mean + (model - mean) / count.clamp(min=1))
        mean = torch.where(agrees, step, mean)
    return mean
