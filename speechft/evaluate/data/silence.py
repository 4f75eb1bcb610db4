"""Lengths of recordings without silence. Measuring reads every recording, so lengths are cached in the work folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from speechft.corpora import load_audio, num_samples_16k
from speechft.errors import AudioError
from speechft.evaluate.data.clips import Clip
from speechft.evaluate.data.features import read_tensor, write_tensor
from speechft.files.hashes import sha256_json
from speechft.tasks.asv import LEVEL_SAMPLES, SILENCE_LEVEL, SILENCE_SAMPLES, without_silence

logger = logging.getLogger(__name__)

WORKERS = 4
LENGTHS_VERSION = 1
"""Increment when the computed lengths change; part of the file name."""


@dataclass(frozen=True)
class VoicedClip(Clip):
    """A part of a cut after removal of silence, which left `voiced_samples` of the cut."""

    gain: float
    voiced_samples: int

    def load(self) -> Tensor:
        """Load the waveform (num_samples,), before the gain; raise AudioError if the recording has changed since it was measured."""
        voiced = without_silence(load_audio(self.cut), self.gain)
        if len(voiced) != self.voiced_samples:
            raise AudioError(
                f"{self.cut.recording.sources[0].source}: has {len(voiced)} samples without silence, but {self.voiced_samples} were "
                f"measured (cut {self.cut.id}). The file has changed; prepare the corpus again, in a new folder."
            )
        return voiced[self.start : self.start + self.num_samples]


class Silence:
    """Removes silence from cuts, using lengths cached in `work` or measuring them."""

    def __init__(self, gain: float, work: Path | None) -> None:
        self.gain, self.work = gain, work

    def clips(self, cuts: Sequence[Any], sha256: str, name: str) -> tuple[VoicedClip, ...]:
        """Return every cut without silence; `sha256` is the hash of their manifest, `name` labels the progress bar."""
        if not cuts:
            return ()
        parts = [LENGTHS_VERSION, SILENCE_LEVEL, SILENCE_SAMPLES, LEVEL_SAMPLES, self.gain, sha256]
        path = self.work and self.work / f"silence-{sha256_json(parts)[:24]}.safetensors"
        kept = read_tensor(path, "samples") if path else None
        lengths: list[int] = [] if kept is None else kept.tolist()
        if len(lengths) != len(cuts) or not all(0 <= n <= num_samples_16k(cut) for n, cut in zip(lengths, cuts, strict=True)):
            if kept is not None:
                logger.warning("%s: lengths do not fit the corpus; measuring again", path)
            lengths = self._measure(cuts, name)
            if path:
                write_tensor(path, "samples", torch.tensor(lengths, dtype=torch.int64))
        return tuple(VoicedClip(cut, 0, length, self.gain, length) for cut, length in zip(cuts, lengths, strict=True))

    def _measure(self, cuts: Sequence[Any], name: str) -> list[int]:
        with ThreadPoolExecutor(WORKERS) as pool:
            measured = pool.map(lambda cut: len(without_silence(load_audio(cut), self.gain)), cuts)
            return list(tqdm(measured, total=len(cuts), desc=f"silence in {name}", unit="file", disable=None))
