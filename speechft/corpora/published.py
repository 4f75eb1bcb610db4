"""Common parts of the readers of published corpora: required folders and lists, and published sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speechft.corpora.trials import Trial
from speechft.corpora.utterances import Count, Listing, Problem, Utterance
from speechft.errors import CorpusError, read_lines

_HOURS_TOLERANCE = 0.02
"""Relative tolerance of hours: they were published rounded, some without silence."""


class Reading:
    """Utterances and problems that a reader of a published corpus has collected.

    Args:
        corpus: name of the corpus, for errors.
        root: its folder.
        source: where to get the corpus and how its folder is laid out; ends every error about a missing file.
    """

    def __init__(self, corpus: str, root: Path, source: str) -> None:
        self.corpus, self.root, self.source = corpus, root, source
        self.utterances: list[Utterance] = []
        self.problems: list[Problem] = []

    def folder(self, path: Path) -> Path:
        """Return `path` after checking that it is a folder.

        Raises:
            CorpusError: it is not a folder.
        """
        if not path.is_dir():
            raise CorpusError(f"{path}: no such folder, needed for {self.corpus}. {self.source}")
        return path

    def lines(self, path: Path, purpose: str, remedy: str | None = None) -> list[tuple[int, str]]:
        """Return (number, line) of the nonblank lines of a text file.

        Raises:
            CorpusError: the file is missing or is not UTF-8.
        """
        lines = read_lines(path, purpose, remedy or self.source, CorpusError)
        return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]

    def add(self, identity: str, path: Path, split: str, **facts: Any) -> None:
        """Add an utterance; `facts` are further fields of `Utterance`."""
        self.utterances.append(Utterance(0, identity, path, split, **facts))

    def problem(self, message: str) -> None:
        """Record a problem with the corpus."""
        self.problems.append(Problem(0, message))

    def bad_line(self, path: Path, number: int, complaint: str) -> None:
        """Record a problem in one line of a list."""
        self.problem(f"{path}, line {number}: {complaint}")

    def listing(self, expected: Sequence[Count] = (), **facts: Any) -> Listing:
        """Return the collected utterances and problems with the `expected` sizes; `facts` are further fields of `Listing`.

        Raises:
            CorpusError: nothing was found, so the folder is not this corpus.
        """
        if not self.utterances and not self.problems:
            raise CorpusError(f"{self.root}: contains no recordings of {self.corpus}. {self.source}")
        return Listing(self.utterances, self.problems, expected=tuple(expected), **facts)


def published(look_at: str | Mapping[str, str], whats: Sequence[str], **numbers: Sequence[float]) -> tuple[Count, ...]:
    """Return certain counts of each split, `numbers` in the order of `whats`; `look_at` is a text per split, or one with `{split}`."""
    return tuple(
        Count(split, what, number, look_at.format(split=split) if isinstance(look_at, str) else look_at[split])
        for split, of_split in numbers.items()
        for what, number in zip(whats, of_split, strict=True)
    )


def counted(count: Count, utterances: Sequence[Utterance], trials: Sequence[Trial], seconds: Sequence[float]) -> float:
    """Compute the found value of a published `count`; `seconds` are the lengths of the utterances, needed only for hours."""
    of_split = [number for number, utterance in enumerate(utterances) if count.split in (None, utterance.split)]
    chosen = [utterances[number] for number in of_split]
    kind, _, name = count.what.partition(" ")
    values: dict[str, float] = {
        "utterances": len(chosen),
        "speakers": len({speaker for utterance in chosen for speaker in utterance.speakers}),
        "recordings": len({utterance.path for utterance in chosen}),
        "hours": round(sum(seconds[number] for number in of_split) / 3600, 4) if kind == "hours" else 0.0,
        "trials": len(trials),
        "labels": len({utterance.label for utterance in chosen} - {None}),
        "fold": sum(utterance.fold == name for utterance in chosen),
        "label": sum(utterance.label == name for utterance in chosen),
    }
    return values[kind]


def sizes_of_lists(listing: Listing) -> list[tuple[Count, float]]:
    """Return published counts with those found in the lists; hours are left out, since they need the recordings."""
    counts = [count for count in listing.expected if count.what != "hours"]
    return [(count, counted(count, listing.utterances, listing.trials, ())) for count in counts]


def agrees(count: Count, found: float) -> bool:
    """Whether a number equals the published one; hours within 2 %."""
    return abs(found - count.number) <= (_HOURS_TOLERANCE * count.number if count.what == "hours" else 0)


def differences(sizes: Iterable[tuple[Count, float]], complete: bool) -> tuple[list[str], list[str]]:
    """Describe numbers that differ from the published ones, as problems and remarks.

    A difference is only a remark if the published number is uncertain or the corpus is not `complete`.
    """
    problems: list[str] = []
    remarks: list[str] = []
    for count, found in sizes:
        if not agrees(count, found):
            numbers = f"{count.split or 'all splits'}: {found:g} {count.what}, published are {count.number:g}"
            (problems if count.certain and complete else remarks).append(f"{numbers}; look at {count.look_at}")
    return problems, remarks
