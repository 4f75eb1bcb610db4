"""Format-independent table: rows are models, columns are metrics and scores."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from speechft.recipes.tables import TableRow
from speechft.tables.estimate import Estimate, surely_best
from speechft.tasks.metric import Metric

BF16_MARK = "†"


@dataclass(frozen=True)
class Entry:
    """One entry of a table: our values, the published number, both or neither."""

    values: tuple[float, ...] = ()
    """One value per seed."""
    published: float | None = None
    source: str | None = None
    """Source of the published number (first- or second-hand), if known."""
    protocol: str | None = None
    precision: str | None = None
    """Precision of the encoder; None for a score over tasks."""
    module: str | None = None
    """Name of the class, if the encoder is a module of the user's own."""
    one_by_one: bool = False
    """Whether the module's features depend on the batch, so that every utterance was encoded by itself."""
    unknown: float | None = None
    """Share of test symbols that are not in the task's vocabulary."""
    comparable: bool = True
    """Whether ours minus published is meaningful."""
    defined: bool = True
    """False if no value of ours is possible, such as a SUPERB score of cells under another protocol."""
    alone: bool = False
    """Whether the row has only published numbers, so that nothing is pending."""
    estimate: Estimate | None = None
    """The number itself, if it is not the mean of `values`, such as a score over tasks."""

    @cached_property
    def number(self) -> Estimate | None:
        """Our number with its uncertainty; None while pending."""
        return self.estimate or (Estimate((self.values,)) if self.values else None)

    @property
    def drawn(self) -> str | None:
        """What the interval's bootstrap draws: `speakers`, `utterances`, ...; None if the interval is over seeds only."""
        items = self.number.items.values() if self.number else ()
        return ", ".join(dict.fromkeys(item.drawn for item in items)) or None

    @property
    def seeds(self) -> int:
        """Number of seeds; for a score over tasks, the largest of any task."""
        return max(map(len, self.number.samples)) if self.number else 0

    @property
    def mean(self) -> float | None:
        """Mean over seeds; None while pending."""
        return self.number.mean if self.number else None

    @cached_property
    def std(self) -> float | None:
        """Standard deviation over seeds (n - 1); None for one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % confidence interval; None with one seed and no items."""
        return self.number.half_width if self.number else None

    @property
    def difference(self) -> float | None:
        """Ours minus published; None if either is missing or they are not comparable."""
        if self.mean is None or self.published is None or not self.comparable:
            return None
        return self.mean - self.published

    @property
    def status(self) -> str:
        """`measured`, `pending`, `undefined`, or `published` in a row with only published numbers."""
        if self.alone and self.published is not None:
            return "published"
        return "measured" if self.number else "pending" if self.defined else "undefined"


@dataclass(frozen=True)
class Column:
    """A metric or score and its entry in every row."""

    metric: Metric
    entries: tuple[Entry, ...]

    @cached_property
    def bold(self) -> frozenset[int]:
        """Rows in bold: the best if better than every other by more than the interval; or differences whose interval excludes 0."""
        numbers = {row: entry.number for row, entry in enumerate(self.entries) if entry.number is not None}
        if self.metric.signed:
            return frozenset(row for row, number in numbers.items() if number.excludes_0)
        return surely_best(numbers, self.metric.higher_is_better)


@dataclass(frozen=True)
class Table:
    """A table ready to be written in any format."""

    name: str
    title: str
    rows: tuple[TableRow, ...]
    columns: tuple[Column, ...]
    hashes: tuple[str, ...]
    """SHA-256 of the weights of each row's model; empty until a cell is known."""
    notes: tuple[str, ...]
    """Notes on the numbers."""
    legend: tuple[str, ...]
    """Explanations of the entries."""
    command: str | None = None
    """Command that computes a cell when encoder/finetuning/method/task.json is appended."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """encoder/finetuning/method/task -> why the cell is pending, if known."""

    def reason_of(self, row: int, column: Column) -> str | None:
        """Reason why a cell is pending, if known."""
        if column.metric.task is None or column.entries[row].number:
            return None
        return self.reasons.get(f"{model_name(self.rows[row])}/{column.metric.task}")

    def label(self, row: int) -> str:
        """Label of a row, marked if the encoder ran in bf16."""
        marked = any(column.entries[row].precision == "bf16" for column in self.columns)
        return f"{self.rows[row].label}{BF16_MARK if marked else ''}"

    def command_of(self, row: int, column: Column) -> str | None:
        """Command that computes a pending cell; None if it is not pending or the command is unknown."""
        entry = column.entries[row]
        if self.command is None or column.metric.task is None or entry.number or not entry.defined:
            return None
        return f"{self.command}{shlex.quote(model_name(self.rows[row]))}/{column.metric.task}.json"

    @property
    def pending_commands(self) -> tuple[str, ...]:
        """For each row with pending cells, the command that computes all of them (with bash braces)."""
        commands = []
        for index, row in enumerate(self.rows):
            tasks = list(dict.fromkeys(str(column.metric.task) for column in self.columns if self.command_of(index, column)))
            if tasks:
                commands.append(f"{self.command}{shlex.quote(model_name(row))}/{in_braces(tasks)}.json")
        return tuple(dict.fromkeys(commands))


def model_name(row: TableRow) -> str:
    """Name of a model: encoder/finetuning/method."""
    return f"{row.encoder}/{row.finetuning}/{row.method}"


def in_braces(names: list[str]) -> str:
    """Join names with bash braces, `{pr,sid}`; a single name is returned unchanged."""
    return names[0] if len(names) == 1 else f"{{{','.join(names)}}}"
