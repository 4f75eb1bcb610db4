"""SpecAugment on features: time warp, frequency masks and time masks of the SUPERB recipe (s3prl 0.4.18)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


class SpecAugment(nn.Module):
    """Augments features in training mode; the identity in evaluation mode. Defaults are those of ASR and SF.

    Every call creates its own generator, seeded by one number from torch's global generator: equal seeds give equal augmentation on every
    device, and the number of draws does not affect later draws.

    Args:
        time_warp: half width of the time warp's window, in frames. Utterances of at most twice as many frames are not warped.
        frequency_masks, frequency_width: number of masks over feature dimensions; widths are uniform in 0..frequency_width - 1.
        time_masks, time_width: number of masks over frames; widths are uniform in 0..time_width - 1.
    """

    def __init__(
        self, time_warp: int = 5, frequency_masks: int = 4, frequency_width: int = 50, time_masks: int = 2, time_width: int = 40
    ) -> None:
        super().__init__()
        self.time_warp = time_warp
        self.frequency_masks, self.frequency_width = frequency_masks, frequency_width
        self.time_masks, self.time_width = time_masks, time_width

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Augment features (B, T, D) with `lengths` (B,) valid frames in training mode; masked values are 0."""
        if not self.training:
            return features
        generator = Generator().manual_seed(int(torch.randint(2**62, ())))
        batch_size, num_frames, feature_dim = features.shape
        rows = zip(features, lengths.tolist(), strict=True)
        warped = torch.stack([self._warp(utterance, length, generator) for utterance, length in rows])
        over_features = random_masks(batch_size, feature_dim, self.frequency_masks, self.frequency_width, generator)
        over_frames = random_masks(batch_size, num_frames, self.time_masks, self.time_width, generator)
        masked = over_frames[:, :, None] | over_features[:, None, :]
        return warped.masked_fill(masked.to(features.device), 0.0)

    def _warp(self, utterance: Tensor, length: int, generator: Generator) -> Tensor:
        """Shift a random frame among the first `length` of (T, D) by up to the window, and resize both sides to fill the length."""
        if length <= 2 * self.time_warp:
            return utterance
        center = _uniform(self.time_warp, length - self.time_warp, generator)
        target = _uniform(center - self.time_warp + 1, center + self.time_warp + 1, generator)
        sides = (_resize(utterance[:center], target), _resize(utterance[center:length], length - target))
        return torch.cat([*sides, utterance[length:]])


def random_masks(batch_size: int, size: int, num_masks: int, max_width: int, generator: Generator) -> Tensor:
    """Draw random masks of each utterance and return their union: bool (batch_size, size), true if masked.

    Widths are uniform in 0..max_width - 1; starts are uniform from 0 to the last one at which the widest mask of the batch fits.
    """
    widths = torch.randint(max_width, (batch_size, num_masks), generator=generator)
    last_start = max(1, size - int(widths.max()))
    starts = torch.randint(last_start, (batch_size, num_masks), generator=generator)
    positions = torch.arange(size)
    inside = (positions >= starts[..., None]) & (positions < (starts + widths)[..., None])
    return inside.any(dim=1)


def _uniform(low: int, high: int, generator: Generator) -> int:
    """Draw an integer in low..high - 1."""
    return int(torch.randint(low, high, (), generator=generator))


def _resize(frames: Tensor, length: int) -> Tensor:
    """Interpolate (T, D) to (length, D) bicubically."""
    resized: Tensor = F.interpolate(frames[None, None], size=(length, frames.shape[1]), mode="bicubic", align_corners=False)
    return resized[0, 0]
