"""Exact selection of the largest changes without sorting or storing them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from speechft.merge.models import Piece

if TYPE_CHECKING:
    from torch import Tensor


def magnitudes(piece: Piece) -> list[Tensor]:
    """Compute |theta_i - theta0| in float32, by which changes are ranked."""
    return [(model - piece.base).abs_().float() for model in piece.finetuned]


def kth_largest_changes(pieces: Callable[[], Iterable[Piece]], rank: Callable[[int], int]) -> list[float]:
    """Find the k-th largest magnitude (float32) of the changes in `pieces` for each fine-tuned model, with k = `rank`(their number).

    Non-negative floats are ordered like their bit patterns as integers. The first pass counts the upper 16 bits and so finds those of the
    result; the second counts the lower 16 bits of the patterns with this upper half. The result is exact, and 0 if there are no values.
    """
    import torch

    counted = _count(pieces(), None)
    total = int(counted[0].sum()) if counted else 0
    if not total:
        return [0.0] * len(counted)
    uppers = [_from_the_top(counts, rank(total)) for counts in counted]
    lowers = _count(pieces(), [upper for upper, _ in uppers])
    patterns = [(upper << 16) | _from_the_top(counts, rest)[0] for (upper, rest), counts in zip(uppers, lowers, strict=True)]
    return [float(value) for value in torch.tensor(patterns, dtype=torch.int32).view(torch.float32)]


def _count(pieces: Iterable[Piece], uppers: Sequence[int] | None) -> list[Tensor]:
    """Compute per model a histogram of the upper halves of bit patterns, or of the lower halves of those with a given upper half."""
    import torch

    counts: list[Tensor] = []
    for piece in pieces:
        counts = counts or [torch.zeros(1 << 16, dtype=torch.int64) for _ in piece.finetuned]
        for index, magnitude in enumerate(magnitudes(piece)):
            bits = magnitude.view(torch.int32)
            upper = bits >> 16
            halves = upper if uppers is None else bits[upper == uppers[index]] & 0xFFFF
            counts[index] += torch.bincount(halves, minlength=1 << 16)
    return counts


def _from_the_top(counts: Tensor, wanted: int) -> tuple[int, int]:
    """Return the bin of the `wanted`-th largest value and the value's rank within the bin, from the top."""
    import torch

    reached = counts.flip(0).cumsum(0)
    steps = int(torch.searchsorted(reached, wanted))
    above = int(reached[steps - 1]) if steps else 0
    return len(counts) - 1 - steps, wanted - above
