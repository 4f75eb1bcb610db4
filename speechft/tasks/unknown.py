"""Share of a corpus's text that becomes `<unk>` because it is not in a vocabulary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from speechft.tasks.base import LabelSet
from speechft.tasks.pieces import Pieces, train_pieces
from speechft.tasks.spelling import SUPERB_SPELLING, Spelling
from speechft.tasks.vocabularies import UNKNOWN

_SHOWN = 20
"""Most characters listed in a report."""


def unknown_share(targets: Iterable[Tensor], labels: LabelSet) -> float | None:
    """Compute the share of `<unk>` in the symbols of targets, 0 to 1; None for a task whose outputs are not text."""
    if UNKNOWN not in labels.symbols:
        return None
    index = labels.symbols.index(UNKNOWN)
    symbols = unknown = 0
    for target in targets:
        symbols += target.numel()
        unknown += int((target == index).sum())
    return unknown / symbols if symbols else 0.0


def unknown_text(texts: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Report what becomes `<unk>` in a corpus, for tasks whose vocabulary is known before training.

    These are `asr` with SUPERB's letters, and `asr_zh` (or `asr` with `spelling: characters`) with the characters of train.

    Args:
        texts: split -> transcripts.

    Returns:
        Task -> `shares`, split -> share of the symbols as in cells, and `characters`, most common first. Tasks without `<unk>` are left
        out.
    """
    vocabularies: dict[str, Spelling] = {"asr": SUPERB_SPELLING}
    if any(text.strip() for text in texts.get("train", ())):
        vocabularies["asr_zh"] = Pieces(train_pieces(texts["train"], "characters", 0))
    reports = {task: _unknown(vocabulary, texts) for task, vocabulary in vocabularies.items()}
    return {task: missing for task, missing in reports.items() if missing["characters"]}


def _unknown(vocabulary: Spelling, texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    index = vocabulary.vocabulary.index(UNKNOWN)
    shares = {}
    characters: Counter[str] = Counter()
    for split, transcripts in texts.items():
        encoded = [vocabulary.encode(text) for text in transcripts]
        symbols = sum(map(len, encoded))
        shares[split] = round(sum(target.count(index) for target in encoded) / symbols, 6) if symbols else 0.0
        for character, count in Counter("".join(transcripts).upper()).items():
            if index in vocabulary.encode(character):
                characters[character] += count
    return {"shares": shares, "characters": "".join(character for character, _ in characters.most_common(_SHOWN))}
