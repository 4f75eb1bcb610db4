"""Task arithmetic: signed sums of task vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, FiniteFloat

from speechft.errors import MergeError
from speechft.merge.methods.base import MergeMethod
from speechft.merge.models import Piece
from speechft.recipes.values import Strict

if TYPE_CHECKING:
    from torch import Tensor


class TaskArithmeticMerge(MergeMethod):
    """theta0 + alpha * sum_i w_i * (theta_i - theta0): adding a task vector teaches, subtracting it makes forget."""

    name = "task_arithmetic"
    reference = "Ilharco et al., Editing models with task arithmetic, ICLR 2023, arXiv 2212.04089"
    summary = "theta0 + alpha * sum(w_i * (theta_i - theta0))"

    class Parameters(Strict):
        """`weights`: w_i, one for each fine-tuned model in the order given."""

        weights: tuple[FiniteFloat, ...] | None = Field(None, description="One signed weight for each model; default: 1 for each.")

    parameters: Parameters

    @property
    def symmetric(self) -> bool:
        """Without weights no model is special."""
        return self.parameters.weights is None

    def check_count(self, count: int) -> None:
        """See MergeMethod; there must be a weight for each model."""
        super().check_count(count)
        weights = self.parameters.weights
        if weights is not None and len(weights) != count:
            raise MergeError(
                f"Merge method {self.name!r}: weights has {len(weights)} values for {count} fine-tuned models. Give one for each."
            )

    def target(self, piece: Piece) -> Tensor:
        """The base plus the weighted sum."""
        weights = self.parameters.weights or (1.0,) * len(piece.finetuned)
        if weights == (1.0,):
            return piece.finetuned[0]
        total = piece.base.new_zeros(piece.base.shape)
        for weight, model in zip(weights, piece.finetuned, strict=True):
            total.add_(model.sub_(piece.base), alpha=weight)
        return (piece.base + total).where(total != 0, piece.base)
