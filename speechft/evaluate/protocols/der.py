"""Diarization error rate: exact on intervals, with overlapped speech scored and no collar.

Equals md-eval-22 with the options of the SUPERB recipe; the scored region is the extent of reference and system turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechft.corpora.rttm import Turn


@dataclass(frozen=True)
class DiarizationErrors:
    """Seconds of speaker time: reference, missed, false alarm, and speaker confusion."""

    scored: float
    missed: float
    false_alarm: float
    confused: float

    @property
    def wrong(self) -> float:
        """Sum of all errors, in seconds."""
        return self.missed + self.false_alarm + self.confused

    @property
    def rate(self) -> float:
        """Errors divided by reference; Inf for errors without reference speech."""
        if not self.scored:
            return float("inf") if self.wrong else 0.0
        return self.wrong / self.scored


def sum_of_errors(of_recordings: Mapping[str, DiarizationErrors]) -> DiarizationErrors:
    """Sum the errors of all recordings."""
    parts = [astuple(errors) for _, errors in sorted(of_recordings.items())]
    return DiarizationErrors(*(float(sum(values)) for values in zip(*parts, strict=True))) if parts else DiarizationErrors(0, 0, 0, 0)


def errors_by_recording(reference: Iterable[Turn], system: Iterable[Turn]) -> dict[str, DiarizationErrors]:
    """Compute the errors of each recording that has a turn.

    System speakers are mapped to reference speakers so that their common time is maximal.
    """
    of_recording: dict[str, tuple[list[Turn], list[Turn]]] = {}
    for side, turns in enumerate((reference, system)):
        for turn in turns:
            of_recording.setdefault(turn.recording, ([], []))[side].append(turn)
    return {name: _recording_errors(*turns) for name, turns in of_recording.items()}


def _recording_errors(reference: Sequence[Turn], system: Sequence[Turn]) -> DiarizationErrors:
    """Compute the errors of one recording; between adjacent boundaries nobody starts or stops, so counting speakers is exact."""
    boundaries = np.unique([time for turn in (*reference, *system) for time in (turn.start, turn.end)])
    seconds = np.diff(boundaries)
    truth, decided = _activity(reference, boundaries), _activity(system, boundaries)
    shared = (truth * seconds) @ decided.T
    # Imported here because it is slow to import.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(shared, maximize=True)
    correct = (truth[rows] * decided[columns]).sum(axis=0)
    speaking, detected = truth.sum(axis=0), decided.sum(axis=0)
    return DiarizationErrors(
        float(speaking @ seconds),
        float(np.maximum(speaking - detected, 0) @ seconds),
        float(np.maximum(detected - speaking, 0) @ seconds),
        float((np.minimum(speaking, detected) - correct) @ seconds),
    )


def _activity(turns: Sequence[Turn], boundaries: NDArray[Any]) -> NDArray[np.float64]:
    """Return (speakers, intervals): 1 if the speaker talks; overlapping turns of a speaker count once."""
    speakers = sorted({turn.speaker for turn in turns})
    active = np.zeros((len(speakers), len(boundaries) - 1))
    for turn in turns:
        first, last = np.searchsorted(boundaries, (turn.start, turn.end))
        active[speakers.index(turn.speaker), first:last] = 1.0
    return active
