"""Head of ASV: x-vector network and additive-margin softmax over the training speakers. SUPERB recipe, as in s3prl 0.4.18."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechft.tasks.base import Head
from speechft.tasks.heads import at_least_single, frame_mask

TDNN_LAYERS = ((5, 1), (3, 2), (3, 3), (1, 1), (1, 1))
"""Context size and dilation of each layer, in frames."""
LOST_FRAMES = sum((context - 1) * dilation for context, dilation in TDNN_LAYERS)
"""Number of frames by which the network shortens an utterance."""
MIN_FRAMES = LOST_FRAMES + 2
"""Minimum frames: a standard deviation needs two frames with their context; a shorter utterance is padded with its last frame."""


class XVectorHead(Head):
    """X-vector network: linear, five TDNN layers with ReLU, mean and standard deviation over time, two linear layers with ReLU.

    Logits are the cosines between the utterance's vector and each speaker's column in `speaker_vectors` (width, speakers).
    """

    def __init__(self, feature_dim: int, num_speakers: int, width: int = 512, pooled_width: int = 1500) -> None:
        super().__init__()
        self.projector = nn.Linear(feature_dim, width)
        widths = [width] * len(TDNN_LAYERS) + [pooled_width]
        self.tdnn = nn.ModuleList(
            nn.Conv1d(widths[i], widths[i + 1], context, dilation=dilation) for i, (context, dilation) in enumerate(TDNN_LAYERS)
        )
        self.utterance1 = nn.Linear(2 * pooled_width, width)
        self.utterance2 = nn.Linear(width, width)
        self.speaker_vectors = nn.Parameter(nn.init.xavier_normal_(torch.empty(width, num_speakers)))

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute cosines (B, speakers) and ones (B,) from features (B, T, D) with `lengths` (B,) valid frames.

        As in s3prl's training, one padded frame is pooled with every utterance that is shorter than the longest of the batch. `embed` does
        not depend on the batch.
        """
        vectors = F.normalize(self.utterance_vectors(features, lengths), dim=-1)
        return vectors @ F.normalize(self.speaker_vectors, dim=0), torch.ones_like(lengths)

    def utterance_vectors(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Compute the input of the softmax (B, width), after the second utterance-level layer."""
        vectors: Tensor = self.utterance2(self._first_layer(features, lengths, padded_frames=1).relu()).relu()
        return vectors

    def embed(self, features: Tensor, lengths: Tensor, padded_frames: int = 0) -> Tensor:
        """Compute unit vectors for trials (B, width), after the first utterance-level layer and ReLU.

        Up to `padded_frames` padded frames are pooled in addition to an utterance's own.
        """
        return F.normalize(self._first_layer(features, lengths, padded_frames).relu(), dim=-1)

    def _first_layer(self, features: Tensor, lengths: Tensor, padded_frames: int) -> Tensor:
        features, lengths = continue_short(features, lengths, MIN_FRAMES)
        frames = self.projector(features).transpose(1, 2)
        for layer in self.tdnn:
            frames = layer(frames).relu()
        pooled = (lengths - LOST_FRAMES + padded_frames).clamp(max=frames.shape[-1])
        vectors: Tensor = self.utterance1(mean_and_deviation(frames.transpose(1, 2), pooled))
        return vectors


def continue_short(features: Tensor, lengths: Tensor, min_frames: int) -> tuple[Tensor, Tensor]:
    """Pad utterances in features (B, T, D) to at least `min_frames` with their last frame."""
    if bool((lengths >= min_frames).all()):
        return features, lengths
    features = F.pad(features, (0, 0, 0, max(0, min_frames - features.shape[1])))
    frame = torch.arange(features.shape[1], device=features.device)
    continued = (frame >= lengths[:, None]) & (frame < min_frames)
    last = features[torch.arange(len(features), device=features.device), lengths - 1]
    return torch.where(continued[..., None], last[:, None], features), lengths.clamp(min=min_frames)


def mean_and_deviation(frames: Tensor, lengths: Tensor) -> Tensor:
    """Compute mean and unbiased deviation over the first `lengths` (B,) frames: (B, T, D) to (B, 2 D). Constants get gradient 0."""
    frames = frames.to(at_least_single(frames.dtype))
    valid = frame_mask(lengths, frames.shape[1])[..., None]
    count = lengths[:, None].to(frames.dtype)
    mean = frames.masked_fill(~valid, 0.0).sum(dim=1) / count
    variance = (frames - mean[:, None]).masked_fill(~valid, 0.0).square().sum(dim=1) / (count - 1)
    varies = variance > 0
    # The root has no finite slope at 0, which is therefore kept out of the graph.
    deviation = torch.where(varies, torch.where(varies, variance, 1.0).sqrt(), 0.0)
    return torch.cat([mean, deviation], dim=-1)


def additive_margin_loss(cosines: Tensor, targets: Sequence[Tensor], scale: float, margin: float) -> Tensor:
    """Compute the cross entropy of scale * cosines (B, speakers), with `margin` subtracted for the true speaker; mean over the batch."""
    speakers = torch.stack(list(targets)).to(cosines.device)
    return F.cross_entropy(scale * (cosines - margin * F.one_hot(speakers, cosines.shape[1])), speakers)
