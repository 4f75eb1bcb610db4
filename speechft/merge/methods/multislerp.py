"""Multi-SLERP: mean direction of task vectors with their mean length."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from speechft.merge.methods.inner_products import inner_products
from speechft.merge.methods.means import add_changes
from speechft.merge.methods.weighted import Shares, WeightedMethod
from speechft.merge.models import Models, Piece

if TYPE_CHECKING:
    from torch import Tensor

_NO_DIRECTION = 1e-8
"""Length below which a mean of unit vectors has no direction."""


class MultiSlerpMerge(WeightedMethod):
    """theta0 + alpha * (sum w_i |tau_i|) * u, with u the direction of sum w_i tau_i / |tau_i| and weights of sum 1, tensor by tensor.

    Published as barycentric interpolation in the tangent space at u; the tangent vectors there sum to zero, which leaves u itself. If the
    directions cancel, the weighted mean of the task vectors is used.
    """

    name = "multislerp"
    reference = "Goddard, Multi-SLERP, 2025, goddard.blog/posts/multislerp-wow-what-a-cool-idea; in mergekit"
    summary = "theta0 + alpha * sum(w_i |tau_i|) * direction of sum(w_i tau_i / |tau_i|), for each tensor; tau_i = theta_i - theta0"
    fewest = 2
    Parameters = Shares

    def prepare(self, models: Models) -> None:
        """Compute the factor of each task vector, tensor by tensor."""
        self._factors = {name: self._factors_of(inner_products(models, name)) for name in models.names}

    def target(self, piece: Piece) -> Tensor:
        """Add the weighted sum to the base."""
        return add_changes(piece, self._factors[piece.name])

    def _factors_of(self, inner: Tensor) -> list[float]:
        import torch

        weights = self.weights(len(inner))
        shares = [weight / sum(weights) for weight in weights]
        norms = [math.sqrt(float(square)) for square in inner.diagonal()]
        factors = [share / norm if norm else 0.0 for share, norm in zip(shares, norms, strict=True)]
        direction = torch.tensor(factors, dtype=inner.dtype)
        length = math.sqrt(max(float(direction @ inner @ direction), 0.0))
        if length < _NO_DIRECTION:
            return shares
        return [factor * sum(share * norm for share, norm in zip(shares, norms, strict=True)) / length for factor in factors]
