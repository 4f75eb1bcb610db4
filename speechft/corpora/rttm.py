"""RTTM (NIST Rich Transcription Time Marked): who speaks when, one turn per line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from speechft.errors import CorpusError, read_lines


@dataclass(frozen=True, order=True)
class Turn:
    """One speaker's turn in a recording; `start` and `duration` in seconds."""

    recording: str
    start: float
    duration: float
    speaker: str

    @property
    def end(self) -> float:
        """End of the turn, in seconds from the start of the recording."""
        return self.start + self.duration


def rttm_line(turn: Turn) -> str:
    """Format a turn as an RTTM line, with two decimals and the columns of s3prl 0.4.18."""
    return f"SPEAKER {turn.recording} 1 {turn.start:7.2f} {turn.duration:7.2f} <NA> <NA> {turn.speaker} <NA>"


def read_rttm(path: Path) -> list[Turn]:
    """Read the turns of the SPEAKER lines of an RTTM file, in order; other line types and `;;` comments are skipped.

    Raises:
        CorpusError: the file is missing, is not text, has no turn, or has invalid lines (all listed).
    """
    turns: list[Turn] = []
    problems: list[str] = []
    lines = read_lines(path, "for who speaks when", "Give the RTTM file as `rttm` of the corpus.", CorpusError)
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            turn = Turn(fields[1], float(fields[3]), float(fields[4]), fields[7])
        except (IndexError, ValueError):
            problems.append(f"line {number}: {line.strip()!r} is not SPEAKER recording channel start duration <NA> <NA> speaker <NA>")
            continue
        # `not (...)` also refuses NaN.
        if not (turn.start >= 0 and turn.duration > 0 and math.isfinite(turn.end)):
            problems.append(f"line {number}: starts at {turn.start:g} s and lasts {turn.duration:g} s; a turn must last longer than 0 s")
        turns.append(turn)
    if problems:
        raise CorpusError(f"{path}: {len(problems)} line(s) are not RTTM", problems)
    if not turns:
        raise CorpusError(f"{path}: contains no SPEAKER line. Give the RTTM file of the mixtures as `rttm` of the corpus.")
    return turns


def turns_by_recording(path: Path) -> dict[str, tuple[Turn, ...]]:
    """Read the turns of an RTTM file by recording, in order of time.

    Raises:
        CorpusError: the file is not valid RTTM (see `read_rttm`).
    """
    return {name: tuple(turns) for name, turns in groupby(sorted(read_rttm(path)), key=lambda turn: turn.recording)}
