"""Tasks of the user's own: a kind, a name, and the column of the corpus that is predicted.

Heads and losses are those of the SUPERB task of the same kind. The recipes are ours (`speechft.tasks.catalog.KINDS`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from speechft.corpora.phones import parse_phones
from speechft.errors import TaskError, nearest
from speechft.files.text import nfc
from speechft.tasks.asr import LETTER_ERRORS, WORD_ERRORS, SpeechRecognition
from speechft.tasks.asv import SpeakerVerification
from speechft.tasks.base import Head, LabelSet, Sampling, Task, collect, distinct_labels
from speechft.tasks.catalog import KINDS, metrics_of
from speechft.tasks.classification import UtteranceClassification, column, columns_of
from speechft.tasks.er import cross_validation
from speechft.tasks.heads import UtteranceHead
from speechft.tasks.metric import Metric
from speechft.tasks.pc import OUTSIDE, PhonemeClassification, ordered, padded_targets

MetricNames = str | Sequence[str] | None


class OwnTask(Task):
    """A task of the user's own.

    Options of every kind:
        name: names the task in cells and tables; default: the column.
        label: column of the corpus that is predicted; the default depends on the kind.
        metric: the metric that is reported, or several; the first one chooses learning rates and checkpoints on dev.
    """

    kind: ClassVar[str]

    def __init__(self, name: str | None = None, label: str | None = None, metric: MetricNames = None) -> None:
        self.label = nfc(label or KINDS[self.kind].label)
        self.name = name or self.label
        self.metrics = metrics_of(self.name, self.kind, {"metric": metric})

    @property
    def dev_metrics(self) -> tuple[Metric, ...]:
        """The reported metrics."""
        return self.metrics

    def value(self, cut: Any) -> str:
        """What the column says about a cut; TaskError if nothing."""
        text = column(cut, self.label)
        if text is None:
            raise TaskError(f"{cut.id}: has no {self.label}. Fill the corpus' {self.label} column.")
        return text

    def need_column(self, cuts: Sequence[Any]) -> None:
        """Raise a TaskError if the column is empty in all cuts."""
        if all(column(cut, self.label) is None for cut in cuts):
            there = columns_of(cuts)
            raise TaskError(
                f"Task {self.name!r}: no utterance of train has a value in column {self.label!r}.{nearest(self.label, there)} "
                f"Columns with values: {', '.join(there) or 'none'}."
            )

    def scores_by(self, known: Mapping[str, float]) -> dict[str, float]:
        """Pick the task's metrics out of all that its kind has."""
        return {metric.key: known[metric.key.removeprefix(f"{self.name}_")] for metric in self.metrics}


class _OwnUtteranceTask(OwnTask, UtteranceClassification):
    """A task with a head that pools over the utterance."""

    def folds(self, cuts: Sequence[Any]) -> dict[str, dict[str, tuple[Any, ...]]] | None:
        """Divide a corpus that names folds, as emotion recognition does."""
        return cross_validation(cuts)


class Classification(_OwnUtteranceTask):
    """One class for each utterance: mean-pool head, cross entropy.

    Metrics, of N utterances in which class c is the reference R_c times, the prediction P_c times, and both H_c times:

    - `acc`: sum of H_c / N.
    - `uar`: unweighted average recall, the mean of H_c / R_c over the classes with R_c > 0.
    - `f1`: macro F1, the mean of 2 H_c / (R_c + P_c) over the classes with R_c + P_c > 0.
    """

    kind = "classification"

    def class_name(self, cut: Any) -> str:
        """The value of the column."""
        return self.value(cut)

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """The different values of the training split, sorted; at least two."""
        cuts = list(train_cuts)
        self.need_column(cuts)
        return LabelSet(distinct_labels(cuts, lambda cut: [self.class_name(cut)], self.name, self.label))

    def statistics(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor], labels: LabelSet) -> dict[str, float]:  # noqa: ARG002
        """Counts of every class."""
        return class_counts(logits.argmax(dim=-1), torch.stack(list(targets)).to(logits.device), len(labels))

    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """The metrics, fractions."""
        return self.scores_by(class_scores(statistics))


