"""Building blocks of stand-ins: sizes, recordings and tables of mini/speech, and writers of corpus files."""

from __future__ import annotations

import base64
import csv
import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
import soxr

from speechft.conventions import SAMPLE_RATE
from speechft.corpora.audio_files import Samples
from speechft.errors import CorpusError, missing_file
from speechft.files.csv_tables import write_table

Item = TypeVar("Item")
_SPHERE_HEADER_BYTES = 1024
# AppleDouble: magic number, version, and the name of the file system.
_APPLE_DOUBLE = bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(58)
_REMEDY = "Name the folder mini/speech of the repository."
SIZES: Mapping[str, Mapping[str, int]] = {
    "librispeech": {"train": 24, "dev": 8, "test": 8},
    "voxceleb1": {"dev speakers": 5, "test speakers": 3, "train per speaker": 3, "dev per speaker": 1, "test per speaker": 1, "trials": 24},
    "speech_commands": {"train per class": 2, "dev per class": 1, "test per class": 2, "noise seconds": 4},
    "fluent_speech_commands": {"train": 31, "dev": 12, "test": 12},
    "iemocap": {"per class, speaker and session": 1, "left out per speaker and session": 1},
    "audio_snips": {"train": 24, "dev": 8, "test": 8},
    "quesst14": {"dev terms": 4, "test terms": 4, "documents per term": 2, "documents without a term": 2},
    "libri2mix": {"train": 12, "dev": 6, "test": 6},
    "timit": {"train": 16, "dev": 8, "test": 8},
    "tedlium3": {"train": 16, "dev": 8, "test": 8, "per talk": 8},
    "crema_d": {"train speakers": 4, "dev speakers": 2, "test speakers": 2, "per class and speaker": 1},
    "aishell3": {"train": 12, "test": 4},
    "aishell1": {"train": 16, "dev": 8, "test": 8},
}
"""Kind of corpus -> what is counted (utterances unless stated) -> number."""


@dataclass(frozen=True)
class Recording:
    """A row of manifest.csv; `path` is relative to the folder of the speech."""

    path: str
    kind: str
    text: str
    speaker: str
    label: str
    split: str
    seconds: float

    @property
    def sex(self) -> str:
        """F or M: the second letter of the voice."""
        return self.speaker[1].upper()


class MiniSpeech:
    """The recordings and tables of a folder like mini/speech.

    Raises:
        CorpusError: the folder has no manifest.csv.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recordings = [
            Recording(**{**row, "seconds": float(row["seconds"])})  # type: ignore[arg-type]
            for row in self.table("manifest.csv")
        ]
        self.of_path = {recording.path: recording for recording in self.recordings}
        self.voices = list(dict.fromkeys(recording.speaker for recording in self.recordings))

    def table(self, name: str) -> list[dict[str, str]]:
        """Read the rows of a table.

        Raises:
            CorpusError: no such table.
        """
        path = self.folder / name
        if not path.is_file():
            raise CorpusError(missing_file(path, "for the speech of stand-ins", _REMEDY))
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def take(self, number: int, kinds: Sequence[str], split: str | None = None, seconds: float = 0.0) -> list[Recording]:
        """Select `number` recordings of the given kinds, at least `seconds` long, spread over all voices."""
        chosen = [
            recording
            for recording in self.recordings
            if recording.kind in kinds and split in (None, recording.split) and recording.seconds >= seconds
        ]
        return spread(chosen, number, lambda recording: recording.speaker)

    def samples(self, recording: Recording, rate: int = SAMPLE_RATE) -> Samples:
        """Read a waveform (samples,), resampled to `rate` Hz."""
        samples, original = soundfile.read(self.folder / recording.path, dtype="float64")
        resampled: Samples = samples if rate == original else soxr.resample(samples, original, rate, quality="HQ")
        return resampled


def spread(items: Iterable[Item], number: int, group: Callable[[Item], Hashable]) -> list[Item]:
    """Select `number` items by taking one from each group in turn, in order.

    Raises:
        CorpusError: fewer items than `number`.
    """
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(group(item), []).append(item)
    rounds = range(max(map(len, groups.values()), default=0))
    dealt = [members[place] for place in rounds for members in groups.values() if place < len(members)]
    if len(dealt) < number:
        raise CorpusError(f"The speech for stand-ins has {len(dealt)} suitable recordings, but {number} are needed. {_REMEDY}")
    return dealt[:number]


class Layout:
    """Writer of a corpus made of `speech` into the folder `root`; names are relative to it."""

    def __init__(self, root: Path, speech: MiniSpeech) -> None:
        self.root, self.speech = root, speech

    def audio(self, name: str, samples: Samples, rate: int = SAMPLE_RATE) -> None:
        """Write a 16-bit recording; the suffix determines the format."""
        soundfile.write(self._place(name), samples, rate, subtype="PCM_16")

    def say(self, name: str, recording: Recording, rate: int = SAMPLE_RATE) -> None:
        """Write a recording of the speech."""
        self.audio(name, self.speech.samples(recording, rate), rate)

    def sphere(self, name: str, samples: Samples, **fields: str | int) -> None:
        """Write a NIST SPHERE recording, little-endian as in the corpora; `fields` come first in its header."""
        whole = np.round(np.clip(samples, -1, 1) * 32_767).astype("<i2")
        entries: dict[str, str | int] = {**fields, "channel_count": 1, "sample_count": len(whole), "sample_rate": SAMPLE_RATE}
        entries |= {"sample_n_bytes": 2, "sample_byte_format": "01", "sample_sig_bits": 16}
        lines = ["NIST_1A", f"{_SPHERE_HEADER_BYTES:7}", *(_sphere_field(*entry) for entry in entries.items()), "end_head"]
        header = "".join(f"{line}\n" for line in lines).encode("ascii")
        self._place(name).write_bytes(header.ljust(_SPHERE_HEADER_BYTES) + whole.tobytes())

    def text(self, name: str, *lines: str) -> None:
        """Write a UTF-8 text file."""
        self._place(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def table(self, name: str, *rows: Sequence[object]) -> None:
        """Write a CSV file, the header first."""
        write_table(self._place(name), rows)

    def resource_fork(self, name: str) -> None:
        """Write the file `._NAME` that macOS adds next to `name` in archives, which is neither audio nor text."""
        path = self._place(name)
        path.with_name(f"._{path.name}").write_bytes(_APPLE_DOUBLE)

    def _place(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _sphere_field(name: str, value: str | int) -> str:
    return f"{name} -i {value}" if isinstance(value, int) else f"{name} -s{len(value)} {value}"


def made_up_name(seed: str, length: int) -> str:
    """Make a name of letters, digits, - and _, as on video platforms; equal seeds give equal names."""
    return base64.urlsafe_b64encode(hashlib.sha256(seed.encode()).digest()).decode()[:length]
