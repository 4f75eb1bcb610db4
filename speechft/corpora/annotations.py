"""Annotations in addition to the list of recordings: speaker turns, trials, and documents relevant to queries."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from speechft.corpora.inspection import RecordingFacts
from speechft.corpora.rttm import turns_by_recording
from speechft.corpora.trials import Trial, read_trials, trials_by_split
from speechft.corpora.utterances import Listing, Problem, Utterance
from speechft.recipes.corpora import CorpusRecipe, PublishedCorpus

TURN_TOLERANCE_SECONDS, PHONE_TOLERANCE_SECONDS = 0.02, 0.01
"""Time by which a turn or the last phone may end after its recording: annotations are rounded, and aligners count in frames."""


def with_turns(recipe: CorpusRecipe | PublishedCorpus, listing: Listing) -> Listing:
    """Add the turns of the corpus's RTTM file to its recordings, in order of time; without `rttm`, return the listing unchanged.

    A recording without turns is a problem; turns of unlisted recordings are ignored.

    Raises:
        CorpusError: the RTTM file cannot be used.
    """
    if recipe.rttm is None:
        return listing
    turns = turns_by_recording(recipe.rttm)
    utterances = [dataclasses.replace(utterance, turns=turns.get(utterance.id, ())) for utterance in listing.utterances]
    missing = [Problem(utterance.row, f"{utterance.id}: no turn in {recipe.rttm}") for utterance in utterances if not utterance.turns]
    return dataclasses.replace(listing, utterances=utterances, problems=[*listing.problems, *missing])


def late_problems(utterance: Utterance, facts: RecordingFacts) -> list[Problem]:
    """Report phones and turns that end after their recording."""
    seconds = facts.num_samples / facts.sampling_rate
    late = [f"its last phone ends at {end:g} s" for _, _, end in (utterance.phones or ())[-1:] if end > seconds + PHONE_TOLERANCE_SECONDS]
    late += [f"a turn ends at {turn.end:g} s" for turn in utterance.turns if turn.end > seconds + TURN_TOLERANCE_SECONDS]
    return [Problem(utterance.row, f"{facts.path}: {complaint}, but the recording at {seconds:g} s") for complaint in late]


def relevance_problems(utterances: Sequence[Utterance]) -> list[Problem]:
    """Report queries whose relevant documents are not in the table."""
    ids = {utterance.id for utterance in utterances}
    problems = []
    for utterance in utterances:
        unknown = [name for name in (utterance.relevant or "").split() if name not in ids]
        if unknown:
            problems.append(Problem(utterance.row, f"relevant: no recording has the id {', '.join(map(repr, unknown))}"))
    return problems


def corpus_trials(recipe: CorpusRecipe | PublishedCorpus, listed: Sequence[Trial]) -> Sequence[Trial]:
    """Return the listed trials, else those of the file `trials`.

    Raises:
        CorpusError: the file cannot be used.
    """
    return read_trials(recipe.trials) if isinstance(recipe, CorpusRecipe) and recipe.trials and not listed else listed


def checked_trials(
    recipe: CorpusRecipe | PublishedCorpus, listed: Sequence[Trial], utterances: Sequence[Utterance]
) -> dict[str, list[Trial]]:
    """Return the trials of dev and test; empty if the corpus has no trials.

    Raises:
        CorpusError: the list cannot be used, names unknown recordings, or pairs recordings of different splits.
    """
    trials = corpus_trials(recipe, listed)
    if not trials:
        return {}
    return trials_by_split(trials, {utterance.id: utterance.split for utterance in utterances}, str(getattr(recipe, "trials", recipe.path)))
