"""Tasks with one class for each utterance, and the supervision of a cut."""

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
"""Columns that are attributes of lhotse's supervision."""


def supervision(cut: Any) -> Any:
    """The one supervision of a cut; TaskError for none or several."""
    if len(cut.supervisions) != 1:
        raise TaskError(f"{cut.id}: has {len(cut.supervisions)} supervisions, need one. Cut the recording into utterances first.")
    return cut.supervisions[0]


def column(cut: Any, name: str) -> str | None:
    """The value of a column of the corpus, None where it is empty."""
    annotation = supervision(cut)
    value = (cut.custom or {}).get(name) if name == "fold" else (annotation.custom or {}).get(name)
    value = getattr(annotation, name, None) if value is None and name in _OF_SUPERVISION else value
    return None if value in (None, "") else str(value)


def columns_of(cuts: Iterable[Any]) -> list[str]:
    """The columns that have a value in any of the cuts."""
    names = {name for cut in cuts for name in (*(supervision(cut).custom or {}), *_OF_SUPERVISION) if column(cut, name) is not None}
    return sorted(names)


def custom_label(cut: Any) -> str | None:
    """The value of the corpus' label column, None where it is empty."""
    return column(cut, "label")


class UtteranceClassification(Task):
    """Mean-pool head, cross entropy, accuracy."""

    def class_name(self, cut: Any) -> str:
        """Class of a cut, by default its label; TaskError if it has none."""
        label = custom_label(cut)
        if label is None:
            raise TaskError(f"{cut.id}: has no label. Fill the corpus' label column.")
        return label

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """Classes of the training split, sorted by name; at least two."""
        return LabelSet(distinct_labels(train_cuts, lambda cut: [self.class_name(cut)], self.name, "class"))

    def target(self, cut: Any, labels: LabelSet) -> Tensor:
        """Index of the cut's class, int64 ()."""
        name = self.class_name(cut)
        if name not in labels.symbols:
            known = ", ".join(labels.symbols[:12]) + (", ..." if len(labels) > 12 else "")
            raise TaskError(f"{cut.id}: class {name!r} is not among the {len(labels)} classes of the training data ({known}).")
        return torch.tensor(labels.symbols.index(name))

    def build_head(self, feature_dim: int, labels: LabelSet) -> Head:
        """Linear(D, 256), mean over valid frames, Linear(256, number of classes)."""
        return UtteranceHead(feature_dim, len(labels))

    def loss(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:  # noqa: ARG002
        """Cross entropy, mean over the batch."""
        return F.cross_entropy(logits, torch.stack(list(targets)).to(logits.device))

    def statistics(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor], labels: LabelSet) -> dict[str, float]:  # noqa: ARG002
        """Correct utterances and utterances."""
        correct = logits.argmax(dim=-1) == torch.stack(list(targets)).to(logits.device)
        return {"correct": float(correct.sum()), "utterances": float(len(targets))}

    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """Accuracy, a fraction."""
        return {self.selection_metric.key: statistics["correct"] / statistics["utterances"]}
