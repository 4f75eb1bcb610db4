"""What stage 3 needs of an encoder, whether it is an encoder directory or a module of the user's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class EncoderOutput:
    """Hidden states, each (B, T, D): the input of every transformer layer, then the encoder output; and valid frames, int64 (B,)."""

    hidden_states: tuple[Tensor, ...]
    lengths: Tensor


class FeatureEncoder(nn.Module, ABC):
    """Waveforms to hidden states; an utterance has the features that it has alone, whatever else is in the list."""

    @property
    @abstractmethod
    def hidden_size(self) -> int:
        """Width D of the hidden states."""

    @property
    @abstractmethod
    def num_states(self) -> int:
        """Number of hidden states."""

    @property
    @abstractmethod
    def frame_shift(self) -> float:
        """Samples between frames."""

    @property
    @abstractmethod
    def min_samples(self) -> int:
        """Samples of the shortest waveform that can be encoded."""

    @abstractmethod
    def frame_count(self, num_samples: int) -> int:
        """Frames of a waveform of `num_samples` by itself."""

    @abstractmethod
    def encode(self, waveforms: Sequence[Tensor]) -> EncoderOutput:
        """Hidden states of a list of 1-D waveforms, floating point at 16 kHz, of any lengths."""
