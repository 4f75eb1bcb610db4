"""Open recordings, so that every reader of a file gets the same samples."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from speechft.corpora.wav import wav_lengths

Samples = np.ndarray[Any, np.dtype[np.float64]]
"""A waveform, (samples,)."""
_BLOCK_FRAMES = 1 << 18


@contextmanager
def open_audio(path: Path) -> Iterator[soundfile.SoundFile]:
    """Open a recording; a WAV file without a stated length (written to a pipe) is read to its end.

    Raises:
        soundfile.SoundFileError: libsndfile cannot read it.
        OSError: it cannot be opened.
    """
    lengths = wav_lengths(path)
    corrections = {} if lengths is None else lengths.corrections()
    with _Corrected(path, corrections) if corrections else nullcontext(path) as content, soundfile.SoundFile(content) as file:
        yield file


def blocks(file: soundfile.SoundFile, dtype: str) -> Iterator[np.ndarray[Any, np.dtype[Any]]]:
    """Yield blocks (frames, channels) of the rest of a recording."""
    while len(block := file.read(_BLOCK_FRAMES, dtype=dtype, always_2d=True)):
        yield block


def read_mono(path: Path) -> tuple[Samples, int]:
    """Read the first channel, (samples,), and the sampling rate in Hz."""
    with open_audio(path) as file:
        return np.concatenate([np.zeros(0), *(block[:, 0] for block in blocks(file, "float64"))]), int(file.samplerate)


class _Corrected(io.FileIO):
    """A file whose header is read with corrected bytes."""

    def __init__(self, path: Path, corrections: Mapping[int, bytes]) -> None:
        super().__init__(path)
        self._corrections = corrections

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer` and apply the corrections."""
        begin, view = self.tell(), memoryview(buffer).cast("B")
        count = super().readinto(view) or 0
        for position, content in self._corrections.items():
            for place, byte in enumerate(content, start=position - begin):
                if 0 <= place < count:
                    view[place] = byte
        return count
