"""The speech that stand-ins are made of: recordings of mini/speech and what its tables say about them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import soundfile
import soxr

from speechft.conventions import SAMPLE_RATE
from speechft.errors import CorpusError, missing_file

Samples = np.ndarray[Any, np.dtype[np.float64]]
Item = TypeVar("Item")
_REMEDY = "Stand-ins are made of the folder mini/speech of the repository; name it."


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
        """F or M, as the second letter of the voice says."""
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

    def table(self, name: str) -> list[dict[str, str]]:
        """Rows of a table.

        Raises:
            CorpusError: there is no such table.
        """
        path = self.folder / name
        if not path.is_file():
            raise CorpusError(missing_file(path, "for the speech of stand-ins", _REMEDY))
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def take(self, number: int, kinds: Sequence[str], split: str | None = None, seconds: float = 0.0) -> list[Recording]:
        """`number` recordings of some kinds that last `seconds` at least, of as many voices as there are."""
        found = [
            recording
            for recording in self.recordings
            if recording.kind in kinds and split in (None, recording.split) and recording.seconds >= seconds
        ]
        return spread(found, number, lambda recording: recording.speaker)

    def samples(self, recording: Recording, rate: int = SAMPLE_RATE) -> Samples:
        """The waveform (samples,), resampled to `rate` Hz."""
        samples, original = soundfile.read(self.folder / recording.path, dtype="float64")
        resampled: Samples = samples if rate == original else soxr.resample(samples, original, rate, quality="HQ")
        return resampled


def spread(items: Iterable[Item], number: int, group: Callable[[Item], Hashable]) -> list[Item]:
    """The first `number` items when every group gives one after the other, groups and items in their order.

    Raises:
        CorpusError: there are fewer.
    """
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(group(item), []).append(item)
    rounds = range(max(map(len, groups.values()), default=0))
    dealt = [members[place] for place in rounds for members in groups.values() if place < len(members)]
    if len(dealt) < number:
        raise CorpusError(f"The speech for stand-ins has {len(dealt)} recordings where {number} are needed. {_REMEDY}")
    return dealt[:number]
