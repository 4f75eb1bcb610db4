"""Check a corpus: its lists, the headers of its recordings, then every recording itself."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from speechft.conventions import SPLITS
from speechft.corpora.annotations import checked_trials, late_problems, relevance_problems
from speechft.corpora.inspection import NO_SUCH_FILE, RecordingFacts, inspect_all
from speechft.corpora.published import counted, differences, sizes_of_lists
from speechft.corpora.splits import final_splits
from speechft.corpora.utterances import Count, Listing, Problem, Utterance
from speechft.errors import CorpusError
from speechft.recipes.corpora import CorpusRecipe, PublishedCorpus

Recipe = CorpusRecipe | PublishedCorpus
Checked = tuple[Utterance, RecordingFacts]
TOLERANCE_PART_SECONDS = 1.0
"""A part may end this much after its recording and is then truncated: transcripts of talks often overrun in the last segment."""


@dataclass(frozen=True)
class Examination:
    """Result of checking a corpus: intact recordings, published sizes with those found, problems, and remarks on differences."""

    checked: list[Checked]
    seconds: list[float]
    """Length of each listed utterance; 0 if its recording cannot be used."""
    sizes: list[tuple[Count, float]]
    problems: list[Problem]
    remarks: list[str]


def examine(recipe: Recipe, listing: Listing, *, decode: bool, threads: int = 1) -> Examination:
    """Check the lists and recordings of a corpus.

    With `decode`, recordings are decoded completely, in `threads` processes; this can take hours. If the lists have problems, only headers
    are read, so that the report comes at once. Problems in single rows of a user's own table do not prevent decoding: its report covers
    every row anyway.
    """
    complete = isinstance(recipe, PublishedCorpus) and recipe.complete
    problems = [*listing.problems, *_split_problems(recipe, listing), *relevance_problems(listing.utterances)]
    try:
        checked_trials(recipe, listing.trials, list(final_splits(recipe, listing.utterances, None).values()))
    except CorpusError as error:
        problems += [Problem(0, line) for line in (str(error).splitlines()[0], *error.problems)]
    problems += _missing_recordings(recipe, listing.utterances)
    if decode:
        problems += [Problem(0, sentence) for sentence in listing.to_fetch]
    different, remarks = differences(sizes_of_lists(listing), complete)

    of_lists = [problem for problem in problems if not (isinstance(recipe, CorpusRecipe) and problem.row)]
    paths = list(dict.fromkeys(utterance.path for utterance in listing.utterances))
    results = inspect_all(
        paths, recipe.channel, f"checking {recipe.path.name}", decode=decode and not (different or of_lists), processes=threads
    )
    of_path = dict(zip(paths, results, strict=True))
    checked: list[Checked] = []
    seconds: list[float] = []
    for utterance in listing.utterances:
        result = of_path[utterance.path]
        if not isinstance(result, str):
            result = _part(utterance, result)
        if isinstance(result, str):
            problems.append(Problem(utterance.row, result))
            seconds.append(0.0)
        else:
            problems += late_problems(utterance, result)
            checked.append((utterance, result))
            seconds.append(result.num_samples / result.sampling_rate)
    sizes = [(count, counted(count, listing.utterances, listing.trials, seconds)) for count in listing.expected]
    if len(checked) == len(listing.utterances):
        different, remarks = differences(sizes, complete)
    problems += [Problem(0, sentence) for sentence in different]
    return Examination(checked, seconds, sizes, list(dict.fromkeys(problems)), remarks)


def _missing_recordings(recipe: Recipe, utterances: Sequence[Utterance]) -> list[Problem]:
    there = {path: path.exists() for path in dict.fromkeys(utterance.path for utterance in utterances)}
    problems = [Problem(utterance.row, f"{utterance.path}: {NO_SUCH_FILE}") for utterance in utterances if not there[utterance.path]]
    if isinstance(recipe, CorpusRecipe) and len(problems) == len(utterances) > 1:
        problems.append(Problem(0, "no recording exists at its path; set `audio_root` to the folder that the paths are relative to"))
    return problems


def _part(utterance: Utterance, facts: RecordingFacts) -> RecordingFacts | str:
    """Restrict the facts to the utterance's part of the recording (all of it without times), or say why the part is invalid."""
    if utterance.start is None or utterance.end is None:
        return facts
    first, end = round(utterance.start * facts.sampling_rate), round(utterance.end * facts.sampling_rate)
    seconds = facts.num_samples / facts.sampling_rate
    if not 0 <= first < end or end > facts.num_samples + TOLERANCE_PART_SECONDS * facts.sampling_rate or first >= facts.num_samples:
        return f"{facts.path}: {utterance.id} is from {utterance.start:g} s to {utterance.end:g} s, but the recording lasts {seconds:g} s"
    end = min(end, facts.num_samples)
    return dataclasses.replace(facts, num_samples=end - first, first_sample=first, of_samples=facts.num_samples)


def _split_problems(recipe: Recipe, listing: Listing) -> list[Problem]:
    """Report empty splits that must have rows, and a `dev_fraction` that cannot be drawn."""
    sizes = Counter(utterance.split for utterance in listing.utterances)
    if not sizes or not any(split in sizes for split in SPLITS):
        return []  # reported already: no rows, or none with a valid split
    problems = []
    searched = any(utterance.relevant for utterance in listing.utterances)  # QbE needs no training data
    if not sizes["train"] and recipe.default_split in (None, "train") and not searched:
        problems.append(Problem(0, "split 'train' has no rows"))
    if recipe.dev_fraction is not None:
        if sizes["dev"]:
            problems.append(Problem(0, f"`dev_fraction` is set, but split 'dev' already has {sizes['dev']} rows; remove one of the two"))
        elif sizes["train"] < 2:
            problems.append(Problem(0, f"`dev_fraction` divides split 'train', which has {sizes['train']} row(s); it needs 2"))
    return problems
