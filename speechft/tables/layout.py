"""From cells and published numbers to the entries of a table, before any file format."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from speechft.errors import TableError
from speechft.recipes.cell import Cell
from speechft.recipes.tables import TableRecipe, TableRow
from speechft.tables.cells import Key, cell_key
from speechft.tables.estimate import Estimate
from speechft.tables.metrics import METRICS, TableMetric, task_metrics
from speechft.tables.notes import BF16_MARK, pending_legend, table_legend, table_notes
from speechft.tables.published import Published
from speechft.tables.relative_score import relative_score, relative_score_notes
from speechft.tables.scores import SUPERB_FULL_TASKS, SUPERB_S_TASKS, partial_score, partial_title, superb_full_score, superb_score


@dataclass(frozen=True)
class Entry:
    """One place of a table: our values (one a seed), the published number, or neither."""

    values: tuple[float, ...] = ()
    published: float | None = None
    source: str | None = None
    """Where the published number was read, if that is known."""
    protocol: str | None = None
    precision: str | None = None
    """Of the encoder's passes; of a score over tasks that of none."""
    unknown: float | None = None
    """Share of the symbols of test that the vocabulary of the task lacks."""
    comparable: bool = True
    """Whether ours minus published means something."""
    defined: bool = True
    """False where there can be no value of ours, such as a SUPERB score of cells under another protocol."""

    estimate: Estimate | None = None
    """The number itself where it is no mean of `values`, such as a score over tasks."""

    @cached_property
    def number(self) -> Estimate | None:
        """Our number with its uncertainty; None as long as it is pending."""
        return self.estimate or (Estimate((self.values,)) if self.values else None)

    @property
    def seeds(self) -> int:
        """Number of values; of a score over tasks that of the task with most."""
        return max(map(len, self.number.samples)) if self.number else 0

    @property
    def mean(self) -> float | None:
        """Mean over seeds; None as long as it is pending."""
        return self.number.mean if self.number else None

    @cached_property
    def std(self) -> float | None:
        """Standard deviation over seeds (n - 1), when there are several."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % confidence interval, when there are several seeds."""
        return self.number.half_width if self.number else None

    @property
    def difference(self) -> float | None:
        """Ours minus published."""
        if self.mean is None or self.published is None or not self.comparable:
            return None
        return self.mean - self.published


@dataclass(frozen=True)
class Column:
    """A metric or score and its entry in every row."""

    metric: TableMetric
    entries: tuple[Entry, ...]

    @cached_property
    def bold(self) -> frozenset[int]:
        """Rows that are printed bold: the best of our values, as far as the printed decimals tell; none unless it beats another row."""
        shown = {row: float(self.metric.shown(entry.mean)) for row, entry in enumerate(self.entries) if entry.mean is not None}
        if len(set(shown.values())) < 2:
            return frozenset()
        best = max(shown.values()) if self.metric.higher_is_better else min(shown.values())
        return frozenset(row for row, value in shown.items() if value == best)


@dataclass(frozen=True)
class Table:
    """A table ready to be written in any format."""

    name: str
    title: str
    rows: tuple[TableRow, ...]
    columns: tuple[Column, ...]
    hashes: tuple[str, ...]
    """Of the weights of each row's model; empty as long as no cell tells."""
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
        return self.reasons.get(f"{'/'.join(_model(self.rows[row]))}/{column.metric.task}")

    def label(self, row: int) -> str:
        """Name of a row as shown, marked where the encoder ran in bf16."""
        marked = any(column.entries[row].precision == "bf16" for column in self.columns)
        return f"{self.rows[row].label}{BF16_MARK if marked else ''}"

    def command_of(self, row: int, column: Column) -> str | None:
        """What makes the pending cell at this place; None where there is nothing to make, or it is not known how."""
        entry = column.entries[row]
        if self.command is None or column.metric.task is None or entry.number or not entry.defined:
            return None
        return f"{self.command}{_quoted(self.rows[row])}/{column.metric.task}.json"

    @property
    def pending_commands(self) -> tuple[str, ...]:
        """For each row with pending cells, the command that makes all of them (with braces for bash)."""
        found = []
        for index, row in enumerate(self.rows):
            waiting = [column for column in self.columns if self.command_of(index, column)]
            tasks = list(dict.fromkeys(str(column.metric.task) for column in waiting))
            if tasks:
                names = f"{{{','.join(tasks)}}}" if len(tasks) > 1 else tasks[0]
                found.append(f"{self.command}{_quoted(row)}/{names}.json")
        return tuple(dict.fromkeys(found))


