"""Splits: their names, and which recording is in which after a subset was taken and a dev split drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from speechft.conventions import SAMPLE_RATE, SPLITS
from speechft.corpora.utterances import Utterance
from speechft.recipes.corpora import CorpusRecipe, PublishedCorpus

_OTHER_NAMES = dict.fromkeys(("valid", "validation", "val", "development"), "dev")
_OTHER_NAMES |= {"training": "train", "testing": "test", "eval": "test"}
SHORTEST_SECONDS, LONGEST_SECONDS = 1, 60
TRAIN_HOURS = 10
_UNKNOWN = "<unk>"


def wrong_split(name: str) -> str:
    """The complaint about a name that is none of the splits."""
    meant = _OTHER_NAMES.get(name.lower())
    return f"split {name!r} is none of {', '.join(SPLITS)}" + (f"; did you mean {meant!r}?" if meant else "")


def hash_share(utterance_id: str) -> float:
    """A fixed number in [0, 1) for an id, evenly spread over ids: the head of its SHA-1."""
    return int.from_bytes(hashlib.sha1(utterance_id.encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()[:6], "big") / 2**48


def choose_dev(train_ids: Sequence[str], fraction: float) -> set[str]:
    """Ids that move from train to dev: those whose `hash_share` is under `fraction`.

    An id goes to the same side whatever other rows there are. Only where one side would be empty does the id nearest to the
    boundary go there.

    Raises:
        ValueError: fewer than two ids, so that one side stays empty.
    """
    if len(train_ids) < 2:
        raise ValueError(f"{len(train_ids)} utterance(s) cannot be divided")
    ranked = sorted(train_ids, key=hash_share)
    chosen = {utterance_id for utterance_id in ranked if hash_share(utterance_id) < fraction}
    if not chosen:
        return {ranked[0]}
    if len(chosen) == len(set(ranked)):
        return chosen - {ranked[-1]}
    return chosen


def final_splits(
    recipe: CorpusRecipe | PublishedCorpus, utterances: Sequence[Utterance], seconds: Sequence[float] | None
) -> dict[int, Utterance]:
    """Utterances that manifests hold, in their final split, by their position in the corpus.

    They are those of `subset`, with the dev split that `dev_fraction` draws from train. `seconds` are the lengths of the utterances; where
    they are not known yet (None), nothing is left out.
    """
    kept = dict(enumerate(utterances))
    if seconds is not None and getattr(recipe, "subset", None) == "tedlium":
        chosen: set[int] = set()
        for name in SPLITS:
            members = [position for position, utterance in kept.items() if utterance.split == name]
            # Rates may differ within a corpus; lengths are compared in samples of 16 kHz.
            segments = [(round(seconds[position] * SAMPLE_RATE), utterances[position].text or "") for position in members]
            chosen |= {members[number] for number in ted_subset(segments, SAMPLE_RATE, TRAIN_HOURS if name == "train" else None)}
        kept = {position: utterance for position, utterance in kept.items() if position in chosen}
    train = [utterance.id for utterance in kept.values() if utterance.split == "train"]
    dev = choose_dev(train, recipe.dev_fraction) if recipe.dev_fraction is not None and len(train) > 1 else ()
    moved = {
        position: replace(utterance, split="dev")
        for position, utterance in kept.items()
        if utterance.split == "train" and utterance.id in dev
    }
    return kept | moved


def ted_subset(segments: Iterable[tuple[int, str]], sampling_rate: int, max_hours: float | None = TRAIN_HOURS) -> list[int]:
    """Positions of the segments that are used, in the order of the corpus, as the released fine-tuning chooses them.

    Used are segments of 1 to 60 s (both included) whose raw transcript has no `<unk>`; the last one is that with which the total passes
    `max_hours`. Segments marked `ignore_time_segment_in_scoring` are not left out.

    Args:
        segments: number of samples and raw transcript of each segment.
        sampling_rate: of the samples, in Hz.
        max_hours: None takes all, as in the validation and test splits.
    """
    budget = None if max_hours is None else max_hours * 3600 * sampling_rate
    chosen: list[int] = []
    total = 0
    for position, (num_samples, text) in enumerate(segments):
        if budget is not None and total > budget:
            break
        if SHORTEST_SECONDS * sampling_rate <= num_samples <= LONGEST_SECONDS * sampling_rate and _UNKNOWN not in text:
            chosen.append(position)
            total += num_samples
    return chosen
