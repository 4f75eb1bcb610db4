"""Open recordings: every reader of a file gets the same samples."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from speechft.corpora.wav import wav_lengths

_BLOCK_FRAMES = 1 << 18


@contextmanager
def open_audio(path: Path) -> Iterator[soundfile.SoundFile]:
    """Open a recording. A WAV file whose writer did not know its length (a pipe) is read to its end.

    Raises:
        soundfile.SoundFileError: it is not audio that libsndfile reads.
        OSError: it cannot be opened.
    """
    lengths = wav_lengths(path)
    corrections = {} if lengths is None else lengths.corrections()
    if not corrections:
        with soundfile.SoundFile(path) as file:
            yield file
        return
    # A private mapping: the header changes in memory, the file does not.
    with path.open("rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_COPY) as content:
        for position, octets in corrections.items():
            content[position : position + len(octets)] = octets
        with soundfile.SoundFile(content) as file:
            yield file


def blocks(file: soundfile.SoundFile, dtype: str) -> Iterator[np.ndarray[Any, np.dtype[Any]]]:
    """Blocks (frames, channels) of the rest of a recording."""
    while len(block := file.read(_BLOCK_FRAMES, dtype=dtype, always_2d=True)):
        yield block


def read_mono(path: Path) -> tuple[np.ndarray[Any, np.dtype[np.float64]], int]:
    """All samples of the first channel, (samples,), and their rate in Hz."""
    with open_audio(path) as file:
        return np.concatenate([np.zeros(0), *(block[:, 0] for block in blocks(file, "float64"))]), int(file.samplerate)
