"""Interface of tasks, for stage 1 and evaluation."""

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
"""Gain that s3prl applies to waveforms in KS, QbE and ASV."""
Sampling = Literal["shuffled", "balanced", "windows", "buckets"]
"""Order of training utterances; see `speechft.evaluate.data.sampling`."""


@dataclass(frozen=True)
class LabelSet:
    """Outputs of a head, as determined from the training data; serializable as plain JSON.

    `symbols`: output symbols by index (class names, or the CTC vocabulary).
    `extra`: other data that a task needs to encode targets, such as the lexicons of PR.
    """

    symbols: tuple[str, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.symbols)

    def to_json(self) -> dict[str, Any]:
        """Convert to a plain JSON value."""
        return {"symbols": list(self.symbols), "extra": dict(self.extra)}


@dataclass(frozen=True)
class Crop:
    """Random crop of a longer recording: its length, and the minimum number of crops if they are drawn once and kept."""

    seconds: float
    draws: int = 1


class Head(nn.Module, ABC):
    """Trainable module on top of encoder features."""

    @abstractmethod
    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (B, T, D) with `lengths` (B,) valid frames to logits and their lengths.

        Utterance-level heads return (B, C) and ones (B,); frame-level heads (B, T', C) and lengths (B,).
        """


class Task(ABC):
    """Base class of tasks. Instances contain only options; everything learned from data is in a `LabelSet`."""

    name: str
    kind: ClassVar[str | None] = None
    """Kind of a user's task (`speechft.tasks.own`)."""
    options: Mapping[str, Any] = MappingProxyType({})
    """Options of a user's task as passed to `get_task`, recorded in the cell if the task was given as an object."""
    metrics: tuple[Metric, ...]
    """Reported metrics; the first one selects learning rates and checkpoints on dev."""
    train_crop_seconds: ClassVar[float | None] = None
    """Length to which longer training utterances are cropped at random."""
    sampling: ClassVar[Sampling] = "shuffled"
    """Order of the training utterances in evaluation."""
    balanced_dev: ClassVar[bool] = False
    """Whether, with `protocol: superb`, dev is a random draw with replacement in which all classes are equally likely."""
    quotients: ClassVar[Mapping[str, tuple[str, str]]] = MappingProxyType({})
    """Metrics that are a quotient of two `statistics`, neither of them the number of utterances: metric key -> both names."""
    item: ClassVar[Literal["utterance", "recording", "query"]] = "utterance"
    """Unit of a test set."""
    gain: ClassVar[float] = 1.0
    """Factor applied to waveforms, as in s3prl."""

    def crop(self, cut: Any, split: str) -> Crop | None:  # noqa: ARG002
        """Return how a cut of `split` is cropped, or None; by default training utterances to `train_crop_seconds`."""
        return Crop(self.train_crop_seconds) if split == "train" and self.train_crop_seconds is not None else None

    def folds(self, cuts: Sequence[Any]) -> Mapping[str, Mapping[str, tuple[Any, ...]]] | None:  # noqa: ARG002
        """Return fold -> split -> cuts for cross-validation on a corpus without dev and test; None if the task or corpus has no folds."""
        return None

    @abstractmethod
    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """Determine the outputs of the head from the lhotse cuts of the training split.

        Raises:
            TaskError: a cut does not have the label that this task predicts.
        """

    @abstractmethod
    def target(self, cut: Any, labels: LabelSet) -> Tensor:
        """Encode the target of a cut: int64 () for utterance classes, int64 (U,) for token sequences, float32 () or (C,) for numbers.

        Raises:
            TaskError: the cut has no label or word, or one that is not in `labels`; names the cut.
        """

    def check(self, splits: Mapping[str, Iterable[Any]]) -> None:  # noqa: B027 (most tasks need none)
        """Check all splits (name -> cuts) together, before targets are encoded.

        Raises:
            TaskError: other data that the task needs is incomplete; everything missing in any split is listed.
        """

    def targets(self, cuts: Iterable[Any], labels: LabelSet, source: str) -> list[Tensor]:
        """Encode the targets of all cuts of `source`, such as "the dev split".

        Raises:
            TaskError: cuts have no target; all are listed.
        """
        return collect(cuts, lambda cut: self.target(cut, labels), source, f"have no target for task {self.name!r}.")

    def without_gradient(self, target: Tensor, num_frames: int) -> str | None:  # noqa: ARG002
        """Say why an utterance of `num_frames` frames has no gradient (it stays in its batch with loss 0); None if it has."""
        return None

    @abstractmethod
    def build_head(self, feature_dim: int, labels: LabelSet) -> Head:
        """Build a new head, initialized from torch's global generator."""

    @abstractmethod
    def loss(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """Compute the scalar training loss of the head's logits for B utterances, reduced as in s3prl."""

    @abstractmethod
    def statistics(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor], labels: LabelSet) -> dict[str, float]:
        """Count additive statistics of a batch, such as edits and reference tokens, whose sums over batches are those of the corpus."""

    @abstractmethod
    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """Compute metric key -> fraction from the summed statistics of a split."""

    @property
    def dev_metrics(self) -> tuple[Metric, ...]:
        """Metrics on dev during training, returned by `scores`: the reported metrics, unless these cannot be summed over batches."""
        return self.metrics

    @property
    def selection_metric(self) -> Metric:
        """Metric that chooses checkpoints and learning rates on dev."""
        return self.dev_metrics[0]


def check_positive(task: str, **options: int) -> None:
    """Raise TaskError for an option that is not a positive integer."""
    for option, value in options.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise TaskError(f"{task}: {option}={value!r} must be a positive integer.")


def check_choice(task: str, option: str, value: object, allowed: Sequence[str]) -> None:
    """Raise TaskError for an option that is not one of the `allowed` values."""
    if value not in allowed:
        raise TaskError(f"{task}: {option}={value!r} is unknown. Choose one of {', '.join(allowed)}.")


def collect(cuts: Iterable[Any], function: Callable[[Any], T], source: str, complaint: str) -> list[T]:
    """Apply `function` to every cut of `source`; collect its TaskErrors into one with `complaint`."""
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
    """Return all labels of the training cuts, sorted; raise TaskError if `labels_of` does, or for fewer than two labels."""
    different = {label for labels in collect(cuts, labels_of, "The train split", f"have no {noun} for task {task!r}.") for label in labels}
    if len(different) < 2:
        raise TaskError(
            f"Task {task!r} needs at least two different labels ({noun}), but the train split has {sorted(different) or 'none'}."
        )
    return tuple(sorted(different))


class WeightedSum(nn.Module):
    """Sum of all hidden states, weighted by the softmax of layer weights that are trained with the head."""

    def __init__(self, num_states: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(num_states))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Sum hidden states (num_states, B, ..., D) to (B, ..., D)."""
        weighted: Tensor = torch.tensordot(torch.softmax(self.weights, dim=0), hidden_states, dims=1)
        return weighted
