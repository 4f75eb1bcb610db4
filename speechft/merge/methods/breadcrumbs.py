"""Model breadcrumbs: drop the largest and the smallest changes of each tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from speechft.merge.methods.base import MergeMethod
from speechft.merge.methods.means import add_changes, elected_mean
from speechft.merge.methods.ranking import kth_largest_changes, magnitudes
from speechft.merge.models import Models, Piece
from speechft.recipes.values import Strict

if TYPE_CHECKING:
    from torch import Tensor


class BreadcrumbsMerge(MergeMethod):
    """theta0 + alpha * sum of task vectors without their largest and smallest changes, ranked within each tensor.

    `combine: ties` elects a sign for each parameter and averages the models that agree (breadcrumbs_ties in other tools).
    """

    name = "breadcrumbs"
    reference = "Davari, Belilovsky, Model breadcrumbs: scaling multi-task model merging with sparse masks, ECCV 2024, arXiv 2312.06795"
    summary = (
        "theta0 + alpha * sum(mask_i * (theta_i - theta0)), mask_i without the largest and the smallest changes of each tensor; with "
        "combine=ties: mean of those that agree in sign"
    )

    class Parameters(Strict):
        """`density`: kept share of each tensor's changes. `gamma`: dropped share of the largest changes. `combine`: combination."""

        density: Annotated[float, Field(gt=0, le=1)] = Field(0.15, description="Share of each tensor's changes to keep.")
        gamma: Annotated[float, Field(ge=0, lt=1)] = Field(0.01, description="Share of each tensor's changes to drop, the largest ones.")
        combine: Literal["sum", "ties"] = Field("sum", description="Sum of the changes, or TIES' sign election.")

        @model_validator(mode="after")
        def _something_is_left(self) -> Self:
            if self.density + self.gamma > 1:
                raise ValueError(f"density={self.density:g} plus gamma={self.gamma:g} must be at most 1")
            return self

    parameters: Parameters

    def prepare(self, models: Models) -> None:
        """Find the largest and the smallest kept change of each tensor."""
        self._limits = {}
        for name in models.names:
            above = int(self.parameters.gamma * models.size(name))
            kept = max(1, int(self.parameters.density * models.size(name)))
            ends = [self._kth_largest(models, name, k) for k in (above + 1, above + kept)]
            self._limits[name] = list(zip(*ends, strict=True))

    def target(self, piece: Piece) -> Tensor:
        """Add the sum of the kept changes, or the mean over the models that agree."""
        limits = zip(magnitudes(piece), self._limits[piece.name], strict=True)
        kept = [(smallest <= size) & (size <= largest) for size, (largest, smallest) in limits]
        if self.parameters.combine == "ties":
            return elected_mean(piece.base, piece.finetuned, kept)
        masked = [model.where(keep, piece.base) for model, keep in zip(piece.finetuned, kept, strict=True)]
        return masked[0] if len(masked) == 1 else add_changes(piece._replace(finetuned=masked), [1.0] * len(masked))

    def _kth_largest(self, models: Models, name: str, k: int) -> list[float]:
        return kth_largest_changes(lambda: models.pieces(name), rank=lambda _: k)