class MultilabelClassification(_OwnUtteranceTask):
    """Any number of classes for each utterance: mean-pool head, binary cross entropy. An empty cell is an utterance without a class.

    Options:
        separator: stands between the classes of a cell (default `|`).

    A class is predicted where its logit is positive. Metrics, with H_c utterances in which class c is both predicted and there, R_c in
    which it is there and P_c in which it is predicted:

    - `f1`: macro F1, the mean over all classes of 2 H_c / (R_c + P_c), 0 where R_c + P_c = 0.
    - `f1_micro`: 2 sum H_c / (sum R_c + sum P_c), 0 where that is 0 / 0.
    """

    kind = "multilabel"

    def __init__(self, name: str | None = None, label: str | None = None, metric: MetricNames = None, separator: str = "|") -> None:
        super().__init__(name, label, metric)
        if not isinstance(separator, str) or not separator:
            raise TaskError(f"Task {self.name!r}: separator={separator!r} must be a text such as '|'.")
        self.separator = separator

    def class_names(self, cut: Any) -> list[str]:
        """The classes of a cut, none where its cell is empty."""
        return [name.strip() for name in (column(cut, self.label) or "").split(self.separator) if name.strip()]

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """The different classes of the training split, sorted; at least two."""
        cuts = list(train_cuts)
        self.need_column(cuts)
        return LabelSet(distinct_labels(cuts, self.class_names, self.name, self.label))

    def target(self, cut: Any, labels: LabelSet) -> Tensor:
        """1 for every class that is there and 0 for the others, float32 (classes,)."""
        names = self.class_names(cut)
        if unknown := [name for name in names if name not in labels.symbols]:
            raise TaskError(f"{cut.id}: class {unknown[0]!r} is not among the {len(labels)} classes of the training data.")
        return torch.tensor([float(symbol in names) for symbol in labels.symbols])

    def loss(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:  # noqa: ARG002
        """Binary cross entropy, mean over batch and classes."""
        return F.binary_cross_entropy_with_logits(logits.float(), torch.stack(list(targets)).to(logits.device))

    def statistics(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor], labels: LabelSet) -> dict[str, float]:  # noqa: ARG002
        """Counts of every class."""
        there, given = torch.stack(list(targets)).to(logits.device) > 0.5, logits > 0
        return _named_counts((there & given).sum(dim=0), there.sum(dim=0), given.sum(dim=0))

    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """The metrics, fractions."""
        counts = _counts(statistics)
        hits, there, given = (sum(column) for column in zip(*counts, strict=True))
        return self.scores_by({"f1": math.fsum(_f1(*of_class) for of_class in counts) / len(counts), "f1_micro": _f1(hits, there, given)})


