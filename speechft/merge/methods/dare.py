"""DARE: drop changes at random and rescale the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from speechft.merge.methods.base import MergeMethod
from speechft.merge.methods.draws import generator
from speechft.merge.methods.means import elected_mean, running_mean
from speechft.merge.models import Piece
from speechft.recipes.values import Strict

if TYPE_CHECKING:
    from torch import Tensor


class DareMerge(MergeMethod):
    """theta0 + alpha * combination of task vectors with random elements dropped and the others divided by 1 - drop.

    `combine: linear` is their mean. `combine: ties` elects a sign for each parameter and averages the models that agree; dropping replaces
    TIES' trimming by size, which is our interpretation (the paper leaves both rates to the user).
    """

    name = "dare"
    reference = "Yu et al., Language models are super Mario: absorbing abilities from homologous models, ICML 2024, arXiv 2311.03099"
    summary = (
        "theta0 + alpha * mean(mask_i * (theta_i - theta0) / (1 - drop)), mask_i random; with combine=ties: of those that agree in sign"
    )

    class Parameters(Strict):
        """`drop`: dropped share of each task vector. `seed`: seed of the masks. `combine`: combination of the task vectors."""

        drop: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="Share of each model's changes to drop.")
        seed: Annotated[int, Field(ge=0)] = Field(0, description="Seed of the masks.")
        combine: Literal["linear", "ties"] = Field("linear", description="Mean of the changes, or TIES' sign election.")

    parameters: Parameters

    def target(self, piece: Piece) -> Tensor:
        """Combine the remaining, rescaled changes."""
        import torch

        if piece.start == 0:
            self._generators = [generator(self.parameters.seed, index, piece.name) for index in range(len(piece.finetuned))]
        drop = self.parameters.drop
        masks = [torch.rand(piece.base.shape, generator=source) >= drop for source in self._generators]
        models = piece.finetuned
        if drop:
            rescaled = [piece.base + (model - piece.base) / (1 - drop) for model in models]
            models = [
                torch.where(mask & (model != piece.base), more, piece.base)
                for mask, model, more in zip(masks, models, rescaled, strict=True)
            ]
        return running_mean(models) if self.parameters.combine == "linear" else elected_mean(piece.base, models, masks)
