"""Tasks with one class per utterance, and access to the supervision of a cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from speechft.errors import TaskError
from speechft.tasks.base import Head, LabelSet, Task, distinct_labels
from speechft.tasks.heads import UtteranceHead

_OF_SUPERVISION = ("text", "speaker", "language", "gender")
"""Columns stored as attributes of lhotse's supervision."""


def supervision(cut: Any) -> Any:
    """Return the single supervision of a cut; raise TaskError for none or several."""
    if len(cut.supervisions) != 1:
        raise TaskError(f"{cut.id}: has {len(cut.supervisions)} supervisions, expected one. Cut the recording into utterances first.")
    return cut.supervisions[0]


def column(cut: Any, name: str) -> str | None:
    """Return a cut's value in a column of the corpus; None if empty."""
    annotation = supervision(cut)
    value = (cut.custom or {}).get(name) if name == "fold" else (annotation.custom or {}).get(name)
    value = getattr(annotation, name, None) if value is None and name in _OF_SUPERVISION else value
    return None if value in (None, "") else str(value)


def columns_of(cuts: Iterable[Any]) -> list[str]:
    """Return the columns that have a value in any of the cuts."""
    names = {name for cut in cuts for name in (*(supervision(cut).custom or {}), *_OF_SUPERVISION) if column(cut, name) is not None}
    return sorted(names)


def custom_label(cut: Any) -> str | None:
    """Return a cut's value in the label column; None if empty."""
    return column(cut, "label")


class UtteranceClassification(Task):
    """Base of utterance classification tasks: mean-pool head, cross entropy, accuracy."""

    def class_name(self, cut: Any) -> str:
        """Return the class of a cut, by default its label; raise TaskError if it has none."""
        label = custom_label(cut)
        if label is None:
            raise TaskError(f"{cut.id}: has no label. Fill the corpus's label column.")
        return label

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """Return the classes of the training split, sorted by name; at least two."""
        return LabelSet(distinct_labels(train_cuts, lambda cut: [self.class_name(cut)], self.name, "class"))

    def target(self, cut: Any, labels: LabelSet) -> Tensor:
        """Encode the cut's class as index, int64 ()."""
        name = self.class_name(cut)
        if name not in labels.symbols:
            known = ", ".join(labels.symbols[:12]) + (", ..." if len(labels) > 12 else "")
            raise TaskError(f"{cut.id}: class {name!r} is not among the {len(labels)} classes of the training data ({known}).")
        return torch.tensor(labels.symbols.index(name))

    def build_head(self, feature_dim: int, labels: LabelSet) -> Head:
        """Build Linear(D, 256), mean over valid frames, Linear(256, number of classes)."""
        return UtteranceHead(feature_dim, len(labels))

    def loss(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:  # noqa: ARG002
        """Compute the cross entropy, mean over the batch."""
        return F.cross_entropy(logits, torch.stack(list(targets)).to(logits.device))

    def statistics(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor], labels: LabelSet) -> dict[str, float]:  # noqa: ARG002
        """Count correct utterances and utterances."""
        correct = logits.argmax(dim=-1) == torch.stack(list(targets)).to(logits.device)
        return {"correct": float(correct.sum()), "utterances": float(len(targets))}

    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """Compute the accuracy, a fraction."""
        return {self.selection_metric.key: statistics["correct"] / statistics["utterances"]}
