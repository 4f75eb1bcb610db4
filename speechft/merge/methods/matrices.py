"""Tensors as matrices, for methods that need rows or singular values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from speechft.merge.models import Piece

if TYPE_CHECKING:
    from torch import Tensor

_ROUNDING = 2.0**-23
"""Twice the largest relative rounding error of float32."""


def as_rows(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """View a flattened tensor as a matrix with one row per output (first axis); a vector is one row."""
    return values.view(shape).flatten(1) if len(shape) > 1 else values.view(1, -1)


def unchanged(piece: Piece) -> bool:
    """Whether no model changed the piece."""
    return all(model.equal(piece.base) for model in piece.finetuned)


def changed_matrices(piece: Piece) -> list[Tensor] | None:
    """Return the task vectors of a matrix in float64, (outputs, inputs) per model; None if it is not a matrix or no model changed it."""
    if len(piece.shape) != 2 or unchanged(piece):
        return None
    return [(model - piece.base).double().view(piece.shape) for model in piece.finetuned]


def singular_directions(change: Tensor, base: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute U (m, k), S (k,) and V^T (k, n) of one or several stacked task vectors, without directions that are only rounding noise.

    Weights are stored in float32, so a change of rank r (an adapter, a partly frozen tensor) has rank r only up to rounding errors: a
    random matrix whose largest singular value is about (sqrt(m) + sqrt(n)) times the size of its elements.
    """
    import torch

    # LAPACK is much faster for tall matrices.
    tall = change if change.shape[0] >= change.shape[1] else change.T
    left, values, right = torch.linalg.svd(tall, full_matrices=False)
    if tall is not change:
        left, right = right.T, left.T
    size = float(base.double().square().mean().sqrt() + change.square().mean().sqrt())
    kept = int((values > _ROUNDING * size * sum(map(math.sqrt, change.shape))).sum())
    return left[:, :kept], values[:kept], right[:kept]
