"""Intent classification (IC): the slots of a command, all of which must be right; accuracy. SUPERB recipe, as in s3prl 0.4.18."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from speechft.errors import TaskError
from speechft.tasks.base import Head, LabelSet, collect
from speechft.tasks.catalog import TASKS
from speechft.tasks.classification import UtteranceClassification
from speechft.tasks.heads import SlotHead

SEPARATOR = "|"
FLUENT_SPEECH_COMMANDS = ("action", "object", "location")


class IntentClassification(UtteranceClassification):
    """IC. The label of a cut holds the value of every slot, e.g. `activate|lights|kitchen`; values count in order of first appearance.

    Options:
        slots: names of the slots; default those of Fluent Speech Commands: action, object, location.
    """

    name = "ic"
    metrics = TASKS["ic"].metrics

    def __init__(self, slots: Sequence[str] = FLUENT_SPEECH_COMMANDS) -> None:
        self.slots = () if isinstance(slots, str) else tuple(slots)
        if not self.slots or len(set(self.slots)) != len(self.slots) or not all(isinstance(slot, str) and slot for slot in self.slots):
            raise TaskError(f"ic: slots={slots!r} must be a list of different names.")

    def values(self, cut: Any) -> tuple[str, ...]:
        """The value of each slot; TaskError if the cut has no label, an empty value, or not one for each slot."""
        label = self.class_name(cut)
        values = tuple(value.strip() for value in label.split(SEPARATOR))
        if len(values) != len(self.slots) or not all(values):
            raise TaskError(f"{cut.id}: label {label!r} is not of the form {SEPARATOR.join(self.slots)}.")
        return values

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """`slot=value` of all slots, one after the other; `extra` has the number of values of each."""
        values = collect(train_cuts, self.values, "The train split", f"have no intent for task {self.name!r}.")
        values_seen = [dict.fromkeys(of_slot) for of_slot in zip(*values, strict=True)]
        if all(len(seen) < 2 for seen in values_seen):
            raise TaskError(f"Task {self.name!r} needs a slot with two values or more, the train split has none.")
        symbols = tuple(f"{slot}={value}" for slot, seen in zip(self.slots, values_seen, strict=True) for value in seen)
        return LabelSet(symbols, {"values_per_slot": [len(seen) for seen in values_seen]})

    def target(self, cut: Any, labels: LabelSet) -> Tensor:
        """Index of each slot's value among the values of that slot, int64 (slots,)."""
        indices = []
        first = 0
        for slot, value, count in zip(self.slots, self.values(cut), labels.extra["values_per_slot"], strict=True):
            known = labels.symbols[first : first + count]
            if f"{slot}={value}" not in known:
                names = ", ".join(symbol.removeprefix(f"{slot}=") for symbol in known)
                raise TaskError(f"{cut.id}: {slot} {value!r} is not among the {count} of the training data ({names}).")
            indices.append(known.index(f"{slot}={value}"))
            first += count
        return torch.tensor(indices)

    def build_head(self, feature_dim: int, labels: LabelSet) -> Head:
        """Linear(D, 256), mean over valid frames, Linear(256, values of all slots)."""
        return SlotHead(feature_dim, labels.extra["values_per_slot"])

    def loss(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:  # noqa: ARG002
        """Sum over slots of the cross entropy, each the mean over the batch, of logits (B, slots, values)."""
        values = torch.stack(list(targets)).to(logits.device)
        return torch.stack([F.cross_entropy(logits[:, slot], values[:, slot]) for slot in range(logits.shape[1])]).sum()

    def statistics(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor], labels: LabelSet) -> dict[str, float]:  # noqa: ARG002
        """Utterances with all slots right, and utterances."""
        right = (logits.argmax(dim=-1) == torch.stack(list(targets)).to(logits.device)).all(dim=-1)
        return {"correct": float(right.sum()), "utterances": float(len(targets))}