def arrange(
    recipe: TableRecipe,
    cells: Iterable[Cell],
    published: Published,
    name: str,
    *,
    scores: bool = True,
    reasons: Mapping[str, str] | None = None,
) -> Table:
    """Put cells where the recipe wants them; cells of other models and tasks are left aside. Without `scores` there are metrics only.

    `reasons` says why cells are pending, by encoder/finetuning/method/task, as far as that is known.

    Raises:
        TableError: the recipe names a task without metrics or a published table that does not exist, or the cells of one row were
            made from different weights.
    """
    if recipe.published is not None and recipe.published not in published.tables:
        known = ", ".join(published.tables) or "none"
        raise TableError(f"There are no published numbers of a table {recipe.published!r}. Tables with numbers: {known}.")
    by_key = {cell_key(cell): cell for cell in cells}
    columns = [_metric_column(metric, recipe, by_key, published) for metric in task_metrics(recipe.tasks)]
    own: list[str] = []
    if scores:
        columns += _score_columns(recipe, columns, published)
        own = _add_own_score(recipe, columns)
    hashes = tuple(_row_hash(row, recipe, by_key) for row in recipe.rows)
    notes = (*table_notes(recipe, columns, scores=scores), *own)
    legend = (*table_legend(columns), *pending_legend(recipe, columns, reasons or {}))
    return Table(name, recipe.title, recipe.rows, tuple(columns), hashes, notes, legend, recipe.command, reasons or {})


def _row_hash(row: TableRow, recipe: TableRecipe, cells: Mapping[Key, Cell]) -> str:
    found = [cells.get((row.encoder, row.finetuning, row.method, task)) for task in recipe.tasks]
    hashes = sorted({cell.model.sha256 for cell in found if cell is not None and cell.model.sha256})
    if len(hashes) > 1:
        model = f"{row.encoder}/{row.finetuning}/{row.method}"
        raise TableError(
            f"The cells of {model} were made from different weights (SHA-256 {', '.join(digest[:12] for digest in hashes)}). "
            "Run the outdated evaluations again."
        )
    return hashes[0] if hashes else ""


def _metric_column(metric: TableMetric, recipe: TableRecipe, cells: Mapping[Key, Cell], published: Published) -> Column:
    entries = []
    for row in recipe.rows:
        place = _published_place(recipe, row, metric.key)
        entry = Entry(published=published.value(*place), source=published.source(*place))
        if cell := cells.get((row.encoder, row.finetuning, row.method, str(metric.task))):
            values, unknown = tuple(cell.values[metric.key]), cell.counts.test.unknown
            entry = replace(entry, values=values, protocol=cell.protocol, precision=cell.precision, unknown=unknown)
        entries.append(entry)
    return Column(metric, tuple(entries))


def _published_place(recipe: TableRecipe, row: TableRow, metric: str) -> tuple[str | None, str, str, str, str]:
    return (recipe.published, row.encoder, row.finetuning, row.method, metric)


