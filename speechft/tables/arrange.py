"""Arrange cells and published numbers as the entries of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from speechft.errors import TableError
from speechft.recipes.cell import Cell
from speechft.recipes.tables import TableRecipe, TableRow
from speechft.tables.bootstrap import resample
from speechft.tables.cells import cell_name
from speechft.tables.estimate import Estimate
from speechft.tables.metrics import METRICS, task_metrics
from speechft.tables.notes import pending_legend, published_notes, table_legend, table_notes
from speechft.tables.published import Published
from speechft.tables.relative_score import relative_score, relative_score_notes
from speechft.tables.scores import (
    SUPERB_FULL_NORMALIZERS,
    SUPERB_FULL_TASKS,
    SUPERB_S_NORMALIZERS,
    SUPERB_S_TASKS,
    partial_title,
    task_score,
    weighted_score,
)
from speechft.tables.table import Column, Entry, Table, model_name
from speechft.tasks.metric import Metric


def arrange(
    recipe: TableRecipe,
    cells: Iterable[Cell],
    published: Published | None,
    name: str,
    *,
    scores: bool = True,
    reasons: Mapping[str, str] | None = None,
) -> Table:
    """Build a table from its recipe and cells; cells of other models and tasks are ignored.

    Args:
        recipe: rows and columns.
        cells: result cells.
        published: published numbers; None shows none, whatever the recipe names.
        name: name of the table.
        scores: whether to add scores over tasks.
        reasons: encoder/finetuning/method/task -> why the cell is pending.

    Raises:
        TableError: the recipe names a task without metrics or an unknown published table, or cells of one row have different weights.
    """
    if published is None:
        recipe, published = recipe.model_copy(update={"published": None, "beside": ()}), Published({})
    for wanted in (recipe.published, *recipe.beside):
        if wanted is not None and wanted not in published.tables:
            known = ", ".join(published.tables) or "none"
            raise TableError(f"No published numbers for table {wanted!r}. Available: {known}.")
    recipe = recipe.model_copy(update={"rows": (*recipe.rows, *_published_rows(recipe, published))})
    by_name = {cell_name(cell): cell for cell in cells}
    columns = [_metric_column(metric, recipe, by_name, published) for metric in task_metrics(recipe.tasks, recipe.metrics)]
    own: list[str] = []
    if scores:
        columns += _score_columns(recipe, columns, published)
        own = _add_own_score(recipe, columns)
    hashes = tuple(_row_hash(row, recipe, by_name) for row in recipe.rows)
    notes = (*table_notes(recipe, columns, scores=scores), *own, *published_notes(recipe, columns, published))
    legend = (*table_legend(columns), *pending_legend(recipe, columns, reasons or {}))
    return Table(name, recipe.title, recipe.rows, tuple(columns), hashes, notes, legend, recipe.command, reasons or {})


def _published_rows(recipe: TableRecipe, published: Published) -> list[TableRow]:
    """Rows of published numbers only: those of `beside` with a number that no earlier row of the same model has."""
    shown = {metric.key for metric in task_metrics(recipe.tasks, recipe.metrics)}
    rows: list[TableRow] = []
    seen: dict[tuple[str, ...], set[tuple[str, float]]] = {}
    for table in recipe.beside:
        for model in published.models(table):
            numbers = {(key, value) for key, value in published.row(table, *model).items() if key in shown}
            if numbers <= seen.setdefault(model, set()):
                continue
            seen[model] |= numbers
            encoder, finetuning, method = model
            label = f"{'' if method == 'pretrained' else f'{method}, '}published ({table})"
            rows.append(TableRow(encoder=encoder, finetuning=finetuning, method=method, label=label, only_published=table))
    return rows


def _row_hash(row: TableRow, recipe: TableRecipe, cells: Mapping[str, Cell]) -> str:
    if row.only_published is not None:
        return ""
    of_row = [cells.get(f"{model_name(row)}/{task}") for task in recipe.tasks]
    hashes = sorted({cell.model.sha256 for cell in of_row if cell is not None and cell.model.sha256})
    if len(hashes) > 1:
        raise TableError(
            f"The cells of {model_name(row)} have different weights (SHA-256 {', '.join(digest[:12] for digest in hashes)}). "
            "Run the outdated evaluations again."
        )
    return hashes[0] if hashes else ""


def _metric_column(metric: Metric, recipe: TableRecipe, cells: Mapping[str, Cell], published: Published) -> Column:
    entries = []
    for row in recipe.rows:
        entry = _published_entry(recipe, row, metric.key, published)
        if not entry.alone and (cell := cells.get(f"{model_name(row)}/{metric.task}")):
            if metric.key not in cell.values:
                raise TableError(
                    f"Cell {cell_name(cell)} has {', '.join(cell.values)}, but the table needs {metric.key}. Run the evaluation again."
                )
            values, unknown = tuple(cell.values[metric.key]), cell.counts.test.unknown
            number = Estimate((values,), resample(cell, metric))
            entry = replace(entry, values=values, estimate=number, protocol=cell.protocol, precision=cell.precision, unknown=unknown)
            if cell.module is not None:
                entry = replace(entry, module=cell.module.name or cell.module.class_name, one_by_one=cell.module.depends_on_batch)
        entries.append(entry)
    return Column(metric, tuple(entries))


def _published_entry(recipe: TableRecipe, row: TableRow, metric: str, published: Published) -> Entry:
    alone = row.only_published is not None
    place = (row.only_published or recipe.published, row.encoder, row.finetuning, row.method, metric)
    return Entry(published=published.value(*place), source=published.source(*place), alone=alone, defined=not alone)


def _score_columns(recipe: TableRecipe, columns: Sequence[Column], published: Published) -> list[Column]:
    """SUPERB_S and SUPERB_FULL if the table has all their metrics; otherwise a partial score, unless the table has its own score."""
    shown = {column.metric.key for column in columns}
    wanted = [
        (METRICS["SUPERB_S"], SUPERB_S_TASKS, SUPERB_S_NORMALIZERS),
        (METRICS["SUPERB_FULL"], SUPERB_FULL_TASKS, SUPERB_FULL_NORMALIZERS),
    ]
    there = {task: keys for task, keys in SUPERB_S_TASKS.items() if shown.issuperset(keys)}
    if recipe.score is None and 2 <= len(there) < len(SUPERB_S_TASKS):  # a score over a single task would repeat the metric
        title = partial_title(tuple(there)).removesuffix(" ↑")
        metric = Metric(f"partial_score_{'_'.join(there)}", title, None, higher_is_better=True, unit="")
        wanted.append((metric, there, SUPERB_S_NORMALIZERS))
    scores = []
    for metric, tasks, scales in wanted:
        needed = [key for keys in tasks.values() for key in keys]
        if not shown.issuperset(needed):
            continue
        entries = []
        for place, (row, values) in enumerate(zip(recipe.rows, _superb_metrics(columns, needed), strict=True)):
            entry = _published_entry(recipe, row, metric.key, published)
            comparable = metric.key != "SUPERB_FULL"  # the scales behind the published scores are not public
            if values:
                number = weighted_score(tasks, {column.metric.key: column.entries[place].number for column in columns}, scales)
                entry = replace(entry, values=(task_score(metric.name, tasks, values, scales),), estimate=number, protocol="superb")
            entries.append(replace(entry, comparable=comparable, defined=values is not None))
        scores.append(Column(metric, tuple(entries)))
    return [column for column in scores if any(entry.defined or entry.published is not None for entry in column.entries)]


def _superb_metrics(columns: Sequence[Column], keys: Sequence[str]) -> list[dict[str, float] | None]:
    """Our metrics of each row: empty if one is pending, None if one is not under SUPERB's protocol or the row is only published.

    The scales are valid only for SUPERB's data and protocol.
    """
    scored = [column for column in columns if column.metric.key in keys]
    of_rows: list[dict[str, float] | None] = []
    for entries in zip(*(column.entries for column in scored), strict=True):
        means = {column.metric.key: entry.mean for column, entry in zip(scored, entries, strict=True) if entry.mean is not None}
        other = any(entry.alone or entry.protocol not in (None, "superb") for entry in entries)
        of_rows.append(None if other else means if len(means) == len(scored) else {})
    return of_rows


def _add_own_score(recipe: TableRecipe, columns: list[Column]) -> list[str]:
    """Append the column of the table's own score, if any, and return its notes."""
    asked = recipe.score
    if asked is None:
        return []
    floor = next((index for index, row in enumerate(recipe.rows) if model_name(row) == model_name(asked.floor)), None)
    if floor is None:
        raise TableError(f"The score's floor {model_name(asked.floor)} is not a row of the table. Add the row, or choose another floor.")
    if missing := [task for task in asked.tasks if task not in recipe.tasks]:
        raise TableError(f"The score needs tasks that the table does not show: {', '.join(missing)}. Add them to the table, or omit them.")
    ours = [place for place, row in enumerate(recipe.rows) if row.only_published is None]
    scored = [(column.metric, [column.entries[place].number for place in ours]) for column in columns if column.metric.task in asked.tasks]
    score = relative_score(scored, floor)
    metric = Metric("own_score", asked.label, None, higher_is_better=True, unit="", decimals=1)
    entries = [Entry(estimate=row) for row in score.rows] if score else [Entry(defined=False)] * len(ours)
    entries += [Entry(alone=True, defined=False)] * (len(recipe.rows) - len(ours))
    columns.append(Column(metric, tuple(entries)))
    of_floor = recipe.rows[floor]
    return relative_score_notes(asked.label, f"{of_floor.label} ({of_floor.encoder}, {of_floor.finetuning})", asked.tasks, score)
