"""Frontends, from waveforms to the transformer's input: convolutions (HuBERT and relatives) or filterbanks (DeCoAR 2.0, FBANK, Whisper)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from speechft.encoders.filterbank import SHIFT, WINDOW, decoar2_features, log_mel, povey_window, whisper_log_mel


class ConvolutionalFrontend:
    """The strided convolutions of a HubertModel, Wav2Vec2Model or WavLMModel.

    `frame_shift`: samples between frames. `min_samples`: length of the shortest waveform that can be encoded.
    """

    def __init__(self, backbone: nn.Module) -> None:
        model: Any = backbone
        self._convolutions = model.feature_extractor.conv_layers
        self._config = model.config
        self.frame_shift = prod(self._config.conv_stride)
        self.min_samples = 1
        for kernel, stride in zip(reversed(self._config.conv_kernel), reversed(self._config.conv_stride), strict=True):
            self.min_samples = (self.min_samples - 1) * stride + kernel

    def frame_counts(self, samples: Tensor) -> Tensor:
        """Return the frames of waveforms of `samples` (any shape, int64): the length after all convolutions, none of which pads."""
        for kernel, stride in zip(self._config.conv_kernel, self._config.conv_stride, strict=True):
            samples = torch.div(samples - kernel, stride, rounding_mode="floor") + 1
        return samples

    def features(self, waveforms: Sequence[Tensor], *, alone: bool) -> Tensor:
        """Compute features (B, T, C) of the zero-padded batch; with `alone`, each waveform is independent of the others.

        With `alone`, the GroupNorm of the first layer uses statistics of each waveform's own frames, otherwise of the padded waveform, as
        s3prl does. All other layers are local, and convolutions without padding never reach from a valid frame into the zeros after it.
        """
        features = pad_sequence(list(waveforms), batch_first=True)[:, None]
        first, *others = self._convolutions
        if alone and isinstance(getattr(first, "layer_norm", None), nn.GroupNorm):
            kernel, stride = self._config.conv_kernel[0], self._config.conv_stride[0]
            lengths = [(len(waveform) - kernel) // stride + 1 for waveform in waveforms]
            features = first.activation(_own_frames_group_norm(first.layer_norm, first.conv(features), lengths))
        else:
            features = first(features)
        for layer in others:
            features = layer(features)
        return cast(Tensor, features.transpose(1, 2))

    def reference_valid(self, samples: Tensor, frames: int) -> Tensor:
        """Return the valid frames, bool (B, frames), of a batch in s3prl 0.4.18.

        HuBERT and WavLM truncate the padding mask over samples to a multiple of `frames` and divide it into `frames` chunks; a frame is
        padding if its whole chunk is, which keeps about one frame more than the convolutions give. wav2vec 2.0 uses the length after them.
        """
        if self._config.model_type == "wav2vec2":
            return torch.arange(frames)[None, :] < self.frame_counts(samples)[:, None]
        chunk = int(samples.max()) // frames
        return torch.arange(frames)[None, :] * chunk < samples[:, None]


def _own_frames_group_norm(norm: nn.GroupNorm, features: Tensor, lengths: Sequence[int]) -> Tensor:
    """Apply GroupNorm to features (B, C, T) over the first `lengths` frames of each; later frames become zero."""
    frames = features.shape[2]
    if all(length == frames for length in lengths):
        return cast(Tensor, norm(features))
    rows = []
    for row, length in zip(features, lengths, strict=True):
        own = F.group_norm(row[None, :, :length], norm.num_groups, norm.weight, norm.bias, norm.eps)
        rows.append(F.pad(own, (0, frames - length)))
    return torch.cat(rows)


class FilterbankFrontend:
    """Log-mel filterbanks at 50 Hz, of DeCoAR 2.0 or FBANK, normalized over each utterance and thus independent of the batch."""

    frame_shift = 2 * SHIFT

    def __init__(self, backbone: nn.Module) -> None:
        model: Any = backbone
        if model.config.model_type == "fbank":
            self._one, self.min_samples = model.features, WINDOW
        else:
            self._one = partial(decoar2_features, bins=int(model.config.num_mel_bins))
            self.min_samples = WINDOW + SHIFT  # the deviation over time needs two frames

    def frame_counts(self, samples: Tensor) -> Tensor:
        """Return the number of frames: every second of the 25 ms frames every 10 ms, as many as the published convolutions give."""
        frames = torch.div(samples - WINDOW, SHIFT, rounding_mode="floor") + 1
        return torch.div(frames + 1, 2, rounding_mode="floor")

    def features(self, waveforms: Sequence[Tensor], *, alone: bool) -> Tensor:  # noqa: ARG002 - both modes are the same
        """Compute zero-padded features (B, T, C); they never depend on the batch."""
        return pad_sequence([self._one(waveform) for waveform in waveforms], batch_first=True)

    def reference_valid(self, samples: Tensor, frames: int) -> Tensor:
        """Return the valid frames, bool (B, frames): the utterance's own."""
        return torch.arange(frames)[None, :] < self.frame_counts(samples)[:, None]


