"""TIES: trim small changes, elect signs, average the models that agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from speechft.merge.methods.base import MergeMethod
from speechft.merge.methods.means import elected_mean
from speechft.merge.models import Models, Piece
from speechft.recipes.values import Strict

if TYPE_CHECKING:
    from torch import Tensor


class TiesMerge(MergeMethod):
    """theta0 + alpha * disjoint mean of the trimmed task vectors.

    As published, the changes of a whole model are ranked together, so that tensors that fine-tuning hardly moved lose all of theirs;
    `trim: tensor` ranks within each tensor, as some other tools do. Changes as large as the last that is kept are kept too.
    """

    name = "ties"
    reference = "Yadav et al., TIES-Merging: resolving interference when merging models, NeurIPS 2023, arXiv 2306.01708"
    summary = (
        "theta0 + alpha * mean over the models that agree with the elected sign of (theta_i - theta0), the largest changes of each only"
    )

    class Parameters(Strict):
        """`density`: share of each task vector that is kept. `trim`: what its changes are ranked within."""

        density: Annotated[float, Field(gt=0, le=1)] = Field(0.2, description="Share of the changes of each model that is kept.")
        trim: Literal["model", "tensor"] = Field("model", description="Rank changes within the whole model, as published, or each tensor.")

    parameters: Parameters

    def prepare(self, models: Models) -> None:
        """Find the smallest change of each model that is kept."""
        density = self.parameters.density
        if self.parameters.trim == "model":
            self._smallest = dict.fromkeys(models.names, kth_largest_changes(models, models.names, density))
        else:
            self._smallest = {name: kth_largest_changes(models, [name], density) for name in models.names}

    def target(self, piece: Piece) -> Tensor:
        """The mean of the models that agree, after trimming."""
        sizes = zip(_magnitudes(piece), self._smallest[piece.name], strict=True)
        return elected_mean(piece.base, piece.finetuned, [size >= smallest for size, smallest in sizes])


def _magnitudes(piece: Piece) -> list[Tensor]:
    """|theta_i - theta0| in float32, as changes are ranked."""
    return [(model - piece.base).abs_().float() for model in piece.finetuned]


def kth_largest_changes(models: Models, names: Iterable[str], density: float) -> list[float]:
    """For each fine-tuned model the magnitude of change (float32) that the share `density` of its parameters in `names` reaches.

    Non-negative floats are ordered like their bit patterns read as integers. The first pass counts patterns by their upper 16 bits, which
    tells the upper half of the wanted one; the second counts the lower 16 bits of those that share it. The result is exact. The number of
    parameters that reach it is rounded, and at least 1.
    """
    import torch

    names = list(names)
    total = sum(models.size(name) for name in names)
    if not total:
        return [0.0] * len(models.finetuned)
    wanted = max(1, round(density * total))
    uppers = [_from_the_top(counts, wanted) for counts in _count(models, names, None)]
    lowers = _count(models, names, [upper for upper, _ in uppers])
    patterns = [(upper << 16) | _from_the_top(counts, rest)[0] for (upper, rest), counts in zip(uppers, lowers, strict=True)]
    return [float(value) for value in torch.tensor(patterns, dtype=torch.int32).view(torch.float32)]


def _count(models: Models, names: list[str], uppers: Sequence[int] | None) -> list[Tensor]:
    """Histograms of the upper halves of bit patterns, or of the lower halves of those whose upper half is known; one for each model."""
    import torch

    counts = [torch.zeros(1 << 16, dtype=torch.int64) for _ in models.finetuned]
    for name in names:
        for piece in models.pieces(name):
            for index, magnitude in enumerate(_magnitudes(piece)):
                bits = magnitude.view(torch.int32)
                upper = bits >> 16
                halves = upper if uppers is None else bits[upper == uppers[index]] & 0xFFFF
                counts[index] += torch.bincount(halves, minlength=1 << 16)
    return counts


def _from_the_top(counts: Tensor, wanted: int) -> tuple[int, int]:
    """The bin that holds the `wanted`-th largest value, and which of its values, from the top, that is."""
    import torch

    reached = counts.flip(0).cumsum(0)
    steps = int(torch.searchsorted(reached, wanted))
    above = int(reached[steps - 1]) if steps else 0
    return len(counts) - 1 - steps, wanted - above
