"""Task arithmetic: signed sums of task vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechft.merge.methods.means import add_changes
from speechft.merge.methods.weighted import WeightedMethod
from speechft.merge.models import Piece

if TYPE_CHECKING:
    from torch import Tensor


class TaskArithmeticMerge(WeightedMethod):
    """theta0 + alpha * sum_i w_i * (theta_i - theta0): adding a task vector adds an ability, subtracting it removes one."""

    name = "task_arithmetic"
    reference = "Ilharco et al., Editing models with task arithmetic, ICLR 2023, arXiv 2212.04089"
    summary = "theta0 + alpha * sum(w_i * (theta_i - theta0))"

    def target(self, piece: Piece) -> Tensor:
        """Add the weighted sum to the base."""
        weights = self.weights(len(piece.finetuned))
        return piece.finetuned[0] if weights == (1.0,) else add_changes(piece, weights)
