"""NuSLERP: interpolation along the arc between two task vectors, or between their rows or columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from speechft.merge.methods.matrices import as_rows
from speechft.merge.methods.means import add_step
from speechft.merge.methods.weighted import Shares, WeightedMethod
from speechft.merge.models import Piece

if TYPE_CHECKING:
    from torch import Tensor

_NEARLY_STRAIGHT = 1e-6
"""Sine of the angle below which two vectors count as parallel or opposite."""


class NuslerpMerge(WeightedMethod):
    """theta0 + alpha * (sin((1 - t) w) * tau_1 + sin(t w) * tau_2) / sin(w), w the angle between the task vectors, t = w_2 / (w_1 + w_2).

    `vectors` selects the vectors: whole tensors, rows (all weights of one output) or columns (all weights of one input; a tensor with more
    than two axes counts as a matrix by outputs). A zero vector counts as orthogonal to the other one; parallel and opposite vectors are
    interpolated linearly.
    """

    name = "nuslerp"
    reference = (
        "Goddard et al., NuSLERP, in mergekit (arXiv 2403.13257); Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985"
    )
    summary = "theta0 + alpha * (sin((1 - t) w) * tau_1 + sin(t w) * tau_2) / sin(w), w the angle between the task vectors"
    fewest = most = 2
    whole = True

    class Parameters(Shares):
        """`weights`: weights of the two models; t is the share of the second. `vectors`: vectors between which the arcs are."""

        vectors: Literal["tensor", "rows", "columns"] = Field("tensor", description="Vectors to interpolate: tensors, rows or columns.")

    parameters: Parameters

    def target(self, piece: Piece) -> Tensor:
        """Compute the point on the arc."""
        import torch

        weights = self.weights(2)
        share = weights[1] / sum(weights)
        vectors = self.parameters.vectors
        shape = (piece.base.numel(),) if vectors == "tensor" else piece.shape
        first, second = (as_rows(model.sub_(piece.base).double(), shape) for model in piece.finetuned)
        axis = 0 if vectors == "columns" and len(shape) > 1 else 1
        norms = [vector.norm(dim=axis, keepdim=True) for vector in (first, second)]
        tiny = torch.finfo(torch.float64).tiny
        cosine = ((first * second).sum(axis, keepdim=True) / (norms[0] * norms[1]).clamp(min=tiny)).clamp(-1, 1)
        angle = cosine.acos()
        straight = angle.sin() < _NEARLY_STRAIGHT
        sine = angle.sin().where(~straight, 1.0)
        near = (((1 - share) * angle).sin() / sine).where(~straight, 1 - share)
        far = ((share * angle).sin() / sine).where(~straight, share)
        step = (near * first + far * second).flatten()
        return add_step(piece.base, step.to(piece.base.dtype))
