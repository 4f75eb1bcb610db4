"""Subsequence dynamic time warping of spoken queries against spoken documents, for many pairs at once.

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
"""Shorter queries score 0 with every document."""
FLOOR = 1e-9
"""Lower bound of the divisors in normalizations."""
BLOCK_VALUES = 1 << 25
"""Most distances in memory at once: query frames x queries x documents x document frames."""


class FrameStatistics:
    """Mean and unbiased standard deviation of each dimension over all frames, accumulated in float64 batch by batch.

    Leading dimensions, such as hidden states, have separate statistics.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._sum = self._squares = torch.zeros((), dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Add frames (..., T, D)."""
        frames = features.double()
        self.frames += frames.shape[-2]
        self._sum = self._sum + frames.sum(dim=-2)
        self._squares = self._squares + frames.square().sum(dim=-2)

    def normalized(self, features: Tensor) -> Tensor:
        """Return (features - mean) / standard deviation, 0 for constant dimensions, in the dtype of `features`.

        Raises:
            ValueError: fewer than two frames were added.
        """
        if self.frames < 2:
            raise ValueError(f"{self.frames} frame(s) have no standard deviation")
        mean = self._sum / self.frames
        variance = (self._squares - self.frames * mean.square()).clamp(min=0.0) / (self.frames - 1)
        deviation = variance.sqrt().clamp(min=FLOOR)
        return ((features - mean[..., None, :]) / deviation[..., None, :]).to(features.dtype)


def raw_scores(queries: Sequence[Tensor], documents: Sequence[Tensor], distance: Distance = "cosine_exp") -> Tensor:
    """Score every pair (queries, documents): minus the mean distance along the best path; 0 for queries of less than 5 frames.

    Args:
        queries: frames (N, D) of each query.
        documents: frames (J, D) of each document, J at least 1.
        distance: "cosine" is the cosine distance, "cosine_exp" is exp(cosine distance) - 1.
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
    """Group queries (index, frames) of similar lengths so that a block of distances stays within `BLOCK_VALUES`."""
    groups: list[list[int]] = []
    for index, frames in sorted(queries, key=lambda item: item[1]):
        if groups and (len(groups[-1]) + 1) * frames * document_values <= BLOCK_VALUES:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _distances(queries: Tensor, documents: Tensor, valid: Tensor, distance: Distance) -> Tensor:
    """Compute distances (N, Q, B, J) of unit frames (N, Q, D), (B, J, D), scaled to [0, 1] per query frame and document; Inf in padding."""
    distances = 1 - torch.einsum("nqd,bjd->nqbj", queries, documents)
    if distance == "cosine_exp":
        distances = distances.exp() - 1
    lowest = distances.masked_fill(~valid, float("inf")).amin(dim=-1, keepdim=True)
    highest = distances.masked_fill(~valid, float("-inf")).amax(dim=-1, keepdim=True)
    scaled = (distances - lowest) / (highest - lowest).clamp(min=FLOOR)
    return scaled.masked_fill(~valid, float("inf"))


def path_costs(distances: Tensor, lengths: Tensor) -> Tensor:
    """Compute the mean distance along the best path (Q, B) from distances (N, Q, B, J), Inf in padding; query q has `lengths[q]` frames.

    The cost of query frame i at document frame j is the distance there plus the least cost of frame i - 1 at j, j - 1 or j - 2. Paths begin
    and end at any document frame. A row depends only on the previous one, so all j, queries and documents are one operation.
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
    """Standardize the scores (Q, documents) of each query by their mean and population standard deviation."""
    centered = scores - scores.mean(dim=1, keepdim=True)
    return centered / scores.std(dim=1, keepdim=True, correction=0).clamp(min=FLOOR)