class Regression(_OwnUtteranceTask):
    """A number for each utterance: mean-pool head with one output, mean squared error.

    The head learns the numbers less the mean of the training split, over its standard deviation (`extra` of the label set). Metrics are
    those of the numbers themselves, with predictions x and references y of N utterances, and moments over N:

    - `mse`: mean of (x - y)^2, in the square of the column's unit.
    - `pearson`: cov(x, y) / (sd(x) sd(y)), 0 where a deviation is 0.
    - `ccc`: concordance correlation, 2 cov(x, y) / (var(x) + var(y) + (mean(x) - mean(y))^2), 0 where that is 0 / 0.
    """

    kind = "regression"

    def number(self, cut: Any) -> float:
        """The column's number; TaskError if it is none."""
        text = self.value(cut)
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise TaskError(f"{cut.id}: {self.label} {text!r} is no number. Correct the corpus' {self.label} column.")
        return number

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """The column as the only output; `extra` has mean and standard deviation (over N) of the training split."""
        cuts = list(train_cuts)
        self.need_column(cuts)
        numbers = collect(cuts, self.number, "The train split", f"have no number for task {self.name!r}.")
        mean = math.fsum(numbers) / len(numbers)
        deviation = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / len(numbers))
        # The mean of equal numbers may be another one by rounding, and squares of tiny differences are 0.
        if len(set(numbers)) == 1 or not deviation:
            raise TaskError(f"Task {self.name!r}: column {self.label!r} has the same number {mean:g} in all of train. Name another one.")
        return LabelSet((self.label,), {"mean": mean, "deviation": deviation})

    def target(self, cut: Any, labels: LabelSet) -> Tensor:
        """The standardized number, float32 (1,)."""
        return torch.tensor([(self.number(cut) - labels.extra["mean"]) / labels.extra["deviation"]])

    def build_head(self, feature_dim: int, labels: LabelSet) -> Head:  # noqa: ARG002
        """Linear(D, 256), mean over valid frames, Linear(256, 1)."""
        return UtteranceHead(feature_dim, 1)

    def loss(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:  # noqa: ARG002
        """Mean squared error of the standardized numbers."""
        return F.mse_loss(logits.float(), torch.stack(list(targets)).to(logits.device))

    def statistics(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor], labels: LabelSet) -> dict[str, float]:  # noqa: ARG002
        """Utterances, sums, squares and products; squared errors in the column's unit.

        Correlations do not depend on the unit, so the other sums are of standardized numbers, which are near 0 and lose no digits.
        """
        x, y = logits[:, 0].double().cpu(), torch.stack(list(targets))[:, 0].double().cpu()
        sums = {"x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y, "errors": (labels.extra["deviation"] * (x - y)) ** 2}
        return {"utterances": float(len(x)), **{name: float(values.sum()) for name, values in sums.items()}}

    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """The metrics, from the sums of a split."""
        count = statistics["utterances"]
        x, y, xx, yy, xy = (statistics[name] / count for name in ("x", "y", "xx", "yy", "xy"))
        var_x, var_y, cov = max(0.0, xx - x * x), max(0.0, yy - y * y), xy - x * y
        spread, apart = math.sqrt(var_x * var_y), var_x + var_y + (x - y) ** 2
        pearson = max(-1.0, min(1.0, cov / spread)) if spread else 0.0
        return self.scores_by({"mse": statistics["errors"] / count, "pearson": pearson, "ccc": 2 * cov / apart if apart else 0.0})


class Transcription(OwnTask, SpeechRecognition):
    """Text of each utterance by CTC, with the recurrent head of ASR at 256 units.

    Options:
        spelling, pieces, projected, hidden, layers, dropout, spec_augment: see `SpeechRecognition`; `spelling` is "characters" by default.

    Metrics: `cer` and `wer`, edits over the characters (spaces included) and words of the references; case does not count. With
    `spelling: superb` `cer` counts symbols, as its reference does: every word ends with a bar.
    """

    kind = "ctc"
    sampling: ClassVar[Sampling] = "shuffled"

    def __init__(
        self,
        name: str | None = None,
        label: str | None = None,
        metric: MetricNames = None,
        spelling: Literal["superb", "tedlium", "characters", "unigram"] = "characters",
        pieces: int = 500,
        projected: int = 256,
        hidden: int = 256,
        **head: Any,
    ) -> None:
        OwnTask.__init__(self, name, label, metric)
        SpeechRecognition.__init__(self, spelling, pieces=pieces, projected=projected, hidden=hidden, **head)

    def text(self, cut: Any) -> str:
        """The text of the column."""
        return column(cut, self.label) or ""

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """The symbols of the spelling, or those of the training texts."""
        cuts = list(train_cuts)
        self.need_column(cuts)
        return super().label_set(cuts)

    @property
    def quotients(self) -> dict[str, tuple[str, str]]:  # type: ignore[override]
        """Those of the metrics."""
        return {
            metric.key: SpeechRecognition.quotients[WORD_ERRORS.key if metric.key.endswith("_wer") else LETTER_ERRORS.key]
            for metric in self.metrics
        }


class FrameClassification(OwnTask, PhonemeClassification):
    """The class of every frame, 20 ms each: linear head, cross entropy. Frames outside of all segments are ignored.

    Segments are the corpus' `phones`, or any column that is written as that one: `silence:0.00-0.35 speech:0.35-1.20`.
    Metrics: those of `Classification`, over labelled frames.
    """

    kind = "frame_classification"

    def __init__(self, name: str | None = None, label: str | None = None, metric: MetricNames = None) -> None:
        OwnTask.__init__(self, name, label, metric)
        PhonemeClassification.__init__(self, "corpus")

    def segments(self, cut: Any) -> list[tuple[str, float, float]]:
        """Class, start and end in seconds, in order of time."""
        if self.label == KINDS[self.kind].label:
            return super().segments(cut)
        try:
            return ordered(cut, list(parse_phones(self.value(cut))))
        except ValueError as error:
            raise TaskError(f"{cut.id}: {self.label}: {error}.") from None

    def statistics(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor], labels: LabelSet) -> dict[str, float]:
        """Counts of every class over labelled frames."""
        padded = padded_targets(logits, logit_lengths, targets)
        labelled = padded != OUTSIDE
        return class_counts(logits.argmax(dim=-1)[labelled], padded[labelled], len(labels))

    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """The metrics, fractions."""
        return self.scores_by(class_scores(statistics))


