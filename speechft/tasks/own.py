"""Users' tasks, given by a kind, a name, and the column of the corpus to predict.

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
    """Base class of users' tasks.

    Options of every kind:
        name: name of the task in cells and tables; default: the column.
        label: column of the corpus to predict; the default depends on the kind.
        metric: the reported metric, or several; the first one chooses learning rates and checkpoints on dev.
    """

    kind: ClassVar[str]

    def __init__(self, name: str | None = None, label: str | None = None, metric: MetricNames = None) -> None:
        self.label = nfc(label or KINDS[self.kind].label)
        self.name = name or self.label
        self.metrics = metrics_of(self.name, self.kind, {"metric": metric})

    @property
    def dev_metrics(self) -> tuple[Metric, ...]:
        """Reported metrics, which are also those on dev."""
        return self.metrics

    def value(self, cut: Any) -> str:
        """Return a cut's value in the column; raise TaskError if it is empty."""
        text = column(cut, self.label)
        if text is None:
            raise TaskError(f"{cut.id}: has no {self.label}. Fill the corpus's {self.label} column.")
        return text

    def need_column(self, cuts: Sequence[Any]) -> None:
        """Raise TaskError if the column is empty in all cuts."""
        if all(column(cut, self.label) is None for cut in cuts):
            there = columns_of(cuts)
            raise TaskError(
                f"Task {self.name!r}: no utterance of train has a value in column {self.label!r}.{nearest(self.label, there)} "
                f"Columns with values: {', '.join(there) or 'none'}."
            )

    def scores_by(self, known: Mapping[str, float]) -> dict[str, float]:
        """Select the task's metrics from all metrics of its kind."""
        return {metric.key: known[metric.key.removeprefix(f"{self.name}_")] for metric in self.metrics}


class _OwnUtteranceTask(OwnTask, UtteranceClassification):
    """Base of users' tasks with a head that pools over the utterance."""

    def folds(self, cuts: Sequence[Any]) -> dict[str, dict[str, tuple[Any, ...]]] | None:
        """Divide a corpus with folds, as in emotion recognition."""
        return cross_validation(cuts)


