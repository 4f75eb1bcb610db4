"""Slot filling (SF) by CTC: F1 of slot types and CER of slot values.

SUPERB recipe, as in s3prl 0.4.18.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from speechft.errors import TaskError, read_lines
from speechft.files.text import on_disk
from speechft.tasks.base import LabelSet, collect
from speechft.tasks.catalog import TASKS
from speechft.tasks.classification import custom_label, supervision
from speechft.tasks.ctc import RecurrentCTCTask, ctc_collapse, edit_distance
from speechft.tasks.vocabularies import BLANK_INDEX, EOS, EOS_INDEX, SPACE, UNKNOWN, begin_mark, end_mark, slot_filling_vocabulary

OUTSIDE = "O"
"""Label of a word without a slot."""
_PUNCTUATION = "?!.,;-"
_SLOT = re.compile(r"B-(\S+) (.+?) E-\1")
_INNER_BEGIN, _INNER_END = re.compile(r"B-\S+ "), re.compile(r" E-\S+")
_WORST_MATCH = 100.0
"""Character error rate from which a hypothesis counts as missing."""


class SlotFilling(RecurrentCTCTask):
    """Slot filling. The label of a cut has the slot type of each word of its transcript, separated by spaces, `O` for none.

    Options:
        slots: file with one slot type per line, the first one `O`, as SUPERB's `slots.txt`. Default: the types of the training split, by
            decreasing number of words, ties in alphabetical order.
        projected, hidden, layers, dropout, spec_augment: see `RecurrentCTCTask`.
    Transcripts are converted to upper case; characters other than A-Z and the apostrophe become `<unk>`.
    """

    name = "sf"
    metrics = TASKS["sf"].metrics
    quotients: ClassVar = {"SF_CER": ("value_edits", "value_characters")}
    sampling = "windows"

    def __init__(self, slots: str | Path | None = None, **head: Any) -> None:
        super().__init__(**head)
        self.slots_file = None if slots is None else on_disk(Path(slots))

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """Return special symbols, space, letters and two marks per slot type; `extra` has the types.

        Raises:
            TaskError: the file is missing or not a list of slot types, cuts have no slot types (all are listed), or there is no slot at
                all.
        """
        types = self._types_of(train_cuts) if self.slots_file is None else _read_types(self.slots_file)
        odd = [slot_type for slot_type in types if set(":;") & set(slot_type)]
        if odd:
            raise TaskError(f"sf: slot types {', '.join(map(repr, odd))} contain ':' or ';', which the metrics do not allow. Rename them.")
        return LabelSet(slot_filling_vocabulary(types), {"slot_types": list(types)})

    def _types_of(self, cuts: Iterable[Any]) -> list[str]:
        slots = collect(cuts, lambda cut: _words_and_slots(cut)[1], "The train split", "have no slots for task 'sf'.")
        words = Counter(slot_type for types in slots for slot_type in types)
        del words[OUTSIDE]
        if not words:
            raise TaskError("Task 'sf' needs slots, but every word of the train split is labeled 'O'.")
        return sorted(words, key=lambda slot_type: (-words[slot_type], slot_type))

    def target(self, cut: Any, labels: LabelSet) -> Tensor:
        """Encode words and slots as symbol indices, int64 (U,), ending with `<eos>` unless the last word is punctuation."""
        words, slots = _words_and_slots(cut)
        known = labels.extra["slot_types"]
        unknown = sorted(set(slots) - {OUTSIDE, *known})
        if unknown:
            raise TaskError(f"{cut.id}: slot type(s) {', '.join(unknown)} are not among the {len(known)} known ones.")
        index = {symbol: position for position, symbol in enumerate(labels.symbols)}
        return torch.tensor([index.get(symbol, index[UNKNOWN]) for symbol in slot_symbols(words, slots)], dtype=torch.int64)

    def targets(self, cuts: Iterable[Any], labels: LabelSet, source: str) -> list[Tensor]:
        """Encode the targets of all cuts; raise TaskError if none has a slot, since the metrics are then undefined."""
        cuts = list(cuts)
        targets = super().targets(cuts, labels, source)
        if not any(slot_values(self.text(target.tolist(), labels)) for target in targets):
            raise TaskError(f"{source}: none of its {len(cuts)} utterances has a slot, so slot values cannot be scored.")
        return targets

    def decode(self, frame_labels: Iterable[int], labels: LabelSet) -> str:
        """Return the best path's text with slot marks, without blanks and `<eos>`."""
        return self.text(ctc_collapse(frame_labels, drop=(BLANK_INDEX, EOS_INDEX)), labels)

    def text(self, target: Iterable[int], labels: LabelSet) -> str:
        """Return a target's text with slot marks."""
        return "".join(labels.symbols[index] for index in target if index not in (BLANK_INDEX, EOS_INDEX))

    def utterance_statistics(self, frame_labels: Sequence[int], target: Sequence[int], labels: LabelSet) -> dict[str, float]:
        """Compute F1 of slot types, and count edits and characters of the reference's slot values."""
        hypothesis = slot_values(self.decode(frame_labels, labels), clean=True)
        reference = slot_values(self.text(target, labels))
        edits, characters = slot_value_errors(hypothesis, reference)
        return {"f1": slot_type_f1(hypothesis, reference), "utterances": 1.0, "value_edits": edits, "value_characters": characters}

    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """Compute mean F1 over utterances and CER of all slot values, as fractions; raise TaskError without any reference slot value."""
        if not statistics["value_characters"]:
            raise TaskError("The split has no slot value, so the error rate of slot values is undefined.")
        return {
            "SF_F1": statistics["f1"] / statistics["utterances"],
            "SF_CER": statistics["value_edits"] / statistics["value_characters"],
        }


