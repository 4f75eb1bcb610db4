"""Heads of the SUPERB tasks: the only trainable modules of an evaluation, and what stage 1 puts on top of an encoder."""

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
"""Width of the projection below every linear head (SUPERB recipe)."""


class PooledHead(Head):
    """A head whose logits depend on the frames through their mean only, so that it can be trained on cached means."""

    @abstractmethod
    def from_means(self, means: Tensor) -> Tensor:
        """Logits (B, C) of mean features (B, D); equal to `forward` on the frames that were averaged."""


class UtteranceHead(PooledHead):
    """Linear, mean over valid frames, linear: KS, SID and ER of the SUPERB recipe.

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


class SlotHead(UtteranceHead):
    """The same with one group of outputs for each slot: IC of the SUPERB recipe.

    Logits are (B, slots, V) with V the most values that a slot has; the places past the values of a slot hold -inf, so that they have no
    influence on its softmax.
    """

    def __init__(self, feature_dim: int, values_per_slot: Sequence[int], projected: int = PROJECTED) -> None:
        super().__init__(feature_dim, sum(values_per_slot), projected)
        self.values_per_slot = list(values_per_slot)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, slots, V) and ones (B,) of features (B, T, D) with `lengths` (B,) valid frames."""
        logits, ones = super().forward(features, lengths)
        return self._by_slot(logits), ones

    def from_means(self, means: Tensor) -> Tensor:
        """Logits (B, slots, V) of mean features (B, D)."""
        return self._by_slot(super().from_means(means))

    def _by_slot(self, logits: Tensor) -> Tensor:
        most = max(self.values_per_slot)
        parts = torch.split(logits, self.values_per_slot, dim=-1)
        return torch.stack([F.pad(part, (0, most - part.shape[-1]), value=float("-inf")) for part in parts], dim=-2)


class FrameHead(Head):
    """Linear, linear on every frame, without activation: PR of the SUPERB recipe, and PC.

    Both layers are trained, but frames meet their product, which is one matrix and several times smaller than the two.
    """

    def __init__(self, feature_dim: int, num_symbols: int, projected: int = PROJECTED) -> None:
        super().__init__()
        self.projector = nn.Linear(feature_dim, projected)
        self.classifier = nn.Linear(projected, num_symbols)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, T, C) of features (B, T, D); the lengths stay."""
        weight = self.classifier.weight @ self.projector.weight
        bias = torch.addmv(self.classifier.bias, self.classifier.weight, self.projector.bias)
        return F.linear(features, weight, bias), lengths


class RecurrentHead(Head):
    """Linear, bidirectional LSTMs over the valid frames, linear: ASR and SF of the SUPERB recipe.

    Each LSTM is followed by dropout. In training mode features are augmented first (`SpecAugment`). What padded frames hold has no effect
    on valid ones. Weights and states stay in float32 under autocast.

    Args:
        hidden: units in each direction of each LSTM.
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
        """Logits (B, T, C) of features (B, T, D) with `lengths` (B,) valid frames; the lengths stay."""
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
    """Outputs (B, T, 2 hidden) of one bidirectional LSTM for features (B, T, D) with `lengths` (B,) valid frames.

    On valid frames these are the outputs of packed sequences; what padded frames hold is of no meaning. On the CPU, where torch takes
    packed sequences apart frame by frame, whole batches run twice or three times as fast: padding at the end cannot reach the valid
    frames of the forward direction, and the other one runs forwards over utterances that are turned round by themselves.
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
    """One LSTM forward in time, then linear: SD of the SUPERB recipe. A frame's logits depend on the frames up to it."""

    def __init__(self, feature_dim: int, num_speakers: int, hidden: int = 512) -> None:
        super().__init__()
        self.rnn = nn.LSTM(feature_dim, hidden, batch_first=True)
        self.classifier = nn.Linear(hidden, num_speakers)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, T, speakers) of features (B, T, D); the lengths stay."""
        with torch.autocast(features.device.type, enabled=False):
            states, _ = self.rnn(features.to(self.classifier.weight.dtype))
            return self.classifier(states), lengths


def frame_mask(lengths: Tensor, num_frames: int) -> Tensor:
    """Boolean (B, num_frames), true on the first `lengths` (B,) frames."""
    return torch.arange(num_frames, device=lengths.device)[None, :] < lengths[:, None]


def masked_mean(features: Tensor, lengths: Tensor) -> Tensor:
    """Mean over the valid frames: (..., B, T, D) with lengths (B,) to (..., B, D). What padded frames hold has no effect."""
    valid = frame_mask(lengths, features.shape[-2])[..., None]
    wide = at_least_single(features.dtype)
    return features.masked_fill(~valid, 0.0).sum(dim=-2, dtype=wide) / lengths[:, None].to(wide)


def at_least_single(dtype: torch.dtype) -> torch.dtype:
    """Float32 in place of half precision, which holds neither sums over frames nor, in bf16, numbers of frames above 256."""
    return torch.promote_types(dtype, torch.float32)


def fit_frames(features: Tensor, lengths: Tensor, wanted: Tensor) -> Tensor:
    """Bring features (..., B, T, D) with `lengths` (B,) valid frames to `wanted` (B,) frames: (..., B, max(wanted), D).

    Where about n times as many are wanted, every frame is repeated n times; then an utterance is cut, or continued by its last frame.
    Source: SD of the SUPERB recipe.
    """
    lengths, wanted = lengths.to(features.device), wanted.to(features.device)
    times = (wanted / lengths).round().clamp(min=1).long()
    frame = torch.arange(int(wanted.max()), device=features.device)
    source = torch.minimum(frame[None, :] // times[:, None], lengths[:, None] - 1)
    return features[..., torch.arange(len(lengths), device=features.device)[:, None], source, :]