class Classification(_OwnUtteranceTask):
    """One class per utterance: mean-pool head, cross entropy.

    Metrics for N utterances in which class c is the reference R_c times, the prediction P_c times, and both H_c times:

    - `acc`: sum of H_c / N.
    - `uar`: unweighted average recall, the mean of H_c / R_c over the classes with R_c > 0.
    - `f1`: macro F1, the mean of 2 H_c / (R_c + P_c) over the classes with R_c + P_c > 0.
    """

    kind = "classification"

    def class_name(self, cut: Any) -> str:
        """Return the value of the column."""
        return self.value(cut)

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """Return the distinct values in the training split, sorted; at least two."""
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
    """Any number of classes per utterance: mean-pool head, binary cross entropy. An empty cell is an utterance without a class.

    Options:
        separator: text between the classes of a cell (default `|`).
    A class is predicted if its logit is positive. Metrics, with R_c utterances in which class c is present, P_c in which it is predicted,
    and H_c in which it is both:
    - `f1`: macro F1, the mean over all classes of 2 H_c / (R_c + P_c), 0 if R_c + P_c = 0.
    - `f1_micro`: 2 sum H_c / (sum R_c + sum P_c), 0 for 0 / 0.
    """

    kind = "multilabel"

    def __init__(self, name: str | None = None, label: str | None = None, metric: MetricNames = None, separator: str = "|") -> None:
        super().__init__(name, label, metric)
        if not isinstance(separator, str) or not separator:
            raise TaskError(f"Task {self.name!r}: separator={separator!r} must be a nonempty text, such as '|'.")
        self.separator = separator

    def class_names(self, cut: Any) -> list[str]:
        """Return the classes of a cut; none if its cell is empty."""
        return [name.strip() for name in (column(cut, self.label) or "").split(self.separator) if name.strip()]

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """Return the distinct classes in the training split, sorted; at least two."""
        cuts = list(train_cuts)
        self.need_column(cuts)
        return LabelSet(distinct_labels(cuts, self.class_names, self.name, self.label))

    def target(self, cut: Any, labels: LabelSet) -> Tensor:
        """Encode classes as 1 if present and 0 otherwise, float32 (classes,)."""
        names = self.class_names(cut)
        if unknown := [name for name in names if name not in labels.symbols]:
            raise TaskError(f"{cut.id}: class {unknown[0]!r} is not among the {len(labels)} classes of the training data.")
        return torch.tensor([float(symbol in names) for symbol in labels.symbols])

    def loss(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:  # noqa: ARG002
        """Compute the binary cross entropy, mean over batch and classes."""
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
    """A number per utterance: mean-pool head with one output, mean squared error.

    The head is trained on numbers standardized by the mean and standard deviation of the training split (`extra` of the label set). Metrics
    apply to the original numbers, with predictions x and references y of N utterances, and moments over N:
    - `mse`: mean of (x - y)^2, in the square of the column's unit.
    - `pearson`: cov(x, y) / (sd(x) sd(y)), 0 if a deviation is 0.
    - `ccc`: concordance correlation, 2 cov(x, y) / (var(x) + var(y) + (mean(x) - mean(y))^2), 0 for 0 / 0.
    """

    kind = "regression"

    def number(self, cut: Any) -> float:
        """Return the column's number; raise TaskError if it is not a number."""
        text = self.value(cut)
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise TaskError(f"{cut.id}: {self.label} {text!r} is not a number. Correct the corpus's {self.label} column.")
        return number

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """Return the column as the only output; `extra` has mean and standard deviation (over N) of the training split."""
        cuts = list(train_cuts)
        self.need_column(cuts)
        numbers = collect(cuts, self.number, "The train split", f"have no number for task {self.name!r}.")
        mean = math.fsum(numbers) / len(numbers)
        deviation = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / len(numbers))
        # Both tests are needed: rounding can make the mean of equal numbers differ from them, and squares of tiny differences are 0.
        if len(set(numbers)) == 1 or not deviation:
            raise TaskError(f"Task {self.name!r}: column {self.label!r} has the same number {mean:g} in all of train. Name another column.")
        return LabelSet((self.label,), {"mean": mean, "deviation": deviation})

    def target(self, cut: Any, labels: LabelSet) -> Tensor:
        """Encode the standardized number, float32 (1,)."""
        return torch.tensor([(self.number(cut) - labels.extra["mean"]) / labels.extra["deviation"]])

    def build_head(self, feature_dim: int, labels: LabelSet) -> Head:  # noqa: ARG002
        """Build Linear(D, 256), mean over valid frames, Linear(256, 1)."""
        return UtteranceHead(feature_dim, 1)

    def loss(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:  # noqa: ARG002
        """Compute the mean squared error of the standardized numbers."""
        return F.mse_loss(logits.float(), torch.stack(list(targets)).to(logits.device))

    def statistics(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor], labels: LabelSet) -> dict[str, float]:  # noqa: ARG002
        """Sum utterances, values, squares, products, and squared errors in the column's unit.

        Correlations do not depend on the unit, so the other sums use standardized numbers, which avoids cancellation.
        """
        x, y = logits[:, 0].double().cpu(), torch.stack(list(targets))[:, 0].double().cpu()
        sums = {"x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y, "errors": (labels.extra["deviation"] * (x - y)) ** 2}
        return {"utterances": float(len(x)), **{name: float(values.sum()) for name, values in sums.items()}}

    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """Compute the metrics from the sums of a split."""
        count = statistics["utterances"]
        x, y, xx, yy, xy = (statistics[name] / count for name in ("x", "y", "xx", "yy", "xy"))
        var_x, var_y, cov = max(0.0, xx - x * x), max(0.0, yy - y * y), xy - x * y
        spread, apart = math.sqrt(var_x * var_y), var_x + var_y + (x - y) ** 2
        pearson = max(-1.0, min(1.0, cov / spread)) if spread else 0.0
        return self.scores_by({"mse": statistics["errors"] / count, "pearson": pearson, "ccc": 2 * cov / apart if apart else 0.0})


class Transcription(OwnTask, SpeechRecognition):
    """Transcript of each utterance by CTC, with ASR's recurrent head at 256 units.

    Options:
        spelling, pieces, projected, hidden, layers, dropout, spec_augment: see `SpeechRecognition`; `spelling` is "characters" by default.
    Metrics: `cer` and `wer`, edits over the characters (including spaces) and words of the references; case is ignored. With
    `spelling: superb`, `cer` counts symbols, as in s3prl, where every word ends with a bar.
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
        """Return the text of the column."""
        return column(cut, self.label) or ""

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """Return the symbols of the spelling, or those learned from the training texts."""
        cuts = list(train_cuts)
        self.need_column(cuts)
        return super().label_set(cuts)

    @property
    def quotients(self) -> dict[str, tuple[str, str]]:  # type: ignore[override]
        """Quotients of the task's metrics."""
        return {
            metric.key: SpeechRecognition.quotients[WORD_ERRORS.key if metric.key.endswith("_wer") else LETTER_ERRORS.key]
            for metric in self.metrics
        }


class FrameClassification(OwnTask, PhonemeClassification):
    """One class per 20 ms frame: linear head, cross entropy. Frames outside all segments are ignored.

    Segments are the corpus's `phones`, or any column in the same format: `silence:0.00-0.35 speech:0.35-1.20`.
    Metrics: those of `Classification`, over labeled frames.
    """

    kind = "frame_classification"

    def __init__(self, name: str | None = None, label: str | None = None, metric: MetricNames = None) -> None:
        OwnTask.__init__(self, name, label, metric)
        PhonemeClassification.__init__(self, "corpus")

    def segments(self, cut: Any) -> list[tuple[str, float, float]]:
        """Return class, start and end in seconds of each segment, in order of time."""
        if self.label == KINDS[self.kind].label:
            return super().segments(cut)
        try:
            return ordered(cut, list(parse_phones(self.value(cut))))
        except ValueError as error:
            raise TaskError(f"{cut.id}: {self.label}: {error}.") from None

    def statistics(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor], labels: LabelSet) -> dict[str, float]:
        """Count every class over labeled frames."""
        padded = padded_targets(logits, logit_lengths, targets)
        labelled = padded != OUTSIDE
        return class_counts(logits.argmax(dim=-1)[labelled], padded[labelled], len(labels))

    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """The metrics, fractions."""
        return self.scores_by(class_scores(statistics))


