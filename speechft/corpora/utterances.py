"""Types that corpus readers return: utterances, problems and published sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from speechft.corpora.phones import Phone
from speechft.corpora.rttm import Turn
from speechft.corpora.trials import Trial


@dataclass(frozen=True)
class Utterance:
    """A recording or part of one, as listed in the corpus; `row` orders reports (in a table: the row, counting the header as row 1)."""

    row: int
    id: str
    path: Path
    split: str
    text: str | None = None
    speaker: str | None = None
    label: str | None = None
    fold: str | None = None
    phones: tuple[Phone, ...] | None = None
    relevant: str | None = None
    turns: tuple[Turn, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    """Nonempty further columns of a table, by name."""
    start: float | None = None
    """Start of the utterance in its recording, in seconds; None if the utterance is the whole recording. `end` likewise."""
    end: float | None = None

    @property
    def speakers(self) -> set[str]:
        """All speakers in the utterance."""
        return {turn.speaker for turn in self.turns} if self.turns else set() if self.speaker is None else {self.speaker}


@dataclass(frozen=True, order=True)
class Problem:
    """A problem at `row`; row 0 means the whole corpus."""

    row: int
    message: str

    def __str__(self) -> str:
        return f"row {self.row}: {self.message}" if self.row else self.message


@dataclass(frozen=True)
class Count:
    """Published number of a split (None: of all splits).

    `what` is `utterances`, `speakers`, `recordings`, `hours`, `labels`, `trials`, `fold NAME` or `label NAME`. A difference from a
    `certain` number is a problem, from another one a remark. `look_at` names the files to check if the numbers differ.
    """

    split: str | None
    what: str
    number: float
    look_at: str
    certain: bool = True


@dataclass(frozen=True)
class Listing:
    """Result of a corpus reader: utterances in corpus order, and problems."""

    utterances: list[Utterance]
    problems: list[Problem]
    trials: tuple[Trial, ...] = ()
    expected: tuple[Count, ...] = ()
    """Published sizes."""
    order: str | None = None
    """Source of the order of the utterances, if the corpus has several."""
    to_fetch: tuple[str, ...] = ()
    """Missing files that the workflow downloads first, with the command for each; needed to prepare the corpus, but not to check it."""
    notes: tuple[str, ...] = ()
    """Differences from SUPERB in how the corpus was read: a sentence with the fact, then one with the remedy."""
