"""Karcher mean: center of any number of models on the sphere."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from speechft.merge.methods.base import MergeMethod
from speechft.merge.methods.inner_products import inner_products
from speechft.merge.methods.means import add_step
from speechft.merge.models import Models, Piece

if TYPE_CHECKING:
    from torch import Tensor

_ITERATIONS = 100
_TOLERANCE = 1e-12
"""Step length in radians at which the iteration ends; models close to each other need two or three steps."""


class KarcherMerge(MergeMethod):
    """theta0 + alpha * (m - theta0), with m the point of least sum of squared angles to the theta_i, tensor by tensor.

    The norm of m is the mean of their norms, which averaging would reduce. Fine-tuned models are so close that the result differs little
    from linear. The iteration uses only inner products of the models and runs to convergence.
    """

    name = "karcher"
    reference = (
        "Karcher, Riemannian center of mass and mollifier smoothing, 1977; for models: per tensor, as mergekit does, arXiv 2603.04972"
    )
    summary = "theta0 + alpha * (m - theta0), m the mean on the sphere of the theta_i with the mean of their norms, for each tensor"
    fewest = 2

    def prepare(self, models: Models) -> None:
        """Find the mean of each tensor as a linear combination of the models."""
        self._weights = {name: _mean(inner_products(models, name, with_base=True)) for name in models.names}

    def target(self, piece: Piece) -> Tensor:
        """Compute the mean on the sphere."""
        of_base, *weights = self._weights[piece.name]
        step = piece.base * (of_base - 1)
        for weight, model in zip(weights, piece.finetuned, strict=True):
            step.add_(model.sub_(piece.base), alpha=weight)
        return add_step(piece.base, step)


def _mean(inner: Tensor) -> list[float]:
    """Return the coefficients of the mean in terms of theta0 and the task vectors, given their inner products.

    All vectors here are such coefficients, so that even tiny angles are exact.
    """
    import torch

    count = len(inner) - 1
    if not inner.diagonal()[1:].any():
        return [1.0] + [0.0] * count  # no model changed this tensor

    def norm(vector: Tensor) -> float:
        return math.sqrt(max(float(vector @ inner @ vector), 0.0))

    models = torch.eye(count + 1, dtype=inner.dtype)[1:]
    models[:, 0] = 1.0
    norms = [norm(model) for model in models]
    units = [model / length for model, length in zip(models, norms, strict=True) if length]
    if not units:
        return [0.0] * (count + 1)
    mean = torch.stack(units).mean(0)
    mean = mean / norm(mean) if norm(mean) > _TOLERANCE else units[0]
    for _ in range(_ITERATIONS):
        step = torch.zeros_like(mean)
        for unit in units:
            cosine = float(mean @ inner @ unit)
            away = unit - cosine * mean
            sine = norm(away)
            step += away * (math.atan2(sine, cosine) / sine if sine else 1.0) / len(units)
        length = norm(step)
        if length < _TOLERANCE:
            break
        mean = math.cos(length) * mean + math.sin(length) / length * step
        mean = mean / norm(mean)
    return [float(value) for value in mean * (sum(norms) / count)]
