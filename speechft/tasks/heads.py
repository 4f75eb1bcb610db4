"""Heads of the SUPERB tasks, for evaluation and stage 1."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from speechft.tasks.base import Head
from speechft.tasks.specaug import SpecAugment

PROJECTED = 256
"""Width of the projection in linear heads (SUPERB recipe)."""


class PooledHead(Head):
    """Head whose logits depend only on the mean over frames, so that it can be trained on cached means."""

    @abstractmethod
    def from_means(self, means: Tensor) -> Tensor:
        """Compute logits (B, C) from mean features (B, D); equal to `forward` on the averaged frames."""


class UtteranceHead(PooledHead):
    """Head of KS, SID and ER in the SUPERB recipe: linear, mean over valid frames, linear.

    The projection is affine, so the mean of projected frames is the projection of the mean frame.
    """

    def __init__(self, feature_dim: int, num_classes: int, projected: int = PROJECTED) -> None:
        super().__init__()
        self.projector = nn.Linear(feature_dim, projected)
        self.classifier = nn.Linear(projected, num_classes)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits (B, C) and ones (B,) from features (B, T, D) with `lengths` (B,) valid frames."""
        logits: Tensor = self.classifier(masked_mean(self.projector(features), lengths))
        return logits, torch.ones_like(lengths)

    def from_means(self, means: Tensor) -> Tensor:
        """Compute logits (B, C) from mean features (B, D)."""
        logits: Tensor = self.classifier(self.projector(means))
        return logits


class SlotHead(UtteranceHead):
    """Head of IC in the SUPERB recipe: `UtteranceHead` with a group of outputs per slot.

    Logits are (B, slots, V), with V the largest number of values of a slot; unused entries are -inf and do not affect the softmax.
    """

    def __init__(self, feature_dim: int, values_per_slot: Sequence[int], projected: int = PROJECTED) -> None:
        super().__init__(feature_dim, sum(values_per_slot), projected)
        self.values_per_slot = list(values_per_slot)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits (B, slots, V) and ones (B,) from features (B, T, D) with `lengths` (B,) valid frames."""
        logits, ones = super().forward(features, lengths)
        return self._by_slot(logits), ones

    def from_means(self, means: Tensor) -> Tensor:
        """Compute logits (B, slots, V) from mean features (B, D)."""
        return self._by_slot(super().from_means(means))

    def _by_slot(self, logits: Tensor) -> Tensor:
        most = max(self.values_per_slot)
        parts = torch.split(logits, self.values_per_slot, dim=-1)
        return torch.stack([F.pad(part, (0, most - part.shape[-1]), value=float("-inf")) for part in parts], dim=-2)


class FrameHead(Head):
    """Head of PR in the SUPERB recipe, and of PC: two linear layers on every frame, without activation.

    Both layers are trained, but frames are multiplied by their product, a single and much smaller matrix.
    """

    def __init__(self, feature_dim: int, num_symbols: int, projected: int = PROJECTED) -> None:
        super().__init__()
        self.projector = nn.Linear(feature_dim, projected)
        self.classifier = nn.Linear(projected, num_symbols)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits (B, T, C) from features (B, T, D); lengths are unchanged."""
        weight = self.classifier.weight @ self.projector.weight
        bias = torch.addmv(self.classifier.bias, self.classifier.weight, self.projector.bias)
        return F.linear(features, weight, bias), lengths


