"""Intent classification (IC): accuracy, with all slots of a command correct. SUPERB recipe, as in s3prl 0.4.18."""

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
    """Intent classification. The label of a cut has one value per slot, such as `activate|lights|kitchen`.

    Values are numbered in order of first appearance.
    Options:
        slots: names of the slots; by default those of Fluent Speech Commands: action, object, location.
    """

    name = "ic"
    metrics = TASKS["ic"].metrics

    def __init__(self, slots: Sequence[str] = FLUENT_SPEECH_COMMANDS) -> None:
        self.slots = () if isinstance(slots, str) else tuple(slots)
        if not self.slots or len(set(self.slots)) != len(self.slots) or not all(isinstance(slot, str) and slot for slot in self.slots):
            raise TaskError(f"ic: slots={slots!r} must be a list of distinct names.")

    def values(self, cut: Any) -> tuple[str, ...]:
        """Return the value of each slot; raise TaskError if the cut has no label, an empty value, or not one value per slot."""
        label = self.class_name(cut)
        values = tuple(value.strip() for value in label.split(SEPARATOR))
        if len(values) != len(self.slots) or not all(values):
            raise TaskError(f"{cut.id}: label {label!r} does not have the form {SEPARATOR.join(self.slots)}.")
        return values

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """Return `slot=value` for all values, slot by slot; `extra` has the number of values of each slot."""
        values = collect(train_cuts, self.values, "The train split", f"have no intent for task {self.name!r}.")
        values_seen = [dict.fromkeys(of_slot) for of_slot in zip(*values, strict=True)]
        if all(len(seen) < 2 for seen in values_seen):
            raise TaskError(f"Task {self.name!r} needs a slot with at least two values, but the train split has none.")
        symbols = tuple(f"{slot}={value}" for slot, seen in zip(self.slots, values_seen, strict=True) for value in seen)
        return LabelSet(symbols, {"values_per_slot": [len(seen) for seen in values_seen]})

    def target(self, cut: Any, labels: LabelSet) -> Tensor:
        """Encode each slot's value as index among the values of that slot, int64 (slots,)."""
        indices = []
        first = 0
        for slot, value, count in zip(self.slots, self.values(cut), labels.extra["values_per_slot"], strict=True):
            known = labels.symbols[first : first + count]
            if f"{slot}={value}" not in known:
                names = ", ".join(symbol.removeprefix(f"{slot}=") for symbol in known)
                raise TaskError(f"{cut.id}: {slot} {value!r} is not among the {count} values in the training data ({names}).")
            indices.append(known.index(f"{slot}={value}"))
            first += count
        return torch.tensor(indices)

    def build_head(self, feature_dim: int, labels: LabelSet) -> Head:
        """Build Linear(D, 256), mean over valid frames, Linear(256, values of all slots)."""
        return SlotHead(feature_dim, labels.extra["values_per_slot"])

    def loss(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:  # noqa: ARG002
        """Sum the slots' cross entropies, each a mean over the batch, of logits (B, slots, values)."""
        values = torch.stack(list(targets)).to(logits.device)
        return torch.stack([F.cross_entropy(logits[:, slot], values[:, slot]) for slot in range(logits.shape[1])]).sum()

    def statistics(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor], labels: LabelSet) -> dict[str, float]:  # noqa: ARG002
        """Count utterances with all slots correct, and utterances."""
        right = (logits.argmax(dim=-1) == torch.stack(list(targets)).to(logits.device)).all(dim=-1)
        return {"correct": float(right.sum()), "utterances": float(len(targets))}
