"""The learning-rate schedule of stage 1: linear warm-up, constant, linear decay to zero."""

from __future__ import annotations


def multiplier(completed_updates: int, total_updates: int, warmup: float = 0.1, hold: float = 0.4) -> float:
    """Share of the peak learning rate that the next update runs with.

    The arithmetic is that of the released Speech-FT code: with W = int(warmup * N) and H = W + int(hold * N), the value is
    k / W below W, 1 below H and (N - k) / (N - H) from there on. The very first update therefore runs with 0.

    Args:
        completed_updates: k, optimizer steps done so far; the i-th update (counted from 1) runs with `multiplier(i - 1)`.
        total_updates: N, updates of the whole run.
        warmup: share of N with a linearly rising rate.
        hold: share of N at the peak.
    """
    warm = int(warmup * total_updates)
    decay_from = warm + int(hold * total_updates)
    if completed_updates < warm:
        return completed_updates / warm
    if completed_updates < decay_from:
        return 1.0
    if completed_updates >= total_updates:
        return 0.0
    return (total_updates - completed_updates) / (total_updates - decay_from)
