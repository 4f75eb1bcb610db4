"""Model stock: interpolation ratio from the angle between fine-tuned models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechft.merge.methods.base import MergeMethod
from speechft.merge.methods.inner_products import inner_products
from speechft.merge.methods.means import running_mean
from speechft.merge.models import Models, Piece

if TYPE_CHECKING:
    from torch import Tensor


class ModelStockMerge(MergeMethod):
    """theta0 + alpha * t * mean(theta_i - theta0), with t = N cos / (1 + (N - 1) cos) per tensor and cos between task vectors.

    alpha = 1 is the published method: the point in the plane of the models closest to the center of all such fine-tunings. For more than
    two models, cos is the mean over pairs. A negative cos (contradicting task vectors) counts as 0, which keeps the base; this limit is
    ours.
    """

    name = "model_stock"
    reference = "Jang, Yun, Han, Model Stock: all we need is just a few fine-tuned models, ECCV 2024, arXiv 2403.19522"
    summary = "theta0 + alpha * t * mean(theta_i - theta0), t = N cos / (1 + (N - 1) cos), cos between the task vectors of each tensor"
    fewest = 2

    def prepare(self, models: Models) -> None:
        """Find the ratio t of each tensor."""
        self._ratios = {name: _ratio(models, name) for name in models.names}

    def target(self, piece: Piece) -> Tensor:
        """Go the share t of the way to the mean of the fine-tuned models."""
        import torch

        mean = running_mean(piece.finetuned)
        return torch.where(mean == piece.base, piece.base, torch.lerp(piece.base, mean, self._ratios[piece.name]))


def _ratio(models: Models, name: str) -> float:
    """Compute the ratio t of a tensor, from 0 to 1; 0 if nothing changed."""
    import torch

    inner = inner_products(models, name)
    count = len(inner)
    norms = inner.diagonal().sqrt()
    cosines = inner / (norms[:, None] * norms).clamp(min=torch.finfo(torch.float64).tiny)
    pairs = torch.triu_indices(count, count, offset=1)
    cosine = min(max(float(cosines[pairs[0], pairs[1]].mean()), 0.0), 1.0)
    return count * cosine / (1 + (count - 1) * cosine)
