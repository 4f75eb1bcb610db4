"""A quick look at corpora before they are prepared: lists are read and headers of recordings, but nothing is decoded or written."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from speechft.corpora.annotations import with_turns
from speechft.corpora.examination import Recipe, examine
from speechft.corpora.mixtures import read_sources
from speechft.corpora.prepare import published_sizes, read_corpus
from speechft.corpora.published import speakers_of
from speechft.corpora.splits import SPLITS
from speechft.corpora.utterances import Count, Listing, Utterance
from speechft.errors import CorpusError
from speechft.recipes import CorpusRecipe


@dataclass(frozen=True)
class SplitCheck:
    """A row of the table: what a split has, what was published of it (nothing for a corpus of the user), hours by the headers."""

    corpus: str
    split: str
    found: str
    expected: str
    hours: float | None
    problems: int


@dataclass(frozen=True)
class CorpusCheck:
    """What is known of a corpus without decoding it. `remarks` are differences from numbers that are not certain.

    `notes` say what will differ from SUPERB, or has yet to be downloaded: the fact, then what to do, a sentence each.
    """

    corpus: str
    splits: tuple[SplitCheck, ...]
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    notes: tuple[str, ...] = ()


def check_corpora(recipes: Mapping[str, Recipe]) -> list[CorpusCheck]:
    """Look at each corpus; one that can not be read at all is a problem of its own, and the others are looked at all the same."""
    return [_check(name, recipe) for name, recipe in recipes.items()]


def _check(name: str, recipe: Recipe) -> CorpusCheck:
    try:
        listing = _list(recipe)
    except CorpusError as error:
        lines = (str(error).splitlines()[0], *error.problems)
        return CorpusCheck(name, _rows(name, Listing([], [], expected=published_sizes(recipe)), None, len(lines)), lines, ())
    found = examine(recipe, listing, decode=False)
    problems = tuple(map(str, found.problems))
    mixed = isinstance(recipe, CorpusRecipe) and recipe.kind == "mixtures"
    notes = (*listing.notes, *listing.to_fetch)
    rows = _rows(name, listing, None if mixed else found.seconds, len(problems))
    return CorpusCheck(name, rows, problems, tuple(found.remarks), notes)


def _list(recipe: Recipe) -> Listing:
    if isinstance(recipe, CorpusRecipe) and recipe.kind == "mixtures":
        sources, problems = read_sources(recipe)
        return Listing([Utterance(found.row, found.mixture, found.path, found.split, speaker=found.speaker) for found in sources], problems)
    return with_turns(recipe, read_corpus(recipe))


def _rows(name: str, listing: Listing, seconds: Sequence[float] | None, problems: int) -> tuple[SplitCheck, ...]:
    rows = []
    splits = {utterance.split for utterance in listing.utterances} | {count.split for count in listing.expected}
    for split in [split for split in SPLITS if split in splits] or [""]:
        members = [number for number, utterance in enumerate(listing.utterances) if utterance.split == split]
        hours = None if seconds is None else sum(seconds[number] for number in members) / 3600
        utterances = [listing.utterances[number] for number in members]
        ids = len({utterance.id for utterance in utterances})
        found = _phrase({"utterances": ids, "speakers": len(speakers_of(utterances))}) or "nothing"
        rows.append(SplitCheck(name, split, found, _expected(listing.expected, split), hours, 0))
    whole = _expected(listing.expected, None)
    rows[0] = dataclasses.replace(
        rows[0], problems=problems, expected="; ".join(filter(None, (rows[0].expected, whole and f"in all {whole}")))
    )
    return tuple(rows)


def _expected(counts: Iterable[Count], split: str | None) -> str:
    shown = [count for count in counts if count.split == split and count.what != "labels" and not count.what.startswith("fold ")]
    return _phrase({count.what.removeprefix("label "): count.number for count in shown})


def _phrase(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{number:,.10g} {what}" for what, number in numbers.items() if number)
