"""Random augmentation of pre-training audio at every access; targets come from the unchanged recordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from speechft.conventions import SAMPLE_RATE
from speechft.recipes.pretraining import Augmentation

KNOTS_HZ = np.array([50.0, 250.0, 1000.0, 2500.0, 5000.0, 8000.0])
"""Frequencies at which the random response is drawn; between them it is linear in dB over log frequency."""
DECAY_SECONDS = (0.1, 0.5)
"""Range of the reverberation time (60 dB decay)."""
REVERBERATION_DB = (5.0, 20.0)
"""Range of the level of the direct sound relative to the reverberation."""


def augment(waveforms: Sequence[Tensor], conditions: Augmentation, rng: np.random.Generator) -> list[Tensor]:
    """Return augmented waveforms (N_i,) of the same lengths and levels as `waveforms`, which are not changed.

    Applies a random frequency response, reverberation and stationary noise, as from other rooms and microphones, and, as in WavLM (Chen et
    al., 2022), adds a part of another utterance of the batch to at most half of the utterance.
    """
    plain = [waveform.numpy().astype(np.float64) for waveform in waveforms]
    changed = [_record(samples, conditions, rng) if rng.random() < conditions.prob else samples for samples in plain]
    mixed = [
        _mix(own, changed[(index + rng.integers(1, len(changed))) % len(changed)], conditions.mix_db, rng)  # a different utterance
        if len(changed) > 1 and rng.random() < conditions.mix_prob
        else own
        for index, own in enumerate(changed)
    ]
    return [
        torch.from_numpy(samples * (_rms(before) / max(_rms(samples), 1e-12))).to(waveform.dtype)
        for waveform, before, samples in zip(waveforms, plain, mixed, strict=True)
    ]


def _record(samples: np.ndarray, conditions: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Simulate another microphone, room and noise for `samples` (N,)."""
    length = len(samples)
    # Padding prevents the tail of the reverberation from wrapping around to the beginning.
    size = length + round(DECAY_SECONDS[1] * SAMPLE_RATE)
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    spectrum = np.fft.rfft(samples, size)
    gains_db = rng.uniform(-conditions.response_db, conditions.response_db, len(KNOTS_HZ))
    spectrum *= 10 ** (np.interp(np.log(np.maximum(frequencies, KNOTS_HZ[0])), np.log(KNOTS_HZ), gains_db) / 20)
    if conditions.reverberate:
        spectrum *= np.fft.rfft(_room(rng), size)
    recorded = np.fft.irfft(spectrum, size)[:length]
    # Noise whose spectrum falls by 0 to 6 dB per octave.
    white = rng.standard_normal(len(frequencies)) + 1j * rng.standard_normal(len(frequencies))
    noise = np.fft.irfft(white * np.maximum(frequencies, 60.0) ** -rng.uniform(0.0, 1.0), size)[:length]
    gain = _rms(recorded) / max(_rms(noise), 1e-12) * 10 ** (-rng.uniform(*conditions.snr_db) / 20)
    return np.asarray(recorded + gain * noise)


def _room(rng: np.random.Generator) -> np.ndarray:
    """Draw an impulse response (N,) at 16 kHz: direct sound, then decaying noise."""
    decay = rng.uniform(*DECAY_SECONDS)
    times = np.arange(round(decay * SAMPLE_RATE)) / SAMPLE_RATE
    response = rng.standard_normal(len(times)) * 10 ** (-3 * times / decay)
    response *= 10 ** (-rng.uniform(*REVERBERATION_DB) / 20) / np.linalg.norm(response)
    response[0] = 1.0
    return np.asarray(response)


def _mix(own: np.ndarray, other: np.ndarray, mix_db: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Add a part of `other` to `own` at a random position, `mix_db` louder than `own`."""
    size = min(int(len(own) * rng.uniform(0.0, 0.5)), len(other))
    at, start = rng.integers(len(own) - size + 1), rng.integers(len(other) - size + 1)
    piece = other[start : start + size]
    mixed: np.ndarray = own.copy()
    mixed[at : at + size] += piece * (_rms(own) / max(_rms(other), 1e-12) * 10 ** (rng.uniform(*mix_db) / 20))
    return mixed


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
