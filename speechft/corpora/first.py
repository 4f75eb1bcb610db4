"""The first utterances of a corpus, chosen so that a rehearsal covers every kind of content in it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence

from speechft.conventions import SPLITS
from speechft.corpora.trials import Trial
from speechft.corpora.utterances import Listing, Utterance
from speechft.errors import CorpusError

SPEAKERS = 4
"""Speakers kept in each split, unless speakers occur in several splits (the classes of speaker identification): then one per requested
utterance."""
SMALLEST = 4
"""Training utterances that a rehearsal needs at least."""


def first_utterances(listing: Listing, count: int, source: str) -> Listing:
    """Keep the first `count` utterances of each split, plus those needed to represent every kind.

    Kinds are classes (for slots: each type), values of further columns with repeated values, classes of each fold, phones, speakers,
    and trials of both answers. A query keeps one document that contains it. Order and problems of the listing are unchanged.

    `count` also limits the trials of each answer; `source` names the corpus in errors.

    Raises:
        CorpusError: the corpus has 1 to 3 training utterances.
    """
    trials = _first_trials(listing, count)
    tested = {name for trial in trials for name in (trial.enrolment, trial.test)}
    shared, columns = _shared_speakers(listing.utterances, count), _class_columns(listing.utterances)
    kept: dict[str, Utterance] = {}
    for split in SPLITS:
        members = [utterance for utterance in listing.utterances if utterance.split == split]
        if shared is not None:
            members = [utterance for utterance in members if utterance.speaker in shared]
        if split == "train" and members and len(members) < SMALLEST:
            raise CorpusError(f"{source}: {len(members)} training utterance(s); a rehearsal needs {SMALLEST}. Leave the corpus out.")
        if any(trial.enrolment == utterance.id for trial in trials for utterance in members):
            chosen = [utterance for utterance in members if utterance.id in tested]
        else:
            chosen = _cover(members, count, shared, columns)
        kept |= {utterance.id: utterance for utterance in chosen}
    if any(utterance.relevant for utterance in listing.utterances):
        kept = _with_documents(kept, listing.utterances)
    chosen = [kept[utterance.id] for utterance in listing.utterances if utterance.id in kept]
    return dataclasses.replace(listing, utterances=chosen, trials=tuple(trials))


def _class_columns(utterances: Sequence[Utterance]) -> list[str]:
    """Return the further columns that contain classes: their values occur at least twice on average."""
    values: dict[str, list[str]] = {}
    for utterance in utterances:
        for name, value in utterance.labels.items():
            values.setdefault(name, []).append(value)
    return [name for name, of_column in values.items() if 2 * len(set(of_column)) <= len(of_column)]


def _cover(members: Sequence[Utterance], count: int, shared: frozenset[str] | None, columns: Sequence[str]) -> list[Utterance]:
    """Choose the first utterances that add a kind, filled up to `count` with the first of the others, in order."""
    speakers = shared or frozenset(list(dict.fromkeys(filter(None, (utterance.speaker for utterance in members))))[:SPEAKERS])
    met: set[tuple[str, ...]] = set()
    new: set[int] = set()
    for number, utterance in enumerate(members):
        facts = set(_facts(utterance, speakers, columns)) - met
        if facts:
            met |= facts
            new.add(number)
    others = [number for number in range(len(members)) if number not in new]
    return [members[number] for number in sorted({*new, *others[: max(0, count - len(new))]})]


def _facts(utterance: Utterance, speakers: frozenset[str], columns: Sequence[str]) -> Iterable[tuple[str, ...]]:
    """Yield the kinds that an utterance represents."""
    for label in (utterance.label or "").split():
        yield "label", label, utterance.fold or ""
    for name in columns:
        if name in utterance.labels:
            yield "column", name, utterance.labels[name], utterance.fold or ""
    if utterance.label == "query":  # queries in no document are a kind of their own
        yield "query", str(utterance.relevant is not None)
    if utterance.fold:
        yield "fold", utterance.fold, utterance.speaker or ""
    for phone, _, _ in utterance.phones or ():
        yield "phone", phone
    if utterance.speaker in speakers:
        yield "speaker", str(utterance.speaker)


def _shared_speakers(utterances: Iterable[Utterance], count: int) -> frozenset[str] | None:
    """Return the first `count` speakers of train who are in every other split with speakers; None if there are none."""
    of_split = {
        split: dict.fromkeys(utterance.speaker for utterance in utterances if utterance.split == split and utterance.speaker)
        for split in SPLITS
    }
    others = [set(of_split[split]) for split in SPLITS[1:] if of_split[split]]
    shared = [str(speaker) for speaker in of_split["train"] if all(speaker in other for other in others)] if others else []
    return frozenset(shared[:count]) if shared else None


def _first_trials(listing: Listing, count: int) -> list[Trial]:
    """Choose the first `count` trials of each answer in each split."""
    split_of = {utterance.id: utterance.split for utterance in listing.utterances}
    numbers: Counter[tuple[str | None, bool]] = Counter()
    chosen = []
    for trial in listing.trials:
        kind = (split_of.get(trial.enrolment), trial.same)
        numbers[kind] += 1
        if numbers[kind] <= count:
            chosen.append(trial)
    return chosen


def _with_documents(kept: dict[str, Utterance], utterances: Iterable[Utterance]) -> dict[str, Utterance]:
    """Add the first relevant document of each query, and drop other documents from the queries' lists."""
    known = {utterance.id: utterance for utterance in utterances}
    for query in list(kept.values()):
        names = [name for name in (query.relevant or "").split() if name in known]
        if names and not any(name in kept for name in names):
            kept[names[0]] = known[names[0]]
    return {
        name: dataclasses.replace(utterance, relevant=" ".join(word for word in (utterance.relevant or "").split() if word in kept) or None)
        for name, utterance in kept.items()
    }
