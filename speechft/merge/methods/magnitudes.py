"""The k-th largest change of whole models, found in two passes without holding them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from speechft.merge.models import OpenModels

_LOW_BITS = 15
_HIGH_BITS = 16  # with the sign bit, which magnitudes do not have, these are the 32 bits of a float32


def kth_largest_changes(models: OpenModels, names: Iterable[str], density: float) -> list[float]:
    """For each fine-tuned model the magnitude of change (float32) that the share `density` of its parameters in `names` reaches.

    Non-negative floats are ordered like their bit patterns read as integers. The first pass counts patterns by their upper half, which
    tells the upper half of the wanted one; the second counts the lower halves of those that share it. The result is exact.

    Args:
        models: the open models.
        names: tensors that are ranked together.
        density: share of parameters to reach it, above 0 and up to 1; the number of parameters is rounded, and at least 1.
    """
    names = list(names)
    total = sum(models.size(name) for name in names)
    if not total:
        return [0.0] * len(models.finetuned)
    wanted = max(1, round(density * total))
    highs, rests = [], []
    for counts in _count(models, names, [None] * len(models.finetuned)):
        high, rest = _from_the_top(counts, wanted)
        highs.append(high)
        rests.append(rest)
    lows = [_from_the_top(counts, rest)[0] for counts, rest in zip(_count(models, names, highs), rests, strict=True)]
    return [_as_float((high << _LOW_BITS) | low) for high, low in zip(highs, lows, strict=True)]


def changes(base: Tensor, finetuned: Iterable[Tensor]) -> Iterator[Tensor]:
    """Magnitudes of theta_i - theta0 in float32, as they are ranked."""
    for model in finetuned:
        yield (model - base).abs_().float()


def _count(models: OpenModels, names: list[str], highs: Sequence[int | None]) -> list[torch.Tensor]:
    """Histograms of the upper halves of patterns, or of the lower halves of those whose upper half is known."""
    import torch

    counts = [torch.zeros(1 << (_HIGH_BITS if high is None else _LOW_BITS), dtype=torch.int64) for high in highs]
    for name in names:
        for piece in models.pieces(name):
            for index, magnitude in enumerate(changes(piece.base, piece.finetuned)):
                bits, high = magnitude.view(torch.int32), highs[index]
                upper = bits >> _LOW_BITS
                found = upper if high is None else bits[upper == high] & ((1 << _LOW_BITS) - 1)
                counts[index] += torch.bincount(found, minlength=len(counts[index]))
    return counts


def _from_the_top(counts: torch.Tensor, wanted: int) -> tuple[int, int]:
    """The bin that holds the `wanted`-th largest value, and which of its values, from the top, that is."""
    import torch

    reached = counts.flip(0).cumsum(0)
    steps = int(torch.searchsorted(reached, wanted))
    above = int(reached[steps - 1]) if steps else 0
    return len(counts) - 1 - steps, wanted - above


def _as_float(pattern: int) -> float:
    import torch

    return float(torch.tensor(pattern, dtype=torch.int32).view(torch.float32))
