"""Waveforms of cuts: one channel, 16 kHz, float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from speechft.conventions import SAMPLE_RATE
from speechft.corpora.audio_files import open_audio
from speechft.errors import AudioError

_AGAIN = "Prepare the corpus again to check every recording."


def num_samples_16k(cut: Any) -> int:
    """Return the exact length of `load_audio(cut)` without reading the audio."""
    return samples_after_resampling(cut.num_samples, cut.sampling_rate)


def samples_after_resampling(num_samples: int, sampling_rate: int) -> int:
    """Return the number of samples after resampling to 16 kHz from `sampling_rate` Hz; like soxr, round half up."""
    return (2 * num_samples * SAMPLE_RATE + sampling_rate) // (2 * sampling_rate)


def load_audio(cut: Any, start: int = 0, num_samples: int | None = None) -> Tensor:
    """Read the waveform of a lhotse `MonoCut`, or the part of `num_samples` that begins at sample `start`, both at 16 kHz.

    Returns:
        Float32 tensor (num_samples_16k(cut),) or (num_samples,): the cut's channel, resampled to 16 kHz by soxr (HQ) if the file has
        another rate. The samples of a part equal those of the whole.

    Raises:
        AudioError: the file is missing, cannot be decoded, differs from its manifest, or contains NaN or Inf.
    """
    path = Path(cut.recording.sources[0].source)
    end = num_samples_16k(cut) if num_samples is None else start + num_samples
    # The resampler needs context around a part, so the whole cut is read.
    resampled = cut.sampling_rate != SAMPLE_RATE
    samples = _read_channel(path, cut, 0, cut.num_samples) if resampled else _read_channel(path, cut, start, end - start)
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: contains NaN or Inf samples (cut {cut.id}). {_AGAIN}")
    if resampled:
        samples = soxr.resample(samples, cut.sampling_rate, SAMPLE_RATE, quality="HQ")[start:end]
    return torch.from_numpy(np.ascontiguousarray(samples))


def _read_channel(path: Path, cut: Any, start: int, num_samples: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    if not path.is_file():
        raise AudioError(f"{path}: no such file, needed as the audio of cut {cut.id}. Restore it, or prepare the corpus again.")
    first_frame = round(cut.start * cut.sampling_rate) + start
    try:
        with open_audio(path) as file:
            if file.samplerate != cut.sampling_rate or file.channels <= cut.channel:
                raise AudioError(
                    f"{path}: has {file.samplerate} Hz and {file.channels} channel(s), but its manifest says {cut.sampling_rate} Hz and "
                    f"channel {cut.channel}, from 0 (cut {cut.id}). The file has changed; prepare the corpus again."
                )
            if first_frame:
                file.seek(first_frame)
            frames = file.read(num_samples, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"{path}: cannot be decoded ({error}; cut {cut.id}). {_AGAIN}") from None
    if len(frames) != num_samples:
        raise AudioError(
            f"{path}: has {len(frames)} samples from sample {first_frame} on, but its manifest says {num_samples} (cut {cut.id}). {_AGAIN}"
        )
    return np.asarray(frames[:, cut.channel], np.float32)