class Verification(OwnTask, SpeakerVerification):
    """Same class or not for two utterances, by default same speaker: x-vector head, equal error rate of the corpus's trials.

    Options:
        margin, scale, min_seconds, width, pooled_width: see `SpeakerVerification`; `min_seconds` is 0 by default.
    Metric: `eer`, the equal error rate.
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
        """Accuracy among the training classes, which can be summed over batches."""
        return super(OwnTask, self).dev_metrics

    def class_name(self, cut: Any) -> str:
        """Return the value of the column."""
        return self.value(cut)


def class_counts(predicted: Tensor, references: Tensor, classes: int) -> dict[str, float]:
    """Count hits, references and predictions of each class from class indices, int64 (N,) each."""
    groups = (predicted[predicted == references], references, predicted)
    return _named_counts(*(torch.bincount(indices, minlength=classes) for indices in groups))


def class_scores(statistics: Mapping[str, float]) -> dict[str, float]:
    """Compute accuracy, unweighted average recall and macro F1 from `class_counts`, as fractions (formulas: `Classification`).

    Raises:
        TaskError: there are no counts.
    """
    counts = _counts(statistics)
    total = sum(references for _, references, _ in counts)
    if not total:
        raise TaskError("The split has nothing with a class, so its scores are undefined.")
    recalls = [hits / references for hits, references, _ in counts if references]
    f1 = [_f1(*of_class) for of_class in counts if of_class[1] + of_class[2]]
    return {
        "acc": sum(hits for hits, _, _ in counts) / total,
        "uar": math.fsum(recalls) / len(recalls),
        "f1": math.fsum(f1) / len(f1),
    }


def _named_counts(*counts: Tensor) -> dict[str, float]:
    """Name hits, references and predictions of each class; all classes are included, so that processes can sum them."""
    rows = zip(*(of_kind.tolist() for of_kind in counts), strict=True)
    return {f"{index}.{place}": float(value) for index, row in enumerate(rows) for place, value in enumerate(row)}


def _counts(statistics: Mapping[str, float]) -> list[tuple[float, float, float]]:
    """Invert `_named_counts`."""
    return [(statistics[f"{index}.0"], statistics[f"{index}.1"], statistics[f"{index}.2"]) for index in range(len(statistics) // 3)]


def _f1(hits: float, references: float, predictions: float) -> float:
    return 2 * hits / (references + predictions) if references + predictions else 0.0