class RecurrentHead(Head):
    """Head of ASR and SF in the SUPERB recipe: linear, bidirectional LSTMs over the valid frames, linear.

    Each LSTM is followed by dropout. In training mode, features are augmented first (`SpecAugment`). Padded frames do not affect valid
    ones. Weights and states stay in float32 under autocast.

    Args:
        hidden: units per direction of each LSTM.
    """

    def __init__(
        self,
        feature_dim: int,
        num_symbols: int,
        projected: int = 1024,
        hidden: Sequence[int] = (1024, 1024),
        dropout: float = 0.2,
        spec_augment: bool = True,
    ) -> None:
        super().__init__()
        self.augment = SpecAugment() if spec_augment else None
        self.projector = nn.Linear(feature_dim, projected)
        inputs = [projected, *(2 * units for units in hidden)]
        self.rnns = nn.ModuleList(
            nn.LSTM(size, units, batch_first=True, bidirectional=True) for size, units in zip(inputs[:-1], hidden, strict=True)
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(inputs[-1], num_symbols)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits (B, T, C) from features (B, T, D) with `lengths` (B,) valid frames; lengths are unchanged."""
        with torch.autocast(features.device.type, enabled=False):
            states = features.to(self.classifier.weight.dtype)
            if self.augment is not None:
                states = self.augment(states, lengths)
            states = self.projector(states)
            for rnn in self.rnns:
                assert isinstance(rnn, nn.LSTM)
                states = self.dropout(run_bidirectional(rnn, states, lengths))
            return self.classifier(states), lengths


def run_bidirectional(rnn: nn.LSTM, features: Tensor, lengths: Tensor) -> Tensor:
    """Run a bidirectional LSTM on features (B, T, D) with `lengths` (B,) valid frames; return outputs (B, T, 2 hidden).

    On valid frames, outputs equal those of packed sequences; on padded frames they are undefined. On the CPU, where torch processes packed
    sequences frame by frame, whole batches run two to three times as fast: padding at the end cannot affect valid frames in the forward
    direction, and the backward direction runs forward over individually reversed utterances.
    """
    if features.device.type != "cpu":
        packed = pack_padded_sequence(features, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(rnn(packed)[0], batch_first=True, total_length=features.shape[1])[0]
    frame = torch.arange(features.shape[1])
    turned = torch.where(frame < lengths[:, None], lengths[:, None] - 1 - frame, frame)[..., None]
    forwards, backwards = rnn.all_weights
    outputs = _run_lstm(features.gather(1, turned.expand_as(features)), backwards)
    return torch.cat([_run_lstm(features, forwards), outputs.gather(1, turned.expand_as(outputs))], dim=-1)


def _run_lstm(features: Tensor, weights: Sequence[Tensor]) -> Tensor:
    zeros = features.new_zeros(1, len(features), weights[1].shape[1])
    return torch.lstm(features, (zeros, zeros), tuple(weights), True, 1, 0.0, torch.is_grad_enabled(), False, True)[0]


class DiarizationHead(Head):
    """Head of SD in the SUPERB recipe: a forward LSTM, then linear. A frame's logits depend only on the frames up to it."""

    def __init__(self, feature_dim: int, num_speakers: int, hidden: int = 512) -> None:
        super().__init__()
        self.rnn = nn.LSTM(feature_dim, hidden, batch_first=True)
        self.classifier = nn.Linear(hidden, num_speakers)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits (B, T, speakers) from features (B, T, D); lengths are unchanged."""
        with torch.autocast(features.device.type, enabled=False):
            states, _ = self.rnn(features.to(self.classifier.weight.dtype))
            return self.classifier(states), lengths


def frame_mask(lengths: Tensor, num_frames: int) -> Tensor:
    """Return bool (B, num_frames), true on the first `lengths` (B,) frames."""
    return torch.arange(num_frames, device=lengths.device)[None, :] < lengths[:, None]


def masked_mean(features: Tensor, lengths: Tensor) -> Tensor:
    """Average the valid frames: (..., B, T, D) with lengths (B,) to (..., B, D). Padded frames have no effect."""
    valid = frame_mask(lengths, features.shape[-2])[..., None]
    wide = at_least_single(features.dtype)
    return features.masked_fill(~valid, 0.0).sum(dim=-2, dtype=wide) / lengths[:, None].to(wide)


def at_least_single(dtype: torch.dtype) -> torch.dtype:
    """Replace half precision by float32: it cannot represent sums over frames and, in bf16, frame counts above 256."""
    return torch.promote_types(dtype, torch.float32)


def fit_frames(features: Tensor, lengths: Tensor, wanted: Tensor) -> Tensor:
    """Adjust features (..., B, T, D) with `lengths` (B,) valid frames to `wanted` (B,) frames: (..., B, max(wanted), D).

    If about n times as many frames are wanted, every frame is repeated n times; then an utterance is truncated, or padded with its last
    frame. Source: SD of the SUPERB recipe.
    """
    lengths, wanted = lengths.to(features.device), wanted.to(features.device)
    times = (wanted / lengths).round().clamp(min=1).long()
    frame = torch.arange(int(wanted.max()), device=features.device)
    source = torch.minimum(frame[None, :] // times[:, None], lengths[:, None] - 1)
    return features[..., torch.arange(len(lengths), device=features.device)[:, None], source, :]