def _words_and_slots(cut: Any) -> tuple[list[str], list[str]]:
    words = (supervision(cut).text or "").upper().split()
    slots = (custom_label(cut) or "").split()
    if not words:
        raise TaskError(f"{cut.id}: has an empty transcript. Fill the corpus's text column or leave the recording out.")
    if len(words) != len(slots):
        raise TaskError(f"{cut.id}: has {len(words)} word(s), but {len(slots)} slot type(s) in its label; write one per word, O for none.")
    return words, slots


def _read_types(path: Path) -> list[str]:
    remedy = "Give SUPERB's slots.txt, or remove the option `slots` to use the types of train."
    lines = read_lines(path, "as the list of slot types", remedy, TaskError)
    types = [line.strip() for line in lines if line.strip()]
    repeated = sorted(slot_type for slot_type, count in Counter(types).items() if count > 1)
    spaced = [slot_type for slot_type in types if len(slot_type.split()) > 1]
    if len(types) < 2 or types[0] != OUTSIDE or repeated or spaced:
        culprits = repeated or spaced or types[:1]
        raise TaskError(f"{path}: not a list of slot types: 'O' first, then one distinct type per line (see {culprits}). {remedy}")
    return types[1:]


def slot_symbols(words: Sequence[str], slots: Sequence[str]) -> list[str]:
    """Convert an utterance to symbols: letters, spaces, marks around each run of equal slot types, and `<eos>`.

    `slots` has the slot type of each word, `O` for none. As in s3prl, a word of only punctuation (a substring of `?!.,;-`, including the
    empty word) is left out together with the mark at its edge, and with `<eos>` if it is the last word; `&` becomes AND; adjacent slots of
    one type become one.
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
    """Extract slot type -> values from text with marks; repeated spaces count as one.

    Args:
        text: decoded symbols.
        clean: remove marks of other slots inside a value, as s3prl does only in hypotheses.

    Raises:
        TaskError: a value or slot type contains `:` or `;`, which s3prl's metrics use as separators.
    """
    values: dict[str, list[str]] = {}
    for slot_type, value in _SLOT.findall(re.sub(r" +", " ", text)):
        cleaned = _INNER_END.sub("", _INNER_BEGIN.sub("", value)) if clean else value
        if set(":;") & set(slot_type + cleaned):
            raise TaskError(f"Slot {slot_type!r} has the value {cleaned!r}: SF cannot score ':' and ';'. Spell them out in the corpus.")
        values.setdefault(slot_type, []).append(cleaned)
    return values


def slot_type_f1(hypothesis: Mapping[str, Sequence[str]], reference: Mapping[str, Sequence[str]]) -> float:
    """Compute F1 of an utterance over the sets of slot types: 1 if both are empty, 0 if one is."""
    if not hypothesis and not reference:
        return 1.0
    return 2.0 * len(hypothesis.keys() & reference.keys()) / (len(hypothesis) + len(reference))


def slot_value_errors(hypothesis: Mapping[str, Sequence[str]], reference: Mapping[str, Sequence[str]]) -> tuple[int, int]:
    """Count character edits and reference characters of all reference values of an utterance.

    Each value is compared with the value of the same type with the lowest character error rate, or with nothing if the type is missing or
    the lowest rate is 100 (a factor, not percent) or more.
    """
    edits = characters = 0
    for slot_type, values in reference.items():
        for value in values:
            distances = [edit_distance(candidate, value) for candidate in hypothesis.get(slot_type, ())]
            lowest = min(distances, default=len(value))
            edits += lowest if lowest < _WORST_MATCH * len(value) else len(value)
            characters += len(value)
    return edits, characters
