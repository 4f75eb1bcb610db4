"""What readers of corpora return: utterances, problems and published sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from speechft.corpora.phones import Phone
from speechft.corpora.rttm import Turn
from speechft.corpora.trials import Trial


@dataclass(frozen=True)
class Utterance:
    """One recording, or part of one, as the corpus lists it; `row` orders reports (for a table: its row, the header being row 1)."""

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
    """Further columns of a table, by their names, where they are not empty."""
    start: float | None = None
    """Seconds of the recording at which the utterance begins, where it is a part of one; `end` likewise."""
    end: float | None = None

    @property
    def speakers(self) -> set[str]:
        """All who talk in it."""
        return {turn.speaker for turn in self.turns} if self.turns else set() if self.speaker is None else {self.speaker}


@dataclass(frozen=True, order=True)
class Problem:
    """Something wrong at `row`; row 0 is the corpus as a whole."""

    row: int
    message: str

    def __str__(self) -> str:
        return f"row {self.row}: {self.message}" if self.row else self.message


@dataclass(frozen=True)
class Count:
    """A published number of a split (None: of all).

    `what` is `utterances`, `speakers`, `recordings`, `hours`, `labels`, `trials`, `fold NAME` or `label NAME`. `certain` numbers must
    be met; the others are from memory of the literature, and a difference is a remark. `look_at` says where a difference comes from.
    """

    split: str | None
    what: str
    number: float
    look_at: str
    certain: bool = True


@dataclass(frozen=True)
class Listing:
    """All that a reader found: utterances in corpus order, and problems."""

    utterances: list[Utterance]
    problems: list[Problem]
    trials: tuple[Trial, ...] = ()
    expected: tuple[Count, ...] = ()
    """Sizes that were published."""
    order: str | None = None
    """What the order of the utterances follows, where a corpus has several."""
    to_fetch: tuple[str, ...] = ()
    """Files that are not there and that the workflow downloads first, each with the way to do so: preparing needs them, a look does not."""
    notes: tuple[str, ...] = ()
    """What differs from SUPERB by how the corpus was read: the fact, then the remedy, a sentence each."""
