"""Splitting a list of utterances into groups of similar length, and putting their features together again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_RATIO = 0.8
"""The shortest utterance of a group has at least this share of the longest one's samples."""


def length_groups(samples: Sequence[int], min_ratio: float = MIN_RATIO) -> list[list[int]]:
    """Indices of utterances by group, longest first; less than 1 - `min_ratio` of what a group computes is padding."""
    groups: list[list[int]] = []
    for index in sorted(range(len(samples)), key=lambda index: -samples[index]):
        if groups and samples[index] >= min_ratio * samples[groups[-1][0]]:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def join_groups(groups: Sequence[Sequence[int]], states: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Hidden states (B, T, D) in the order of the utterances, from those of each group, zero-padded to the longest."""
    frames = max(group[0].shape[1] for group in states)
    order = torch.tensor([index for group in groups for index in group], device=states[0][0].device).argsort()
    joined = []
    for layer in zip(*states, strict=True):
        padded = [F.pad(group, (0, 0, 0, frames - group.shape[1])) for group in layer]
        joined.append(torch.cat(padded)[order])
    return tuple(joined)
