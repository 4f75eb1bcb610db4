"""Interface between stage 3 and encoders, for encoder directories and users' models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class EncoderOutput:
    """Hidden states, each (B, T, D), for the input of every transformer layer and the encoder output, and valid frames, int64 (B,)."""

    hidden_states: tuple[Tensor, ...]
    lengths: Tensor


class FeatureEncoder(nn.Module, ABC):
    """Encoder from waveforms to hidden states that do not depend on the other waveforms in the list."""

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
        """Length of the shortest waveform that can be encoded, in samples."""

    @abstractmethod
    def frame_count(self, num_samples: int) -> int:
        """Return the number of frames of a waveform of `num_samples`."""

    @abstractmethod
    def encode(self, waveforms: Sequence[Tensor]) -> EncoderOutput:
        """Compute hidden states of a list of 1-D floating-point waveforms at 16 kHz, of any lengths."""
