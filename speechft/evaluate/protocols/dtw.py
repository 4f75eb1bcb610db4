"""Subsequence dynamic time warping of spoken queries against spoken documents, for many pairs at a time.

SUPERB recipe for query by example (s3prl 0.4.18): asymmetric steps, open begin and end.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from speechft.tasks.heads import frame_mask
from speechft.tasks.qbe import Distance

MIN_QUERY_FRAMES = 5
"""A shorter query scores 0 with every document."""
FLOOR = 1e-9
"""Smallest divisor of the three normalizations."""
BLOCK_VALUES = 1 << 25
"""Distances held at a time: query frames x queries x documents x document frames."""


class FrameStatistics:
    """Mean and unbiased standard deviation of each dimension over all frames, summed up in float64 a batch at a time.

    Dimensions before the frames, e.g. hidden states, have statistics of their own.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._sum = self._squares = torch.zeros((), dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Count frames (..., T, D)."""
        frames = features.double()
        self.frames += frames.shape[-2]
        self._sum = self._sum + frames.sum(dim=-2)
        self._squares = self._squares + frames.square().sum(dim=-2)

    def normalized(self, features: Tensor) -> Tensor:
        """(features - mean) / standard deviation, 0 for constant dimensions, in the dtype of `features`; ValueError without two frames."""
        if self.frames < 2:
            raise ValueError(f"{self.frames} frame(s) have no standard deviation")
        mean = self._sum / self.frames
        variance = (self._squares - self.frames * mean.square()).clamp(min=0.0) / (self.frames - 1)
        deviation = variance.sqrt().clamp(min=FLOOR)
        return ((features - mean[..., None, :]) / deviation[..., None, :]).to(features.dtype)


def raw_scores(queries: Sequence[Tensor], documents: Sequence[Tensor], distance: Distance = "cosine_exp") -> Tensor:
    """Score (queries, documents) of every pair: minus the mean distance along the best path; 0 for queries of less than 5 frames.

    Args:
        queries: frames (N, D) of each query.
        documents: frames (J, D) of each document, at least one.
        distance: "cosine_exp" is exp(cosine distance) - 1, "cosine" the cosine distance itself.
    """
    scores = torch.zeros(len(queries), len(documents), dtype=documents[0].dtype, device=documents[0].device)
    padded = F.normalize(pad_sequence(list(documents), batch_first=True), dim=-1)
    valid = frame_mask(torch.tensor([len(document) for document in documents], device=padded.device), padded.shape[1])
    long_enough = [index for index, query in enumerate(queries) if len(query) >= MIN_QUERY_FRAMES]
    for group in _groups([(index, len(queries[index])) for index in long_enough], valid.numel()):
        lengths = torch.tensor([len(queries[index]) for index in group], device=padded.device)
        frames = F.normalize(pad_sequence([queries[index] for index in group]), dim=-1)
        scores[group] = -path_costs(_distances(frames, padded, valid, distance), lengths)
    return scores


def _groups(queries: Sequence[tuple[int, int]], document_values: int) -> list[list[int]]:
    """Queries (index, frames) of similar lengths, as many together as keep a block of distances within `BLOCK_VALUES`."""
    groups: list[list[int]] = []
    for index, frames in sorted(queries, key=lambda item: item[1]):
        if groups and (len(groups[-1]) + 1) * frames * document_values <= BLOCK_VALUES:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _distances(queries: Tensor, documents: Tensor, valid: Tensor, distance: Distance) -> Tensor:
    """Distances (N, Q, B, J) of unit frames (N, Q, D) and (B, J, D), scaled to [0, 1] for each query frame and document; Inf in padding."""
    distances = 1 - torch.einsum("nqd,bjd->nqbj", queries, documents)
    if distance == "cosine_exp":
        distances = distances.exp() - 1
    lowest = distances.masked_fill(~valid, float("inf")).amin(dim=-1, keepdim=True)
    highest = distances.masked_fill(~valid, float("-inf")).amax(dim=-1, keepdim=True)
    scaled = (distances - lowest) / (highest - lowest).clamp(min=FLOOR)
    return scaled.masked_fill(~valid, float("inf"))


def path_costs(distances: Tensor, lengths: Tensor) -> Tensor:
    """Mean distance along the best path (Q, B) of distances (N, Q, B, J); query q has `lengths[q]` frames, padded documents are Inf.

    The cost to reach query frame i at document frame j is the distance there plus the least cost to reach frame i - 1 at j, j - 1 or
    j - 2. Paths begin and end at any document frame. A row depends on the row before only, so all j, queries and documents are one
    operation.
    """
    costs = torch.empty(distances.shape[1:3], dtype=distances.dtype, device=distances.device)
    row = distances[0]
    for frame in range(len(distances)):
        if frame:
            best = row.clone()
            torch.minimum(best[..., 1:], row[..., :-1], out=best[..., 1:])
            torch.minimum(best[..., 2:], row[..., :-2], out=best[..., 2:])
            row = best.add_(distances[frame])
        ended = lengths == frame + 1
        costs[ended] = row[ended].amin(dim=-1) / (frame + 1)
    return costs


def z_scores(scores: Tensor) -> Tensor:
    """Scores (Q, documents) of each query, less their mean, over their standard deviation (population)."""
    centered = scores - scores.mean(dim=1, keepdim=True)
    return centered / scores.std(dim=1, keepdim=True, correction=0).clamp(min=FLOOR)
