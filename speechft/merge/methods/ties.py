"""TIES: trim small changes, elect signs, average the models that agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from speechft.merge.methods.base import MergeMethod
from speechft.merge.methods.means import elected_mean
from speechft.merge.methods.ranking import kth_largest_changes, magnitudes
from speechft.merge.models import Models, Piece
from speechft.recipes.values import Strict

if TYPE_CHECKING:
    from torch import Tensor


class TiesMerge(MergeMethod):
    """theta0 + alpha * disjoint mean of the trimmed task vectors.

    As published, the changes of a whole model are ranked together, so tensors that fine-tuning hardly changed lose all their changes;
    `trim: tensor` ranks within each tensor, as in other tools. Changes equal to the threshold are kept.
    """

    name = "ties"
    reference = "Yadav et al., TIES-Merging: resolving interference when merging models, NeurIPS 2023, arXiv 2306.01708"
    summary = (
        "theta0 + alpha * mean over the models that agree with the elected sign of (theta_i - theta0), the largest changes of each only"
    )

    class Parameters(Strict):
        """`density`: kept share of each task vector. `trim`: range within which changes are ranked."""

        density: Annotated[float, Field(gt=0, le=1)] = Field(0.2, description="Share of each model's changes to keep.")
        trim: Literal["model", "tensor"] = Field("model", description="Rank changes per model, as published, or per tensor.")

    parameters: Parameters

    def prepare(self, models: Models) -> None:
        """Find the smallest kept change of each model."""
        if self.parameters.trim == "model":
            self._smallest = dict.fromkeys(models.names, self._smallest_kept(models, models.names))
        else:
            self._smallest = {name: self._smallest_kept(models, [name]) for name in models.names}

    def target(self, piece: Piece) -> Tensor:
        """Average the models that agree, after trimming."""
        sizes = zip(magnitudes(piece), self._smallest[piece.name], strict=True)
        return elected_mean(piece.base, piece.finetuned, [size >= smallest for size, smallest in sizes])

    def pieces(self, models: Models, name: str) -> Iterator[Piece]:
        """Yield the values that are ranked and compared."""
        return models.pieces(name)

    def _smallest_kept(self, models: Models, names: Sequence[str]) -> list[float]:
        return kth_largest_changes(
            lambda: (piece for name in names for piece in self.pieces(models, name)),
            rank=lambda total: max(1, round(self.parameters.density * total)),
        )
