"""Heads of the SUPERB tasks: the only trainable modules of an evaluation, and what stage 1 puts on top of an encoder."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from speechft.tasks.base import Head

PROJECTED = 256
"""Width of the projection below every linear head (SUPERB recipe)."""


class PooledHead(Head):
    """A head whose logits depend on the frames through their mean only, so that it can be trained on cached means."""

    pooled: ClassVar[bool] = True

    @abstractmethod
    def from_means(self, means: Tensor) -> Tensor:
        """Logits (B, C) of mean features (B, D); equal to `forward` on the frames that were averaged."""


class UtteranceHead(PooledHead):
    """Linear, mean over valid frames, linear: KS and SID of the SUPERB recipe.

    The projection is affine, so the mean of projected frames is the projection of the mean frame.
    """

    def __init__(self, feature_dim: int, num_classes: int, projected: int = PROJECTED) -> None:
        super().__init__()
        self.projector = nn.Linear(feature_dim, projected)
        self.classifier = nn.Linear(projected, num_classes)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, C) and ones (B,) of features (B, T, D) with `lengths` (B,) valid frames."""
        logits: Tensor = self.classifier(masked_mean(self.projector(features), lengths))
        return logits, torch.ones_like(lengths)

    def from_means(self, means: Tensor) -> Tensor:
        """Logits (B, C) of mean features (B, D)."""
        logits: Tensor = self.classifier(self.projector(means))
        return logits


class FrameHead(Head):
    """Linear, linear on every frame, without activation: PR of the SUPERB recipe."""

    def __init__(self, feature_dim: int, num_symbols: int, projected: int = PROJECTED) -> None:
        super().__init__()
        self.projector = nn.Linear(feature_dim, projected)
        self.classifier = nn.Linear(projected, num_symbols)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, T, C) of features (B, T, D); the lengths stay."""
        return self.classifier(self.projector(features)), lengths


def frame_mask(lengths: Tensor, num_frames: int) -> Tensor:
    """Boolean (B, num_frames), true on the first `lengths` (B,) frames."""
    return torch.arange(num_frames, device=lengths.device)[None, :] < lengths[:, None]


def masked_mean(features: Tensor, lengths: Tensor) -> Tensor:
    """Mean over the valid frames: (..., B, T, D) with lengths (B,) to (..., B, D). What padded frames hold has no effect."""
    valid = frame_mask(lengths, features.shape[-2])[..., None]
    return features.masked_fill(~valid, 0.0).sum(dim=-2) / lengths[:, None].to(features.dtype)
