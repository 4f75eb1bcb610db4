"""Convert recordings of any kind to pieces of speech: mono, 16 kHz, at one level."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]

RATE = 16_000
LEVEL_DB = -26.0  # active speech level (ITU-T P.56), re full scale
PEAK = 0.97
FRAME = RATE // 50
MARGIN_DB = 35.0  # frames this much weaker than the strong ones are pauses
SILENT_DB = -60.0
PAUSE = 5  # frames kept before and after speech
SHORTEST, LONGEST = 0.5, 12.0  # seconds of a piece


@dataclass(frozen=True)
class Piece:
    """Speech of 0.5 to 12 s at LEVEL_DB (less if its peaks do not allow that), and its original level in dB."""

    samples: Samples
    level_db: float


def decode(content: bytes, suffix: str) -> tuple[Samples, int]:
    """Decode an audio file to mono samples and their rate."""
    if suffix == ".g722":
        from G722 import G722  # type: ignore[import-not-found]  # only some packages need it

        samples = np.asarray(G722(RATE, 64_000).decode(content), dtype=np.int16)
        return samples.astype(np.float32) / 32768, RATE
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    return samples.mean(axis=1, dtype=np.float32), rate


def pieces(samples: Samples, rate: int) -> Iterator[Piece]:
    """Yield the speech of a recording at 16 kHz, without surrounding silence, cut at the longest pauses, and at a common level."""
    if not len(samples):
        return
    if rate != RATE:
        samples = soxr.resample(samples, rate, RATE, quality="HQ")
    samples = (samples - samples.mean()).astype(np.float32)
    for piece in _cut(samples):
        level = active_level(piece)
        if len(piece) < SHORTEST * RATE or level < SILENT_DB:
            continue
        gain = 10 ** ((LEVEL_DB - level) / 20)
        yield Piece(np.float32(min(gain, PEAK / np.abs(piece).max())) * piece, level)


def active_level(samples: Samples) -> float:
    """Return the root mean square over frames with speech, in dB re full scale."""
    energies = _energies(samples)
    active = energies[_active(energies)]
    return float(10 * np.log10(active.mean() + 1e-12)) if len(active) else -120.0


def _energies(samples: Samples) -> Samples:
    whole = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    return np.square(whole).mean(axis=1)


def _active(energies: Samples) -> NDArray[np.bool_]:
    if not len(energies):
        return np.zeros(0, dtype=bool)
    return energies > max(np.quantile(energies, 0.95) * 10 ** (-MARGIN_DB / 10), 10 ** (SILENT_DB / 10))


def _cut(samples: Samples) -> Iterator[Samples]:
    """Remove silence at both ends, and divide recursively while longer than LONGEST."""
    energies = _energies(samples)
    speech = np.flatnonzero(_active(energies))
    if not len(speech):
        return
    first, last = max(0, speech[0] - PAUSE), min(len(energies), speech[-1] + 1 + PAUSE)
    if last - first <= LONGEST * 50:
        yield samples[first * FRAME : last * FRAME]
        return
    # The quietest 0.2 s of the middle half.
    inner = energies[first:last]
    smooth = np.convolve(inner, np.ones(10), mode="same")
    quarter = len(inner) // 4
    middle = first + quarter + int(smooth[quarter:-quarter].argmin())
    yield from _cut(samples[: middle * FRAME])
    yield from _cut(samples[middle * FRAME :])
