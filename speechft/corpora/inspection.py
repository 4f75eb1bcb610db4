"""Inspect recordings before training: decode each one completely, or read only its header."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

import numpy as np
import soundfile
from tqdm import tqdm

from speechft.corpora.audio_files import blocks, open_audio
from speechft.corpora.containers import FlacChecksum, container_damage
from speechft.corpora.wav import wav_damage
from speechft.files.hashes import sha256_file

NO_SUCH_FILE = "no such file"
_NOTHING = "contains no samples"
_UNKNOWN_FRAMES = 1 << 62
"""Frame counts from here up mean that the length is unknown: libsndfile reports them for a FLAC file from a pipe, and cannot seek in it."""
_NO_LENGTH = "does not state its length, like FLAC files from a pipe; convert it, for example with `ffmpeg -i OLD.flac NEW.flac`"
_PORTION = 256
"""Recordings per work item. Starting a process takes as long as inspecting a thousand short recordings."""


@dataclass(frozen=True)
class RecordingFacts:
    """Facts about an intact recording, or about a part of one.

    `num_samples` counts samples per channel at `sampling_rate` Hz; `channel` is the one to use. For a part, `num_samples` is its length,
    `first_sample` its start and `of_samples` the length of the whole recording; `of_samples` is None for a whole recording.
    """

    path: Path
    sampling_rate: int
    num_samples: int
    num_channels: int
    channel: int
    sha256: str
    first_sample: int = 0
    of_samples: int | None = None
    bytes: int = 0
    changed_ns: int = 0
    """Modification time of the file in nanoseconds; `bytes` is its size."""


def inspect_all(
    paths: Sequence[Path], channel: int | None, progress: str, *, decode: bool = True, processes: int = 1
) -> list[RecordingFacts | str]:
    """Inspect every path as `inspect_recording` does, in order, with a progress bar labeled `progress` (terminals only)."""
    portions = [paths[start : start + _PORTION] for start in range(0, len(paths), _PORTION)]
    inspect = partial(_inspect_portion, channel=channel, decode=decode)
    with ExitStack() as stack:
        results: Iterable[list[RecordingFacts | str]] = map(inspect, portions)
        if processes > 1 and len(portions) > 1:
            context = get_context("spawn")  # a fork would copy the locks of this process' threads
            pool = ProcessPoolExecutor(min(processes, len(portions)), context, initializer=_end_with_parent)
            results = stack.enter_context(pool).map(inspect, portions)
        # disable=None: no bar if standard error is a log file.
        return list(tqdm(chain.from_iterable(results), total=len(paths), desc=progress, unit="file", disable=None))


def _inspect_portion(paths: Sequence[Path], channel: int | None, decode: bool) -> list[RecordingFacts | str]:
    # Sequentially: threads of one process take twice the CPU time, because they contend for the interpreter lock.
    return [inspect_recording(path, channel, decode=decode) for path in paths]


def _end_with_parent() -> None:
    """End this worker when its parent is killed; otherwise it would wait for work forever."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


def inspect_recording(path: Path, channel: int | None, *, decode: bool = True) -> RecordingFacts | str:
    """Decode a recording completely, or read only its header.

    Returns:
        Its facts (`sha256` is empty if only the header was read), or one sentence that begins with the path and says why it cannot be used.
    """
    try:
        if not path.exists():
            return f"{path}: {NO_SUCH_FILE}"
        if not path.is_file():
            return f"{path}: is not a file"
        status = path.stat()
        if status.st_size == 0:
            return f"{path}: is an empty file (0 bytes)"
        outcome = _decode(path) if decode else _header(path)
        complaint = outcome if isinstance(outcome, str) else _channel_complaint(outcome[2], channel)
        if isinstance(outcome, str) or complaint is not None:
            return f"{path}: {complaint}"
        facts = RecordingFacts(path, *outcome, channel or 0, sha256_file(path) if decode else "")
        return replace(facts, bytes=status.st_size, changed_ns=status.st_mtime_ns)
    except soundfile.SoundFileError as error:
        reason = getattr(error, "error_string", str(error)).removeprefix("Error : ").rstrip(".")
        return f"{path}: damaged or not audio ({reason})"
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror or error})"


def _channel_complaint(num_channels: int, channel: int | None) -> str | None:
    if channel is None and num_channels > 1:
        return f"has {num_channels} channels; set `channel` of the corpus to the one to use, 0 to {num_channels - 1}"
    if channel is not None and channel >= num_channels:
        return f"`channel` is {channel}, but it has {num_channels} channel{'s' if num_channels > 1 else ''} (counted from 0)"
    return None


def _header(path: Path) -> tuple[int, int, int] | str:
    """Read (sampling rate, samples per channel, channels) from the header, or say what is wrong with it."""
    if (damage := wav_damage(path)) is not None:
        return f"damaged: it {damage}"
    with open_audio(path) as file:
        facts = (int(file.samplerate), int(file.frames), int(file.channels))
    if facts[1] >= _UNKNOWN_FRAMES:
        return _NO_LENGTH
    return facts if facts[1] else _NOTHING


def _decode(path: Path) -> tuple[int, int, int] | str:
    """Return (sampling rate, samples per channel, channels) of a file that decodes as its header says, or say what is wrong."""
    with open_audio(path) as file:
        stated = int(file.frames)
        if stated >= _UNKNOWN_FRAMES:
            return _NO_LENGTH
        checksum = FlacChecksum(path) if file.format == "FLAC" else None
        decoded = 0
        for block in blocks(file, "int32" if checksum else "float32"):
            decoded += len(block)
            if checksum:
                checksum.update(block)
            elif not np.isfinite(block).all():
                return "contains NaN or Inf samples"
        facts = (file.samplerate, decoded, file.channels)
    if (damage := container_damage(path)) is not None:
        return f"damaged: it {damage}"
    if decoded != stated:
        return f"damaged: {decoded} of {stated} samples could be decoded"
    if not decoded:
        return _NOTHING
    if checksum is not None and not checksum.matches():
        return "damaged: its samples do not match the MD5 in its header"
    return facts
