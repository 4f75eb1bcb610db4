"""Inner products of task vectors, sufficient to find points that are linear combinations of the models."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from speechft.merge.models import Models


def inner_products(models: Models, name: str, with_base: bool = False) -> Tensor:
    """Compute inner products (float64, count x count) of the task vectors of a tensor; `with_base` adds the base as first vector."""
    import torch

    count = len(models.finetuned) + with_base
    inner = torch.zeros(count, count, dtype=torch.float64)
    for piece in models.pieces(name):
        changes = [model.sub_(piece.base) for model in piece.finetuned]
        vectors = torch.stack([piece.base, *changes] if with_base else changes).double()
        inner += vectors @ vectors.T
    return inner
