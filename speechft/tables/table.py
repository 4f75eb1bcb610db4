"""A table before any file format: rows are models, columns are metrics and scores."""

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
    """One place of a table: our values, the published number, or neither."""

    values: tuple[float, ...] = ()
    """One value per seed."""
    published: float | None = None
    source: str | None = None
    """Where the published number was read, if that is known."""
    protocol: str | None = None
    precision: str | None = None
    """Of the encoder's forward passes; None for a score over tasks."""
    module: str | None = None
    """Name of the class where the encoder is a module of the user's own."""
    one_by_one: bool = False
    """Whether features of that module depend on the batch, so that every utterance was one."""
    unknown: float | None = None
    """Share of the symbols of test that the task's vocabulary lacks."""
    comparable: bool = True
    """Whether ours minus published means something."""
    defined: bool = True
    """False where there can be no value of ours, such as a SUPERB score of cells under another protocol."""
    alone: bool = False
    """Whether the row only repeats published numbers, so that there is nothing of ours to wait for."""
    estimate: Estimate | None = None
    """The number itself where it is not the mean of `values`, such as a score over tasks."""

    @cached_property
    def number(self) -> Estimate | None:
        """Our number with its uncertainty; None while it is pending."""
        return self.estimate or (Estimate((self.values,)) if self.values else None)

    @property
    def drawn(self) -> str | None:
        """What of the test set was drawn for the interval: `speakers`, `utterances`, ...; None where it is over seeds alone."""
        items = self.number.items.values() if self.number else ()
        return ", ".join(dict.fromkeys(item.drawn for item in items)) or None

    @property
    def seeds(self) -> int:
        """Number of values; for a score over tasks, the largest number of any task."""
        return max(map(len, self.number.samples)) if self.number else 0

    @property
    def mean(self) -> float | None:
        """Mean over seeds; None while it is pending."""
        return self.number.mean if self.number else None

    @cached_property
    def std(self) -> float | None:
        """Standard deviation over seeds (n - 1), where there are several."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % confidence interval, where there are several seeds or the cell knows its items."""
        return self.number.half_width if self.number else None

    @property
    def difference(self) -> float | None:
        """Ours minus published."""
        if self.mean is None or self.published is None or not self.comparable:
            return None
        return self.mean - self.published

    @property
    def status(self) -> str:
        """`measured`, `pending`, `undefined`, or `published` where a row only repeats what others published."""
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
        """Rows in bold: the best if it is better than every other row by more than the interval; differences whose interval excludes 0."""
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
    """SHA-256 of the weights of each row's model; empty until a cell tells."""
    notes: tuple[str, ...]
    """What must be known about the numbers."""
    legend: tuple[str, ...]
    """How to read the entries."""
    command: str | None = None
    """Makes a cell when encoder/finetuning/method/task.json is appended."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why a cell is pending, by encoder/finetuning/method/task; empty where nothing is known."""

    def reason_of(self, row: int, column: Column) -> str | None:
        """Why the cell at this place is pending, where that is known."""
        if column.metric.task is None or column.entries[row].number:
            return None
        return self.reasons.get(f"{model_name(self.rows[row])}/{column.metric.task}")

    def label(self, row: int) -> str:
        """Name of a row as shown, marked where the encoder ran in bf16."""
        marked = any(column.entries[row].precision == "bf16" for column in self.columns)
        return f"{self.rows[row].label}{BF16_MARK if marked else ''}"

    def command_of(self, row: int, column: Column) -> str | None:
        """Command that makes the pending cell at this place; None where there is nothing to make or no command is known."""
        entry = column.entries[row]
        if self.command is None or column.metric.task is None or entry.number or not entry.defined:
            return None
        return f"{self.command}{shlex.quote(model_name(self.rows[row]))}/{column.metric.task}.json"

    @property
    def pending_commands(self) -> tuple[str, ...]:
        """For each row with pending cells, the command that makes all of them (with braces for bash)."""
        commands = []
        for index, row in enumerate(self.rows):
            tasks = list(dict.fromkeys(str(column.metric.task) for column in self.columns if self.command_of(index, column)))
            if tasks:
                commands.append(f"{self.command}{shlex.quote(model_name(row))}/{in_braces(tasks)}.json")
        return tuple(dict.fromkeys(commands))


def model_name(row: TableRow) -> str:
    """encoder/finetuning/method."""
    return f"{row.encoder}/{row.finetuning}/{row.method}"


def in_braces(names: list[str]) -> str:
    """One name as it is, several as bash expands them: `{pr,sid}`."""
    return names[0] if len(names) == 1 else f"{{{','.join(names)}}}"
