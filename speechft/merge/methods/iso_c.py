"""Iso-C: sum of task vectors with equalized singular values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechft.merge.methods.base import MergeMethod
from speechft.merge.methods.matrices import changed_matrices, singular_directions
from speechft.merge.methods.means import add_step, running_mean
from speechft.merge.models import Piece

if TYPE_CHECKING:
    from torch import Tensor


class IsoCMerge(MergeMethod):
    """theta0 + alpha * s * U V^T for each matrix, theta0 + alpha * mean(theta_i - theta0) for all other tensors.

    U and V are the singular vectors of the sum of the task vectors and s is the mean of its singular values, so that no task's directions
    dominate. Directions in which the sum is zero remain zero.
    """

    name = "iso_c"
    reference = (
        "Marczak et al., No task left behind: isotropic model merging with common and task-specific subspaces, ICML 2025, arXiv 2502.04959"
    )
    summary = (
        "theta0 + alpha * mean(S) * U V^T for matrices, U S V^T the sum of the task vectors; mean of the task vectors for other tensors"
    )
    whole = True

    def target(self, piece: Piece) -> Tensor:
        """Add the isotropic sum to the base."""
        changes = changed_matrices(piece)
        if changes is None:
            return running_mean(piece.finetuned)
        left, values, right = singular_directions(sum(changes[1:], start=changes[0]), piece.base)
        if not len(values):
            return piece.base
        return add_step(piece.base, (values.mean() * (left @ right)).flatten().to(piece.base.dtype))
