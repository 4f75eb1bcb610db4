"""DELLA: drop changes at random, small ones more often, and rescale the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from speechft.merge.methods.base import MergeMethod
from speechft.merge.methods.draws import generator
from speechft.merge.methods.matrices import as_rows
from speechft.merge.methods.means import elected_mean, running_mean
from speechft.merge.models import Piece
from speechft.recipes.values import Strict

if TYPE_CHECKING:
    from torch import Tensor


class DellaMerge(MergeMethod):
    """theta0 + alpha * combination of task vectors pruned by MagPrune.

    Within each row of a tensor (all weights of one output; a vector is one row), changes are ranked by size. The drop probability p
    decreases linearly with the rank, from drop + epsilon / 2 for the smallest to drop - epsilon / 2 for the largest. Remaining changes are
    divided by 1 - p, so that their expectation is the task vector.
    """

    name = "della"
    reference = (
        "Deep, Bhardwaj, Poria, DELLA-Merging: reducing interference in model merging through magnitude-based sampling, arXiv 2406.11617"
    )
    summary = (
        "theta0 + alpha * mean over the models that agree with the elected sign of mask_i * (theta_i - theta0) / (1 - p_i), mask_i random, "
        "p_i larger for smaller changes; with combine=linear: of all models"
    )
    whole = True

    class Parameters(Strict):
        """`drop`: mean drop probability. `epsilon`: its range over the ranks. `seed`: seed of the masks. `combine`: combination."""

        drop: Annotated[float, Field(ge=0, lt=1)] = Field(0.5, description="Mean share of each model's changes to drop.")
        epsilon: Annotated[float, Field(ge=0, le=1)] = Field(0.3, description="Drop probability of the smallest minus that of the largest.")
        seed: Annotated[int, Field(ge=0)] = Field(0, description="Seed of the masks.")
        combine: Literal["ties", "linear"] = Field("ties", description="TIES' sign election, or the mean of the changes.")

        @model_validator(mode="after")
        def _probabilities(self) -> Self:
            low, high = self.drop - self.epsilon / 2, self.drop + self.epsilon / 2
            if low < 0 or high >= 1:
                raise ValueError(f"probabilities from drop - epsilon / 2 = {low:g} to drop + epsilon / 2 = {high:g} must be in [0, 1)")
            return self

    parameters: Parameters

    def target(self, piece: Piece) -> Tensor:
        """Combine the remaining, rescaled changes."""
        import torch

        models, masks = [], []
        for index, model in enumerate(piece.finetuned):
            change = model - piece.base
            dropped = self._probabilities(change, piece.shape)
            mask = torch.rand(change.shape, generator=generator(self.parameters.seed, index, piece.name)) >= dropped
            rescaled = torch.where(dropped == 0, model, piece.base + change / (1 - dropped))
            models.append(torch.where(mask & (change != 0), rescaled, piece.base))
            masks.append(mask)
        return running_mean(models) if self.parameters.combine == "linear" else elected_mean(piece.base, models, masks)

    def _probabilities(self, change: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Compute the drop probability of each change by its rank in its row; ties are ranked by position."""
        import torch

        rows = as_rows(change.abs(), shape)
        ranks = rows.argsort(dim=1, stable=True).argsort(dim=1)
        middle = (rows.shape[1] - 1) / 2
        slope = self.parameters.epsilon / max(2 * middle, 1)
        return (self.parameters.drop - slope * (ranks.to(torch.float32) - middle)).flatten()
