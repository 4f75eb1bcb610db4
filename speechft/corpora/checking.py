"""Quick check of corpora before preparing them: read lists and headers, decode and write nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from speechft.conventions import SAMPLE_RATE, SPLITS
from speechft.corpora.annotations import corpus_trials, with_turns
from speechft.corpora.examination import Recipe, examine
from speechft.corpora.inspection import RecordingFacts
from speechft.corpora.manifests import make_cut
from speechft.corpora.prepare import published_sizes, read_corpus
from speechft.corpora.readers.mixtures import Source, read_sources
from speechft.corpora.rttm import Turn
from speechft.corpora.splits import final_splits
from speechft.corpora.trials import Trial
from speechft.corpora.utterances import Count, Listing, Utterance
from speechft.errors import CorpusError
from speechft.recipes.corpora import CorpusRecipe


@dataclass(frozen=True)
class SplitCheck:
    """Row of the check's table: sizes found, published sizes (empty for a user's own corpus), hours from headers, problems."""

    corpus: str
    split: str
    found: str
    expected: str
    hours: float | None
    problems: int


@dataclass(frozen=True)
class Listed:
    """Content of a corpus's future manifests, known from lists and headers."""

    utterances: tuple[Utterance, ...]
    seconds: tuple[float, ...]
    """Length of each utterance; 0 if its recording cannot be used."""
    trials: tuple[Trial, ...] = ()

    def cuts(self) -> dict[str, tuple[Any, ...]]:
        """Return the cuts of each nonempty split. The length of an unusable recording is taken from its annotations."""
        by_split: dict[str, list[Any]] = {split: [] for split in SPLITS}
        for utterance, seconds in zip(self.utterances, self.seconds, strict=True):
            ends = [end for _, _, end in utterance.phones or ()] + [turn.end for turn in utterance.turns]
            samples = round((seconds or max(ends, default=1.0)) * SAMPLE_RATE)
            if utterance.split in by_split:
                by_split[utterance.split].append(make_cut(utterance, RecordingFacts(utterance.path, SAMPLE_RATE, samples, 1, 0, "")))
        return {split: tuple(cuts) for split, cuts in by_split.items() if cuts}


@dataclass(frozen=True)
class CorpusCheck:
    """Result of checking a corpus without decoding it.

    `remarks`: differences from uncertain published numbers. `notes`: differences from SUPERB and files still to be downloaded, each with
    what to do. `unmet`: what an experiment needs and the lists do not have. `listed`: None if the lists cannot be read.
    """

    corpus: str
    splits: tuple[SplitCheck, ...]
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    notes: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()
    listed: Listed | None = None


def check_corpus(name: str, recipe: Recipe) -> CorpusCheck:
    """Check the lists and headers of one corpus."""
    mixed = isinstance(recipe, CorpusRecipe) and recipe.kind == "mixtures"
    sources: list[Source] = []
    try:
        if isinstance(recipe, CorpusRecipe) and mixed:
            sources, complaints = read_sources(recipe)
            rows = [Utterance(source.row, source.mixture, source.path, source.split, speaker=source.speaker) for source in sources]
            listing = Listing(rows, complaints)
        else:
            listing = with_turns(recipe, read_corpus(recipe))
    except CorpusError as error:
        lines = (str(error).splitlines()[0], *error.problems)
        return CorpusCheck(name, _rows(name, Listing([], [], expected=published_sizes(recipe)), None, len(lines)), lines, ())
    examined = examine(recipe, listing, decode=False)
    problems = tuple(map(str, examined.problems))
    listed = _mixed(sources, examined.seconds) if mixed else _divided(recipe, listing, examined.seconds)
    rows_shown = _rows(name, listing, None if mixed else examined.seconds, len(problems))
    return CorpusCheck(name, rows_shown, problems, tuple(examined.remarks), (*listing.notes, *listing.to_fetch), listed=listed)


def check_union(name: str, members: Mapping[str, Listed]) -> CorpusCheck:
    """Check a union of corpora for ids that occur in several of them."""
    origin: dict[str, str] = {}
    problems = []
    for member, listed in members.items():
        for utterance in listed.utterances:
            if utterance.id in origin:
                problems.append(f"recording id {utterance.id!r} is in {origin[utterance.id]} and in {member}; change one of them")
            origin[utterance.id] = member
    parts = members.values()
    listed = Listed(
        tuple(utterance for part in parts for utterance in part.utterances),
        tuple(seconds for part in parts for seconds in part.seconds),
        tuple(trial for part in parts for trial in part.trials),
    )
    rows = _rows(name, Listing(list(listed.utterances), []), listed.seconds, len(problems))
    return CorpusCheck(name, rows, tuple(problems), (), listed=listed)


def _divided(recipe: Recipe, listing: Listing, seconds: Sequence[float]) -> Listed:
    try:
        trials = tuple(corpus_trials(recipe, listing.trials))
    except CorpusError:
        trials = ()  # reported by `examine`
    final = final_splits(recipe, listing.utterances, seconds)
    return Listed(tuple(final.values()), tuple(seconds[place] for place in final), trials)


def _mixed(sources: Sequence[Source], seconds: Sequence[float]) -> Listed:
    """Build the mixtures of the sources; each lasts until its last source ends."""
    mixtures: dict[str, Utterance] = {}
    lengths: dict[str, float] = {}
    for source, length in zip(sources, seconds, strict=True):
        end = max(source.end or length, source.start)
        turn = Turn(source.mixture, source.offset + source.start, end - source.start, source.speaker)
        mixture = mixtures.setdefault(source.mixture, Utterance(source.row, source.mixture, source.path, source.split))
        mixtures[source.mixture] = dataclasses.replace(mixture, turns=(*mixture.turns, turn))
        lengths[source.mixture] = max(lengths.get(source.mixture, 0.0), source.offset + length)
    return Listed(tuple(mixtures.values()), tuple(lengths.values()))


def _rows(name: str, listing: Listing, seconds: Sequence[float] | None, problems: int) -> tuple[SplitCheck, ...]:
    """Build a row per split; the first also shows published sizes and problems of the whole corpus."""
    rows: list[SplitCheck] = []
    whole = _expected(listing.expected, None)
    splits = {utterance.split for utterance in listing.utterances} | {count.split for count in listing.expected}
    for split in [split for split in SPLITS if split in splits] or [""]:
        members = [number for number, utterance in enumerate(listing.utterances) if utterance.split == split]
        hours = None if seconds is None else sum(seconds[number] for number in members) / 3600
        utterances = [listing.utterances[number] for number in members]
        speakers = {speaker for utterance in utterances for speaker in utterance.speakers}
        sizes = _phrase({"utterances": len({utterance.id for utterance in utterances}), "speakers": len(speakers)})
        expected = [_expected(listing.expected, split), f"in all {whole}" if whole and not rows else ""]
        rows.append(SplitCheck(name, split, sizes or "nothing", "; ".join(filter(None, expected)), hours, 0 if rows else problems))
    return tuple(rows)


def _expected(counts: Iterable[Count], split: str | None) -> str:
    shown = [count for count in counts if count.split == split and count.what != "labels" and not count.what.startswith("fold ")]
    return _phrase({count.what.removeprefix("label "): count.number for count in shown})


def _phrase(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{number:,.10g} {what}" for what, number in numbers.items() if number)
