"""Splits: their names, and a dev split for corpora that lack one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

SPLITS = ("train", "dev", "test")


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
        raise ValueError(f"{len(train_ids)} utterance(s) can not be divided")
    ranked = sorted(train_ids, key=hash_share)
    chosen = {utterance_id for utterance_id in ranked if hash_share(utterance_id) < fraction}
    if not chosen:
        return {ranked[0]}
    if len(chosen) == len(set(ranked)):
        return chosen - {ranked[-1]}
    return chosen
