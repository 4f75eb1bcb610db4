"""Effects that vary synthetic speech: voice size, microphone response, room, noise and level. All work on 16 kHz float arrays (N,)."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.signal import fftconvolve

RATE = 16_000
Samples = NDArray[np.float64]


def voiced_extent(samples: Samples, threshold: float = 0.02) -> tuple[int, int]:
    """Return the first sample above `threshold` times the peak of clean speech, and the one after the last."""
    loud = np.flatnonzero(np.abs(samples) > threshold * np.abs(samples).max())
    return int(loud[0]), int(loud[-1]) + 1


def warp(samples: Samples, factor: float) -> Samples:
    """Play `factor` times as fast: pitch and formants rise together, as from a shorter vocal tract."""
    return soxr.resample(samples, RATE * factor, RATE, quality="HQ")


def color(samples: Samples, rng: np.random.Generator, depth_db: float = 9.0) -> Samples:
    """Apply a random smooth frequency response of +-`depth_db`."""
    spectrum = np.fft.rfft(samples)
    frequencies = np.fft.rfftfreq(len(samples), 1 / RATE)
    knots = np.array([50.0, 250.0, 1000.0, 2500.0, 5000.0, 8000.0])
    gains_db = np.interp(np.log(np.maximum(frequencies, knots[0])), np.log(knots), rng.uniform(-depth_db, depth_db, len(knots)))
    return np.fft.irfft(spectrum * 10 ** (gains_db / 20), len(samples))


def room(samples: Samples, rng: np.random.Generator) -> Samples:
    """Add reverberation: decaying noise (60 dB in 0.1 to 0.4 s), 6 to 16 dB below the direct sound."""
    decay = rng.uniform(0.1, 0.4)
    times = np.arange(round(decay * RATE)) / RATE
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / decay)
    tail *= 10 ** (-rng.uniform(6, 16) / 20) / np.linalg.norm(tail)
    tail[0] = 1.0
    return fftconvolve(samples, tail)[: len(samples)]


def hiss(length: int, rng: np.random.Generator) -> Samples:
    """Generate stationary noise whose spectrum falls by 0 to 6 dB per octave, with an RMS of 1."""
    white = np.fft.rfft(rng.standard_normal(length))
    shape = np.maximum(np.fft.rfftfreq(length, 1 / RATE), 60.0) ** -rng.uniform(0.0, 1.0)
    samples = np.fft.irfft(white * shape, length)
    return samples / _rms(samples)


def noise(samples: Samples, rng: np.random.Generator, snr_db: tuple[float, float]) -> Samples:
    """Add noise at a random signal-to-noise ratio within `snr_db`."""
    return samples + hiss(len(samples), rng) * _rms(samples) * 10 ** (-rng.uniform(*snr_db) / 20)


def level(samples: Samples, rng: np.random.Generator, target_db: float = -24.0, spread_db: float = 3.0, peak: float = 0.8) -> Samples:
    """Normalize to an RMS of `target_db` +-`spread_db` re full scale, below `peak` so that the lossy codec cannot clip."""
    samples = samples * (10 ** ((target_db + rng.uniform(-spread_db, spread_db)) / 20) / _rms(samples))
    return samples * min(1.0, peak / np.abs(samples).max())


def _rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(samples**2)))
