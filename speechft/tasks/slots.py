"""Slots of an utterance as text with begin and end marks, and the two metrics of slot filling (SUPERB recipe, s3prl 0.4.18)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from speechft.errors import TaskError
from speechft.tasks.metrics import edit_distance
from speechft.tasks.vocabularies import EOS, SPACE, begin_mark, end_mark

OUTSIDE = "O"
_PUNCTUATION = "?!.,;-"
_SLOT = re.compile(r"B-(\S+) (.+?) E-\1")
_INNER_BEGIN, _INNER_END = re.compile(r"B-\S+ "), re.compile(r" E-\S+")
_WORST_MATCH = 100.0
"""A hypothesis whose character error rate reaches this matches no better than none at all."""


def slot_symbols(words: Sequence[str], slots: Sequence[str]) -> list[str]:
    """Symbols of an utterance: letters, spaces, a mark at both edges of each run of equal slot types, and `<eos>`.

    `slots` names the slot type of each word, `O` for none. As in the reference a word of punctuation only (a substring of `?!.,;-`, the
    empty word included) is left out together with the mark at its edge, and with `<eos>` where it is the last word; `&` is read AND;
    neighbouring slots of one type become one.
    """
    symbols: list[str] = []
    last = len(words) - 1
    for position, (word, slot) in enumerate(zip(words, slots, strict=True)):
        if word in _PUNCTUATION:
            continue
        if slot != OUTSIDE and (position == 0 or slots[position - 1] != slot):
            symbols.append(begin_mark(slot))
        symbols += "AND" if word == "&" else word
        if slot != OUTSIDE and (position == last or slots[position + 1] != slot):
            symbols.append(end_mark(slot))
        symbols.append(EOS if position == last else SPACE)
    return symbols


def slot_values(text: str, clean: bool = False) -> dict[str, list[str]]:
    """Slot type -> its values, from text with marks; spaces in a row count as one.

    Args:
        text: decoded symbols.
        clean: leave out marks of other slots inside a value, as the reference does in hypotheses only.

    Raises:
        TaskError: a value or a slot type has `:` or `;`, of which the reference makes its lists.
    """
    values: dict[str, list[str]] = {}
    for slot_type, value in _SLOT.findall(re.sub(r" +", " ", text)):
        cleaned = _INNER_END.sub("", _INNER_BEGIN.sub("", value)) if clean else value
        if set(":;") & set(slot_type + cleaned):
            raise TaskError(f"Slot {slot_type!r} has the value {cleaned!r}: SF cannot score ':' and ';'. Spell them out in the corpus.")
        values.setdefault(slot_type, []).append(cleaned)
    return values


def slot_type_f1(hypothesis: Mapping[str, Sequence[str]], reference: Mapping[str, Sequence[str]]) -> float:
    """F1 of an utterance over the sets of slot types: 1 where both are empty, 0 where one is."""
    if not hypothesis and not reference:
        return 1.0
    return 2.0 * len(hypothesis.keys() & reference.keys()) / (len(hypothesis) + len(reference))


def slot_value_errors(hypothesis: Mapping[str, Sequence[str]], reference: Mapping[str, Sequence[str]]) -> tuple[int, int]:
    """Character edits and reference characters of all reference values of an utterance.

    Each value is compared with the value of the same type that has the lowest character error rate; with nothing where the type is
    missing, or where even the lowest is 100 (as a factor, not in percent) or more.
    """
    edits = characters = 0
    for slot_type, values in reference.items():
        for value in values:
            distances = [edit_distance(candidate, value) for candidate in hypothesis.get(slot_type, ())]
            lowest = min(distances, default=len(value))
            edits += lowest if lowest < _WORST_MATCH * len(value) else len(value)
            characters += len(value)
    return edits, characters