class StackedFilterbankFrontend:
    """Log-mel energies of w2v-BERT 2.0, with two 10 ms frames stacked, as computed by SeamlessM4TFeatureExtractor."""

    frame_shift = 2 * SHIFT
    min_samples = WINDOW + SHIFT

    def __init__(self, backbone: nn.Module) -> None:
        model: Any = backbone
        self._bins = int(model.config.feature_projection_input_dim) // 2

    def frame_counts(self, samples: Tensor) -> Tensor:
        """Return the number of frame pairs that fit into the waveform; the extractor masks half a pair at the end."""
        return torch.div(torch.div(samples - WINDOW, SHIFT, rounding_mode="floor") + 1, 2, rounding_mode="floor")

    def features(self, waveforms: Sequence[Tensor], *, alone: bool) -> Tensor:  # noqa: ARG002 - see `Encoder.encode`
        """Compute zero-padded features (B, T, 2 * bins); each bin has zero mean and unit (unbiased) variance over the utterance."""
        rows = []
        for waveform in waveforms:
            # In float64, as in the extractor, so that the residue of a DC offset is small compared with the quietest bins.
            energies = log_mel(waveform.double() * 2**15, self._bins, povey_window().to(waveform.device))
            normalized = (energies - energies.mean(dim=0)) / (energies.var(dim=0) + 1e-7).sqrt()
            rows.append(normalized[: len(normalized) // 2 * 2].reshape(-1, 2 * self._bins).float())
        return pad_sequence(rows, batch_first=True)


MOST_WINDOWS = 8
"""Most Whisper windows in a batch, unless a single recording has more."""


class WhisperFrontend:
    """Whisper's frontend: log-mel energies of 30 s windows, two convolutions and positions.

    A longer waveform is cut into windows that are encoded independently; a shorter one is padded with silence, which Whisper attends to.
    """

    frame_shift = 2 * SHIFT
    min_samples = WINDOW

    def __init__(self, backbone: nn.Module) -> None:
        model: Any = backbone
        self._encoder = model.encoder
        self._bins, self._frames = int(model.config.num_mel_bins), int(model.config.max_source_positions)

    def frame_counts(self, samples: Tensor) -> Tensor:
        """Return the number of frames that begin inside the waveform."""
        return torch.div(samples + self.frame_shift - 1, self.frame_shift, rounding_mode="floor")

    def features(self, waveforms: Sequence[Tensor], *, alone: bool) -> Tensor:  # noqa: ARG002 - see `Encoder.encode`
        """Compute features (windows of all waveforms, frames per window, D)."""
        length = self._frames * self.frame_shift
        windows = [window for waveform in waveforms for window in torch.split(waveform, length)]
        energies = whisper_log_mel(torch.stack([F.pad(window, (0, length - len(window))) for window in windows]), self._bins)
        hidden = F.gelu(self._encoder.conv2(F.gelu(self._encoder.conv1(energies)))).transpose(1, 2)
        return cast(Tensor, hidden + self._encoder.embed_positions.weight.detach())  # sinusoids, not trained

    def groups(self, samples: Sequence[int]) -> list[list[int]]:
        """Group the indices of waveforms into batches of at most `MOST_WINDOWS` windows, of any lengths."""
        groups: list[list[int]] = []
        filled = MOST_WINDOWS
        for index, windows in enumerate(-(-length // (self._frames * self.frame_shift)) for length in samples):
            if filled + windows > MOST_WINDOWS:
                groups.append([])
                filled = 0
            groups[-1].append(index)
            filled += windows
        return groups

    def join(self, states: tuple[Tensor, ...], lengths: Sequence[int]) -> tuple[Tensor, ...]:
        """Join hidden states of windows (windows, T, D) into those of waveforms (B, max(lengths), D), zero past their lengths."""
        counts = [-(-length // self._frames) for length in lengths]
        return tuple(
            pad_sequence(
                [own.flatten(0, 1)[:length] for own, length in zip(torch.split(state, counts), lengths, strict=True)], batch_first=True
            )
            for state in states
        )


Frontend = ConvolutionalFrontend | FilterbankFrontend | StackedFilterbankFrontend | WhisperFrontend
_FRONTENDS = {
    "wav2vec2-bert": StackedFilterbankFrontend,
    "whisper": WhisperFrontend,
    "decoar2": FilterbankFrontend,
    "fbank": FilterbankFrontend,
}


def frontend_of(backbone: nn.Module) -> Frontend:
    """Return the frontend for a backbone."""
    model: Any = backbone
    return cast(Frontend, _FRONTENDS.get(model.config.model_type, ConvolutionalFrontend)(backbone))
