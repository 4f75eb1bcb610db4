"""Splits: their names, and the final split of each recording after taking a subset and drawing a dev split."""

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
    """Return the error text for a name that is not a split, with the split that was probably meant."""
    meant = _OTHER_NAMES.get(name.lower())
    return f"split {name!r} is not one of {', '.join(SPLITS)}" + (f"; did you mean {meant!r}?" if meant else "")


def hash_share(utterance_id: str) -> float:
    """Map an id to a fixed number in [0, 1), uniform over ids: the first 48 bits of its SHA-1."""
    return int.from_bytes(hashlib.sha1(utterance_id.encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()[:6], "big") / 2**48


def choose_dev(train_ids: Sequence[str], fraction: float) -> set[str]:
    """Choose the ids that move from train to dev: those whose `hash_share` is below `fraction`.

    The choice for an id does not depend on the other rows, with one exception: if a side would be empty, it gets the id nearest to the
    boundary.

    Raises:
        ValueError: there are fewer than two ids.
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
    """Return the utterances of the manifests in their final splits, keyed by position in the corpus.

    Applies `subset`, then draws dev from train by `dev_fraction`. `seconds` are the lengths of the utterances; if they are not known yet
    (None), `subset` is not applied.
    """
    kept = dict(enumerate(utterances))
    if seconds is not None and getattr(recipe, "subset", None) == "tedlium":
        chosen: set[int] = set()
        for name in SPLITS:
            members = [position for position, utterance in kept.items() if utterance.split == name]
            # Sampling rates may differ within a corpus, so lengths are compared in samples at 16 kHz.
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
    """Choose segments of TED-LIUM as the paper's released fine-tuning does, and return their positions in corpus order.

    Chosen are segments of 1 to 60 s (inclusive) whose raw transcript has no `<unk>`, up to and including the one that takes the total past
    `max_hours`. Segments marked `ignore_time_segment_in_scoring` are kept.

    Args:
        segments: number of samples and raw transcript of each segment.
        sampling_rate: sampling rate of the samples, in Hz.
        max_hours: None means no limit, as in the dev and test splits.
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