def _score_columns(recipe: TableRecipe, columns: Sequence[Column], published: Published) -> list[Column]:
    """Scores for which the table has all metrics.

    Their scales belong to SUPERB's own training and test sets and protocol, so only cells under that protocol get one.
    """
    metrics = {column.metric.key for column in columns}
    found = []
    for key, tasks, score in (("SUPERB_S", SUPERB_S_TASKS, superb_score), ("SUPERB_FULL", SUPERB_FULL_TASKS, superb_full_score)):
        needed = [metric for of_task in tasks.values() for metric in of_task]
        if metrics.issuperset(needed):
            rows = [_superb_metrics(columns, row, needed) for row in range(len(recipe.rows))]
            entries = [
                Entry(
                    (score(values),) if values else (),
                    published.value(*_published_place(recipe, row, key)),
                    published.source(*_published_place(recipe, row, key)),
                    "superb" if values else None,
                    comparable=key != "SUPERB_FULL",  # the scales of the published ones are not public
                    defined=values is not None,
                )
                for row, values in zip(recipe.rows, rows, strict=True)
            ]
            found.append(Column(METRICS[key], tuple(entries)))
    if recipe.score is None and not any(column.metric.key == "SUPERB_S" for column in found):
        found += _partial_column(recipe, columns)
    return [column for column in found if any(entry.defined or entry.published is not None for entry in column.entries)]


def _add_own_score(recipe: TableRecipe, columns: list[Column]) -> list[str]:
    """Append the column of the table's own score, if it has one; the notes that go with it."""
    asked = recipe.score
    if asked is None:
        return []
    floor = next((index for index, row in enumerate(recipe.rows) if _model(row) == _model(asked.floor)), None)
    if floor is None:
        raise TableError(f"The score's floor {'/'.join(_model(asked.floor))} is no row of the table. Add the row, or name another one.")
    if missing := [task for task in asked.tasks if task not in recipe.tasks]:
        raise TableError(f"The score needs the tasks {', '.join(missing)}, which are no columns of the table. Add them, or drop them.")
    scored = [(column.metric, [entry.values for entry in column.entries]) for column in columns if column.metric.task in asked.tasks]
    score = relative_score(scored, floor)
    metric = TableMetric("own_score", asked.label, None, higher_is_better=True, unit="", decimals=1)
    entries = [Entry(estimate=row) for row in score.rows] if score else [Entry(defined=False)] * len(recipe.rows)
    columns.append(Column(metric, tuple(entries)))
    of_floor = recipe.rows[floor]
    return relative_score_notes(asked.label, f"{of_floor.label} ({of_floor.encoder}, {of_floor.finetuning})", asked.tasks, score)


def _model(row: TableRow) -> tuple[str, str, str]:
    return (row.encoder, row.finetuning, row.method)


def _quoted(row: TableRow) -> str:
    """Name of a row's model in a shell command."""
    return shlex.quote("/".join(_model(row)))


def _partial_column(recipe: TableRecipe, columns: Sequence[Column]) -> list[Column]:
    metrics = {column.metric.key for column in columns}
    tasks = {task: keys for task, keys in SUPERB_S_TASKS.items() if all(key in metrics for key in keys)}
    if len(tasks) < 2:  # of a single task it would repeat the metric in other units
        return []
    entries = []
    for row in range(len(recipe.rows)):
        values = _superb_metrics(columns, row, [key for keys in tasks.values() for key in keys])
        score = partial_score(values) if values else None
        entries.append(Entry((score[0],) if score else (), protocol="superb" if score else None, defined=values is not None))
    title = partial_title(tuple(tasks)).removesuffix(" ↑")
    metric = TableMetric(f"partial_score_{'_'.join(tasks)}", title, None, higher_is_better=True, unit="")
    return [Column(metric, tuple(entries))]


def _superb_metrics(columns: Sequence[Column], row: int, keys: Sequence[str]) -> dict[str, float] | None:
    """Our metrics of a row; empty as long as one is pending, None when one is under another protocol than SUPERB's."""
    entries = {column.metric.key: column.entries[row] for column in columns if column.metric.key in keys}
    if any(entry.protocol not in (None, "superb") for entry in entries.values()):
        return None
    means = {key: entry.mean for key, entry in entries.items()}
    return {key: mean for key, mean in means.items() if mean is not None} if None not in means.values() else {}
