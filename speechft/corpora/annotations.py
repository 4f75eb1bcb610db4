"""Annotations besides the list of recordings: turns of speakers, trials, and documents relevant to queries."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

from speechft.corpora.inspection import RecordingFacts
from speechft.corpora.rttm import Turn, read_rttm
from speechft.corpora.trials import Trial, read_trials, trials_by_split
from speechft.corpora.utterances import Listing, Problem, Utterance
from speechft.recipes.corpora import CorpusRecipe, PublishedCorpus

TOLERANCE_SECONDS = 0.02
"""A turn may end this much after its recording: annotations are rounded."""


def with_turns(recipe: CorpusRecipe | PublishedCorpus, listing: Listing) -> Listing:
    """Add the turns of the corpus' RTTM file to its recordings, in order of time; without `rttm` return the listing unchanged.

    A recording without a turn is a problem; turns of recordings that the table does not list are ignored.

    Raises:
        CorpusError: the RTTM file cannot be used.
    """
    if recipe.rttm is None:
        return listing
    turns: defaultdict[str, list[Turn]] = defaultdict(list)
    for turn in read_rttm(recipe.rttm):
        turns[turn.recording].append(turn)
    utterances = [
        dataclasses.replace(utterance, turns=tuple(sorted(turns[utterance.id]))) if utterance.id in turns else utterance
        for utterance in listing.utterances
    ]
    missing = [Problem(found.row, f"{found.id}: has no turn in {recipe.rttm}") for found in utterances if not found.turns]
    return Listing(utterances, [*listing.problems, *missing])


def turn_problems(utterance: Utterance, facts: RecordingFacts) -> list[Problem]:
    """Report turns that end after their recording."""
    seconds = facts.num_samples / facts.sampling_rate
    late = [turn for turn in utterance.turns if turn.end > seconds + TOLERANCE_SECONDS]
    return [Problem(utterance.row, f"{facts.path}: a turn ends at {turn.end:g} s, the recording at {seconds:g} s") for turn in late]


def relevance_problems(utterances: Sequence[Utterance]) -> list[Problem]:
    """Report queries that name documents which the table does not list."""
    ids = {utterance.id for utterance in utterances}
    problems = []
    for utterance in utterances:
        unknown = [name for name in (utterance.relevant or "").split() if name not in ids]
        if unknown:
            problems.append(Problem(utterance.row, f"relevant: no recording has the id {', '.join(map(repr, unknown))}"))
    return problems


def corpus_trials(recipe: CorpusRecipe | PublishedCorpus, listed: Sequence[Trial]) -> Sequence[Trial]:
    """The trials that the listing has, or those of the file `trials`."""
    return read_trials(recipe.trials) if isinstance(recipe, CorpusRecipe) and recipe.trials and not listed else listed


def checked_trials(
    recipe: CorpusRecipe | PublishedCorpus, listed: Sequence[Trial], utterances: Sequence[Utterance]
) -> dict[str, list[Trial]]:
    """Trials of dev and test: those that the listing has, or those of the file `trials`; none without either.

    Raises:
        CorpusError: the list cannot be used, names unknown recordings or pairs recordings of different splits.
    """
    trials = corpus_trials(recipe, listed)
    if not trials:
        return {}
    return trials_by_split(trials, {utterance.id: utterance.split for utterance in utterances}, str(getattr(recipe, "trials", recipe.path)))
