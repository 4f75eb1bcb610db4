"""Decoding and counts that several metrics are made of."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import groupby


def ctc_collapse(frame_labels: Iterable[int], drop: Iterable[int]) -> list[int]:
    """Best-path decoding: merge repeated labels, then leave out those in `drop` (the blank and the end mark)."""
    dropped = frozenset(drop)
    return [label for label, _ in groupby(frame_labels) if label not in dropped]


def edit_distance(hypothesis: Sequence[Hashable], reference: Sequence[Hashable]) -> int:
    """Insertions, deletions and substitutions between two sequences of tokens."""
    from rapidfuzz.distance import Levenshtein

    return int(Levenshtein.distance(hypothesis, reference))


def token_errors(hypothesis: Sequence[str], reference: Sequence[str]) -> tuple[int, int]:
    """Edits and reference tokens of one utterance.

    An empty sequence counts as one empty token, as s3prl 0.4.18 splits the empty string: an empty hypothesis for a reference of
    n >= 1 tokens has n edits all the same, an empty reference counts one token.
    """
    tokens = list(reference) or [""]
    return edit_distance(list(hypothesis) or [""], tokens), len(tokens)
