"""Interface of tasks, for stage 1 and evaluation alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from speechft.errors import TaskError, listing
from speechft.tasks.metric import Metric

T = TypeVar("T")
MINUS_3_DB = 0.70795
"""Gain of the reference's audio chain in KS, QbE and ASV."""
Sampling = Literal["shuffled", "balanced", "windows", "buckets"]
"""Order of training utterances, see speechft.evaluate.data.sampling."""


@dataclass(frozen=True)
class LabelSet:
    """Everything about the outputs of a head that is read from the training data. Serialises as plain JSON.

    `symbols`: output symbols in order of their index (class names, or the CTC vocabulary).
    `extra`: what else a task needs to encode targets, e.g. the pronunciations of PR.
    """

    symbols: tuple[str, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.symbols)

    def to_json(self) -> dict[str, Any]:
        """A plain JSON value."""
        return {"symbols": list(self.symbols), "extra": dict(self.extra)}


@dataclass(frozen=True)
class Crop:
    """A random part of a longer recording: its length, and the smallest number of such parts that stand for it where they are kept."""

    seconds: float
    draws: int = 1


class Head(nn.Module, ABC):
    """Trainable module on top of features."""

    @abstractmethod
    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (B, T, D) with `lengths` (B,) valid frames to logits and their lengths.

        Utterance-level heads return (B, C) and ones (B,); frame-level heads (B, T', C) and lengths (B,).
        """


class Task(ABC):
    """One task. Instances hold options only; everything learned from data is in a `LabelSet`."""

    name: str
    kind: ClassVar[str | None] = None
    """The kind of a task of the user's own (`speechft.tasks.own`)."""
    options: Mapping[str, Any] = MappingProxyType({})
    """Of a task of the user's own, as `get_task` got them: a cell says so where the task was given as an object."""
    metrics: tuple[Metric, ...]
    """The first one selects learning rates and checkpoints on dev."""
    train_crop_seconds: ClassVar[float | None] = None
    """Longer training utterances are cropped at random to this length."""
    sampling: ClassVar[Sampling] = "shuffled"
    """Order of the training utterances in evaluation."""
    balanced_dev: ClassVar[bool] = False
    """Under `protocol: superb` dev is a random draw with replacement that weighs all classes alike."""
    quotients: ClassVar[Mapping[str, tuple[str, str]]] = MappingProxyType({})
    """Metrics that are one of the `statistics` over another, neither of them the number of utterances: metric key -> both names."""
    item: ClassVar[Literal["utterance", "recording", "query"]] = "utterance"
    """What a test set consists of."""
    gain: ClassVar[float] = 1.0
    """Factor that waveforms are multiplied by, where the reference's audio chain has one."""

    def crop(self, cut: Any, split: str) -> Crop | None:  # noqa: ARG002
        """How a cut of `split` is cropped, None for not at all; by default training utterances to `train_crop_seconds`."""
        return Crop(self.train_crop_seconds) if split == "train" and self.train_crop_seconds is not None else None

    def folds(self, cuts: Sequence[Any]) -> Mapping[str, Mapping[str, tuple[Any, ...]]] | None:  # noqa: ARG002
        """Cross-validation on a corpus that has neither dev nor test: fold -> split -> cuts. None where the task or the corpus has none."""
        return None

    @abstractmethod
    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """The outputs of the head, from the lhotse cuts of the training split.

        Raises:
            TaskError: a cut lacks the label that this task predicts.
        """

    @abstractmethod
    def target(self, cut: Any, labels: LabelSet) -> Tensor:
        """Target of one cut: int64 () for utterance classes, int64 (U,) for token sequences, float32 () or (C,) for numbers.

        Raises:
            TaskError: names the cut if it has no label or word, or one that is not in `labels`.
        """

    def check(self, splits: Mapping[str, Iterable[Any]]) -> None:  # noqa: B027 (most tasks need none)
        """Check all splits (name -> cuts) together, before targets are made.

        Raises:
            TaskError: what the task needs besides labels is incomplete; everything that is missing in any split is listed.
        """

    def targets(self, cuts: Iterable[Any], labels: LabelSet, source: str) -> list[Tensor]:
        """Targets of all cuts of `source` (e.g. "the dev split").

        Raises:
            TaskError: lists all cuts without a target, not the first only.
        """
        return collect(cuts, lambda cut: self.target(cut, labels), source, f"have no target for task {self.name!r}.")

    def without_gradient(self, target: Tensor, num_frames: int) -> str | None:  # noqa: ARG002
        """Why an utterance of `num_frames` frames cannot train a head (it stays in its batch with loss 0), or None."""
        return None

    @abstractmethod
    def build_head(self, feature_dim: int, labels: LabelSet) -> Head:
        """A new head, initialised from torch's global generator."""

    @abstractmethod
    def loss(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """Scalar training loss of what the head gives for B utterances, against their targets, as the reference reduces it."""

    @abstractmethod
    def statistics(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor], labels: LabelSet) -> dict[str, float]:
        """Additive counts of what `loss` is of (e.g. edits and reference tokens); summing over batches gives the corpus counts."""

    @abstractmethod
    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """Metric key -> fraction, from the summed statistics of a split."""

    @property
    def dev_metrics(self) -> tuple[Metric, ...]:
        """What `scores` gives, followed on dev during training; the reported metrics, unless those cannot be summed up over batches."""
        return self.metrics

    @property
    def selection_metric(self) -> Metric:
        """The metric that chooses checkpoints and learning rates on dev."""
        return self.dev_metrics[0]


def check_positive(task: str, **options: int) -> None:
    """Raise a TaskError for an option that is not a positive integer."""
    for option, value in options.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise TaskError(f"{task}: {option}={value!r} must be a positive integer.")


def check_choice(task: str, option: str, value: object, allowed: Sequence[str]) -> None:
    """Raise a TaskError for an option that is not one of the `allowed` values."""
    if value not in allowed:
        raise TaskError(f"{task}: {option}={value!r} is unknown. Choose one of {', '.join(allowed)}.")


def collect(cuts: Iterable[Any], function: Callable[[Any], T], source: str, complaint: str) -> list[T]:
    """`function` of every cut of `source`; a TaskError with `complaint` lists all cuts for which it raises one."""
    results: list[T] = []
    problems: list[str] = []
    for cut in cuts:
        try:
            results.append(function(cut))
        except TaskError as error:
            problems.append(str(error))
    if problems:
        raise TaskError(listing(f"{source}: {len(problems)} utterance(s) {complaint}", problems))
    return results


def distinct_labels(cuts: Iterable[Any], labels_of: Callable[[Any], Iterable[str]], task: str, noun: str) -> tuple[str, ...]:
    """All labels of the training cuts, sorted; TaskError for cuts for which `labels_of` raises one, or fewer than two labels."""
    different = {label for labels in collect(cuts, labels_of, "The train split", f"have no {noun} for task {task!r}.") for label in labels}
    if len(different) < 2:
        raise TaskError(f"Task {task!r} needs at least two different labels ({noun}), the train split has {sorted(different) or 'none'}.")
    return tuple(sorted(different))


class WeightedSum(nn.Module):
    """Softmax-weighted sum of all hidden states, weights learned with the head."""

    def __init__(self, num_states: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(num_states))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Reduce (num_states, B, ..., D) to (B, ..., D)."""
        weighted: Tensor = torch.tensordot(torch.softmax(self.weights, dim=0), hidden_states, dims=1)
        return weighted
