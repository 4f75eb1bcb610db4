"""Splits: their names, and which recording is in which after a subset was taken and a dev split drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from speechft.conventions import SAMPLE_RATE, SPLITS
from speechft.corpora.readers.ted_subset import TRAIN_HOURS, ted_subset
from speechft.corpora.utterances import Utterance
from speechft.recipes.corpora import CorpusRecipe, PublishedCorpus


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
) -> dict[int, str]:
    """Position -> split of the utterances that manifests hold: those of `subset`, with the dev split that `dev_fraction` draws from train.

    `seconds` are the lengths of the utterances; where they are not known yet (None), nothing is left out.
    """
    splits = {position: utterance.split for position, utterance in enumerate(utterances)}
    if seconds is not None and getattr(recipe, "subset", None) == "tedlium":
        kept = {position for split in SPLITS for position in _ted_subset(utterances, seconds, split)}
        splits = {position: split for position, split in splits.items() if position in kept}
    train = [utterances[position].id for position, split in splits.items() if split == "train"]
    if recipe.dev_fraction is not None and len(train) > 1:
        dev = choose_dev(train, recipe.dev_fraction)
        splits |= {position: "dev" for position, split in splits.items() if split == "train" and utterances[position].id in dev}
    return splits


def _ted_subset(utterances: Sequence[Utterance], seconds: Sequence[float], split: str) -> list[int]:
    """What the fine-tuning on TED-LIUM 3 uses of a split: ten hours of train, all of the others."""
    members = [position for position, utterance in enumerate(utterances) if utterance.split == split]
    # Rates may differ within a corpus; lengths are compared in samples of 16 kHz.
    segments = [(round(seconds[position] * SAMPLE_RATE), utterances[position].text or "") for position in members]
    return [members[number] for number in ted_subset(segments, SAMPLE_RATE, TRAIN_HOURS if split == "train" else None)]
