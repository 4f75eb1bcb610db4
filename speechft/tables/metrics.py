"""What tables know about metrics. The tasks themselves import torch, and tables are made where there is none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from speechft.errors import TableError


@dataclass(frozen=True)
class TableMetric:
    """A column: `key` names it in cells and published numbers, `task` is the evaluation that gives it (None for scores)."""

    key: str
    name: str
    task: str | None
    higher_is_better: bool
    unit: str = "%"
    decimals: int = 2
    highest: float = 100.0
    """Largest value that a cell can hold; the smallest is 0. Error rates count insertions, so they pass 100 %."""
    signed: bool = False
    """Whether values are differences, which are printed with their sign."""

    @property
    def arrow(self) -> str:
        """Direction of improvement."""
        return "↑" if self.higher_is_better else "↓"

    @property
    def better(self) -> str:
        """Label of an axis that points to the better side."""
        return "better →" if self.higher_is_better else "← better"

    @property
    def title(self) -> str:
        """Heading of the column, e.g. `PR PER % ↓`."""
        words = [self.key.split("_")[0] if self.task else "", self.name, self.unit, self.arrow]
        return " ".join(word for word in words if word)

    def shown(self, value: float) -> str:
        """The value with the decimals that the field prints."""
        # Adding zero turns the -0.00 of a tiny negative number into 0.00.
        return self.shown_difference(value) if self.signed else f"{round(value, self.decimals) + 0.0:.{self.decimals}f}"

    def shown_width(self, value: float) -> str:
        """Half of an interval with the decimals that the field prints."""
        return f"{value:.{self.decimals}f}"

    def shown_difference(self, value: float) -> str:
        """A signed difference."""
        return f"{round(value, self.decimals) + 0.0:+.{self.decimals}f}"


_INSERTIONS = 10_000.0
"""Percent. A hypothesis with a hundred times the words of its reference is no result of a head here."""
_ALL = (
    TableMetric("PR", "PER", "pr", higher_is_better=False, highest=_INSERTIONS),
    TableMetric("ASR", "WER", "asr", higher_is_better=False, highest=_INSERTIONS),
    TableMetric("KS", "acc", "ks", higher_is_better=True),
    TableMetric("QbE", "MTWV", "qbe", higher_is_better=True, unit="", decimals=4, highest=1.0),
    TableMetric("SID", "acc", "sid", higher_is_better=True),
    TableMetric("ASV", "EER", "asv", higher_is_better=False),
    TableMetric("SD", "DER", "sd", higher_is_better=False, highest=_INSERTIONS),
    TableMetric("ER", "acc", "er", higher_is_better=True),
    TableMetric("IC", "acc", "ic", higher_is_better=True),
    TableMetric("SF_F1", "F1", "sf", higher_is_better=True),
    TableMetric("SF_CER", "CER", "sf", higher_is_better=False, highest=_INSERTIONS),
    TableMetric("PC", "frame acc", "pc", higher_is_better=True),
    TableMetric("ASR_ZH_CER", "Mandarin CER", "asr_zh", higher_is_better=False, highest=_INSERTIONS),
    TableMetric("SUPERB_S", "SUPERB_S", None, higher_is_better=True, unit=""),
    TableMetric("SUPERB_FULL", "SUPERB_FULL", None, higher_is_better=True, unit=""),
)
METRICS = {metric.key: metric for metric in _ALL}
EVALUATED_TASKS = tuple(dict.fromkeys(metric.task for metric in _ALL if metric.task is not None))


def task_metrics(tasks: Iterable[str]) -> list[TableMetric]:
    """The columns of evaluation tasks, in their order.

    Raises:
        TableError: a task has no metric here.
    """
    tasks = list(tasks)
    unknown = [task for task in tasks if task not in EVALUATED_TASKS]
    if unknown:
        raise TableError(f"No metric is known of task {', '.join(map(repr, unknown))}. Tasks with metrics: {', '.join(EVALUATED_TASKS)}.")
    return [metric for task in tasks for metric in _ALL if metric.task == task]