class Verification(OwnTask, SpeakerVerification):
    """Whether two utterances are of the same class, by default of the same speaker: x-vector head, equal error rate of the corpus' trials.

    Options:
        margin, scale, min_seconds, width, pooled_width: see `SpeakerVerification`; `min_seconds` is 0 by default.

    Metric: `eer`, where misses are as frequent as false alarms.
    """

    kind = "verification"
    gain = 1.0

    def __init__(
        self, name: str | None = None, label: str | None = None, metric: MetricNames = None, min_seconds: float = 0.0, **head: Any
    ) -> None:
        OwnTask.__init__(self, name, label, metric)
        SpeakerVerification.__init__(self, min_seconds=min_seconds, **head)

    @property
    def dev_metrics(self) -> tuple[Metric, ...]:
        """Accuracy among the training classes, which can be counted batch by batch."""
        return super(OwnTask, self).dev_metrics

    def class_name(self, cut: Any) -> str:
        """The value of the column."""
        return self.value(cut)


def class_counts(predicted: Tensor, references: Tensor, classes: int) -> dict[str, float]:
    """Of each class how often it was right, is the reference, and is the prediction; int64 (N,) of class indices each."""
    groups = (predicted[predicted == references], references, predicted)
    return _named_counts(*(torch.bincount(indices, minlength=classes) for indices in groups))


def class_scores(statistics: Mapping[str, float]) -> dict[str, float]:
    """Accuracy, unweighted average recall and macro F1 (formulas: `Classification`), fractions, from `class_counts`.

    Raises:
        TaskError: nothing was counted.
    """
    counts = _counts(statistics)
    total = sum(references for _, references, _ in counts)
    if not total:
        raise TaskError("The split has nothing with a class, so that its scores are not defined.")
    recalls = [hits / references for hits, references, _ in counts if references]
    f1 = [_f1(*of_class) for of_class in counts if of_class[1] + of_class[2]]
    return {
        "acc": sum(hits for hits, _, _ in counts) / total,
        "uar": math.fsum(recalls) / len(recalls),
        "f1": math.fsum(f1) / len(f1),
    }


def _named_counts(*counts: Tensor) -> dict[str, float]:
    """Hits, references and predictions of each class by name; every class is there, so that processes can add them up."""
    rows = zip(*(of_kind.tolist() for of_kind in counts), strict=True)
    return {f"{index}.{place}": float(value) for index, row in enumerate(rows) for place, value in enumerate(row)}


def _counts(statistics: Mapping[str, float]) -> list[tuple[float, float, float]]:
    """The inverse of `_named_counts`."""
    return [(statistics[f"{index}.0"], statistics[f"{index}.1"], statistics[f"{index}.2"]) for index in range(len(statistics) // 3)]


def _f1(hits: float, references: float, predictions: float) -> float:
    return 2 * hits / (references + predictions) if references + predictions else 0.0
