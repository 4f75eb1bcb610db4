"""Similarity of the hidden states of two encoders on the same speech, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from speechft.analysis.result import StateSimilarity
from speechft.corpora import num_samples_16k
from speechft.errors import AnalysisError
from speechft.evaluate.data.clips import Clip
from speechft.evaluate.data.features import FrozenEncoder
from speechft.evaluate.data.sampling import length_batches
from speechft.tasks.heads import frame_mask


class Comparison:
    """Running sums over frames of one hidden state of two encoders, of width D, in float64."""

    def __init__(self, width: int, device: torch.device) -> None:
        zeros = [torch.zeros(width, dtype=torch.float64, device=device) for _ in range(2)]
        self.sums = zeros
        self.products = [torch.zeros(width, width, dtype=torch.float64, device=device) for _ in range(3)]
        self.cosines = 0.0
        self.frames = 0

    def add(self, first: Tensor, second: Tensor) -> None:
        """Add frames, (N, D) from each encoder."""
        self.cosines += float(F.cosine_similarity(first, second, dim=-1).double().sum())
        first, second = first.double(), second.double()
        self.frames += len(first)
        for total, values in zip(self.sums, (first, second), strict=True):
            total += values.sum(0)
        for product, (left, right) in zip(self.products, ((first, first), (second, second), (first, second)), strict=True):
            product += left.T @ right

    def result(self, state: int) -> StateSimilarity:
        """Compute mean cosine, and CKA = ||Xc' Yc||^2 / (||Xc' Xc|| ||Yc' Yc||) with X, Y centered over frames (Kornblith et al., 2019).

        If all frames are equal, CKA is undefined; it then counts as 1 if this holds for both encoders, otherwise as 0.
        """
        means = [total / self.frames for total in self.sums]
        first, second, both = (
            product - self.frames * torch.outer(means[left], means[right])
            for product, (left, right) in zip(self.products, ((0, 0), (1, 1), (0, 1)), strict=True)
        )
        scale = float(first.norm() * second.norm())
        flat = [float(covariance.norm()) == 0.0 for covariance in (first, second)]
        cka = float(all(flat)) if any(flat) else float(both.square().sum()) / scale
        return StateSimilarity(state=state, cosine=self.cosines / self.frames, cka=cka)


def feature_similarity(start: FrozenEncoder, model: FrozenEncoder, cuts: Sequence[Any]) -> tuple[list[StateSimilarity], int]:
    """Compare all hidden states on `cuts`; return the similarities and the number of frames.

    Raises:
        AnalysisError: number or width of hidden states differ, or an utterance is too short for the encoders.
    """
    encoders = (start.encoder, model.encoder)
    shapes = [(encoder.num_states, encoder.hidden_size, encoder.frame_shift) for encoder in encoders]
    if shapes[0] != shapes[1]:
        raise AnalysisError(f"The encoders have different hidden states: (number, width, frame shift) {shapes[0]} and {shapes[1]}.")
    clips = [Clip(cut, 0, num_samples_16k(cut)) for cut in cuts]
    if short := [clip.cut.id for clip in clips if clip.num_samples < start.encoder.min_samples]:
        raise AnalysisError(f"Too short for the encoders: {', '.join(short[:5])}. Remove them from the corpus.")
    comparisons = [Comparison(start.encoder.hidden_size, start.device) for _ in range(start.encoder.num_states)]
    for batch in length_batches([clip.num_samples for clip in clips], start.batch_samples):
        (states, lengths), (others, _) = (encoder([clips[index] for index in batch]) for encoder in (start, model))
        valid = frame_mask(lengths, states.shape[2])
        for comparison, first, second in zip(comparisons, states, others, strict=True):
            comparison.add(first[valid], second[valid])
    return [comparison.result(state) for state, comparison in enumerate(comparisons)], comparisons[0].frames
