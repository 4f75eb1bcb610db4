"""Log-mel filterbanks in pure torch: Kaldi's, for DeCoAR 2.0, w2v-BERT 2.0 and the FBANK baseline of SUPERB, and Whisper's."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from speechft.conventions import SAMPLE_RATE

WINDOW = 400
"""Samples per frame, 25 ms."""
SHIFT = 160
"""Samples between frames, 10 ms."""
_FFT = 512
_PREEMPHASIS = 0.97
_LOW_HZ = 20.0
_NORMALIZATION_EPS = 1e-10


def log_mel(waveform: Tensor, bins: int = 80, window: Tensor | None = None) -> Tensor:
    """Compute log-mel energies (T, bins) of a waveform (N,) as Kaldi's fbank does, without dither.

    Frames of 25 ms every 10 ms that fit into the waveform, mean removed, pre-emphasis 0.97, `window` (400,) or a Hamming window, power
    spectrum of 512 points, triangular mel filters from 20 Hz to 8 kHz, logarithm with floor at float32's epsilon. The waveform is in
    [-1, 1] (s3prl 0.4.18), not in Kaldi's 16-bit range.
    """
    if window is None:
        window = torch.hamming_window(WINDOW, periodic=False, device=waveform.device)
    frames = waveform.unfold(0, WINDOW, SHIFT)
    frames = frames - frames.mean(dim=1, keepdim=True)
    previous = F.pad(frames[:, None], (1, 0), mode="replicate")[:, 0, :-1]
    frames = (frames - _PREEMPHASIS * previous) * window
    power = torch.fft.rfft(frames, n=_FFT).abs() ** 2
    # Autocast would round the spectrum to eight bits before the logarithm.
    with torch.autocast(waveform.device.type, enabled=False):
        energies = power @ _mel_filters(bins).to(power)
    return torch.clamp(energies, min=torch.finfo(torch.float32).eps).log()


def decoar2_features(waveform: Tensor, bins: int = 80) -> Tensor:
    """Compute DeCoAR 2.0's input (T, bins) at 50 Hz: every second frame of normalized log-mel energies.

    Each bin has zero mean and unit (unbiased) deviation over the utterance.
    """
    energies = log_mel(waveform, bins)
    normalized = (energies - energies.mean(dim=0)) / (energies.std(dim=0) + _NORMALIZATION_EPS)
    return normalized[::2]


def whisper_log_mel(waveforms: Tensor, bins: int = 80) -> Tensor:
    """Compute log-mel energies (B, bins, N // 160) of waveforms (B, N) of one window, as transformers' WhisperFeatureExtractor does.

    Centered frames of 25 ms every 10 ms, Hann window, Slaney's mel filters, clipped at 80 dB below the maximum of the window.
    """
    window = torch.hann_window(WINDOW, device=waveforms.device)
    power = torch.stft(waveforms, WINDOW, SHIFT, window=window, return_complex=True)[..., :-1].abs() ** 2
    with torch.autocast(waveforms.device.type, enabled=False):
        energies = _slaney_filters(bins).to(waveforms.device) @ power
    logarithms = energies.clamp(min=1e-10).log10()
    return (torch.maximum(logarithms, logarithms.amax(dim=(1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


def povey_window() -> Tensor:
    """Return Kaldi's default window (400,): a Hann window to the power of 0.85."""
    return torch.hann_window(WINDOW, periodic=False).pow(0.85)


def fbank_features(waveform: Tensor, window: Tensor, bins: int = 80, orders: int = 2, *, normalize: bool = True) -> Tensor:
    """Compute the FBANK baseline (T, bins * (1 + orders)) at 50 Hz: log-mel energies and their time derivatives up to `orders`.

    Energies and derivatives are those of s3prl 0.4.18's `fbank` at 100 Hz; every second frame is kept, to match the frame rate of the other
    encoders. With `normalize`, each value has zero mean and unit (unbiased) deviation over the kept frames of the utterance (in s3prl over
    all frames); a single frame becomes zero.
    """
    derivatives = [log_mel(waveform, bins, window)]
    for _ in range(orders):
        derivatives.append(time_derivative(derivatives[-1]))
    features = torch.cat(derivatives, dim=1)[::2]
    if not normalize:
        return features
    # In float64, so that for constant features (digital silence) rounding errors are small compared with the epsilon.
    centered = features.double() - features.double().mean(dim=0)
    deviation = (centered.square().sum(dim=0) / max(len(centered) - 1, 1)).sqrt()
    return (centered / (deviation + _NORMALIZATION_EPS)).float()


def time_derivative(features: Tensor) -> Tensor:
    """Return the slope of the regression line through five frames around each frame of (T, D); the ends are padded by repetition."""
    padded = F.pad(features.T[None], (2, 2), mode="replicate")[0].T
    return (2 * (padded[4:] - padded[:-4]) + (padded[3:-1] - padded[1:-3])) / 10


@lru_cache(maxsize=4)
def _mel_filters(bins: int) -> Tensor:
    """Build triangular filters (257, bins) with corners equally spaced in mel and slopes linear in mel, computed in float64."""
    low, high = _mel(torch.tensor(_LOW_HZ, dtype=torch.float64)), _mel(torch.tensor(SAMPLE_RATE / 2, dtype=torch.float64))
    corners = low + (high - low) / (bins + 1) * torch.arange(bins + 2)
    # Kaldi omits the Nyquist bin.
    frequencies = _mel(torch.arange(_FFT // 2, dtype=torch.float64) * (SAMPLE_RATE / _FFT))[:, None]
    rising = (frequencies - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequencies) / (corners[2:] - corners[1:-1])
    return F.pad(torch.minimum(rising, falling).clamp(min=0.0), (0, 0, 0, 1)).float()


@lru_cache(maxsize=4)
def _slaney_filters(bins: int) -> Tensor:
    """Build triangular filters (bins, 201) of equal area from 0 Hz to 8 kHz, on Slaney's mel scale."""
    from transformers.audio_utils import mel_filter_bank

    options = {"sampling_rate": SAMPLE_RATE, "norm": "slaney", "mel_scale": "slaney"}
    filters = mel_filter_bank(1 + WINDOW // 2, bins, min_frequency=0.0, max_frequency=SAMPLE_RATE / 2, **options)
    return torch.from_numpy(filters).float().T


def _mel(hertz: Tensor) -> Tensor:
    return 1127.0 * torch.log(1.0 + hertz / 700.0)
