"""Speaking styles, derived from neutral speech by changing pitch, rate, spectral tilt and voicing with the WORLD vocoder.

The ranges of the styles overlap, so that no single measure separates them. All styles pass through the vocoder, so that its artifacts are
not informative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyworld
from effects import RATE, Samples

FRAME_MS = 5.0
Range = tuple[float, float]


@dataclass(frozen=True)
class Style:
    """Ranges from which the values of a recording are drawn."""

    pitch: Range  # factor of the mean
    span: Range  # factor of the excursions of log pitch around its mean
    duration: Range  # factor of the length
    tilt_db: Range  # an octave above 500 Hz
    breath: Range  # share of the voiced sound that becomes noise; 1 is a whisper


STYLES = {
    "neutral": Style((0.92, 1.10), (0.8, 1.2), (0.90, 1.10), (-1.0, 1.0), (0.0, 0.2)),
    "excited": Style((1.04, 1.35), (1.0, 1.8), (0.78, 1.00), (0.0, 2.5), (0.0, 0.15)),
    "calm": Style((0.80, 1.00), (0.4, 0.9), (1.00, 1.30), (-2.5, 0.0), (0.0, 0.4)),
    "whispered": Style((0.85, 1.10), (0.4, 1.1), (0.92, 1.25), (0.0, 3.0), (0.75, 1.0)),
}


def restyle(samples: Samples, name: str, rng: np.random.Generator) -> tuple[Samples, float]:
    """Convert `samples` to a style; return them and the factor by which they became longer."""
    style = STYLES[name]
    pitch, span, duration, tilt_db, breath = (
        float(rng.uniform(*values)) for values in (style.pitch, style.span, style.duration, style.tilt_db, style.breath)
    )
    samples = np.ascontiguousarray(samples, dtype=np.float64)
    coarse, times = pyworld.dio(samples, RATE, f0_floor=60.0, f0_ceil=450.0, frame_period=FRAME_MS)
    f0 = pyworld.stonemask(samples, coarse, times, RATE)
    envelope = pyworld.cheaptrick(samples, f0, times, RATE)
    aperiodicity = pyworld.d4c(samples, f0, times, RATE)

    voiced = f0 > 0
    if voiced.any():
        mean = np.log(f0[voiced]).mean()
        f0[voiced] = np.clip(pitch * np.exp(mean + span * (np.log(f0[voiced]) - mean)), 55.0, 600.0)
    frequencies = np.linspace(0.0, RATE / 2, envelope.shape[1])
    envelope = envelope * 10 ** (tilt_db * np.log2(np.maximum(frequencies, 500.0) / 500.0) / 10)
    # Breath replaces the voiced sound from high frequencies down, as in a breathy voice.
    edge = (1.0 - breath) * RATE / 2
    mixed = aperiodicity + (1.0 - aperiodicity) * np.clip((frequencies - edge) / 1000.0 + breath, 0.0, 1.0) * breath
    position = np.arange(round(len(f0) * duration)) / duration
    index = np.minimum(np.round(position).astype(int), len(f0) - 1)
    chosen = (np.ascontiguousarray(values[index]) for values in (f0, envelope, np.clip(mixed, 0.0, 1.0)))
    return pyworld.synthesize(*chosen, RATE, FRAME_MS), duration
