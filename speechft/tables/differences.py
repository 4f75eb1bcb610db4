"""Tables of differences between rows of a table, with their confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from speechft.errors import TableError
from speechft.files.output_kinds import DIFFERENCES
from speechft.files.outputs import check_shown
from speechft.recipes.tables import TableRecipe
from speechft.tables.arrange import arrange
from speechft.tables.cells import existing_cells
from speechft.tables.figure import build_differences_figure
from speechft.tables.render import SUFFIXES, csv_file, table_records, write_table
from speechft.tables.table import Column, Entry, Table

_LEGEND = (
    "Entries: mean of the first row minus mean of the second; the arrow tells which sign is an improvement.",
    "±: half of the 95 % confidence interval of the difference, over seeds of the heads (Welch's t) and, where cells know their test "
    "items, over those, the same for both sides (bootstrap); none where a side has one value and no items.",
    "Bold: the interval excludes 0. One in twenty differences between equal models does so by chance; nothing is corrected for this.",
    "Each model was trained once: the interval does not tell what training it again would give.",
)


def build_differences(
    recipe: TableRecipe, cells: Sequence[str | Path], out_dir: str | Path, figures_dir: str | Path | None, name: str
) -> Table:
    """Write `{name}.csv`, `.md`, `.tex`, `.html` into `out_dir`, `{name}.png`, `.svg` into `figures_dir` if given, each atomically.

    `recipe` is that of the table; its `differences` are the pairs of rows to compare. The folders must differ from those of the table,
    whose files have the same names.

    Raises:
        TableError: the recipe compares no rows, or see `build_table`.
    """
    check_shown(out_dir, figures_dir, name, SUFFIXES, DIFFERENCES, cells)
    table = arrange_differences(recipe, cells, name)
    write_table(table, out_dir, name, _csv(recipe, table))
    if figures_dir is not None:
        build_differences_figure(table, Path(figures_dir) / f"{name}.png")
    return table


def arrange_differences(recipe: TableRecipe, cells: Sequence[str | Path], name: str) -> Table:
    """The table whose rows are the recipe's `differences`."""
    if not recipe.differences:
        raise TableError(f"The table {name} compares no rows. Name them as `differences`, such as [pretrained, stable_ft].")
    if bad := [pair for pair in recipe.differences if not all(0 <= place < len(recipe.rows) for place in pair)]:
        raise TableError(f"The table {name} has {len(recipe.rows)} rows; there are none to compare at {bad[0]}.")
    table = arrange(recipe, existing_cells(cells), None, name)
    labels = [f"{table.rows[first].label} minus {table.rows[second].label}" for first, second in recipe.differences]
    rows = [table.rows[first].model_copy(update={"label": label}) for label, (first, _) in zip(labels, recipe.differences, strict=True)]
    # A score over tasks is comparable only if all its metrics are.
    mixed = {
        (first, second)
        for first, second in recipe.differences
        if any(_mixed(column.entries[first], column.entries[second]) for column in table.columns)
    }
    columns = [
        Column(
            replace(column.metric, signed=True),
            tuple(
                Entry(defined=False)
                if column.metric.task is None and (first, second) in mixed
                else _difference(column.entries[first], column.entries[second])
                for first, second in recipe.differences
            ),
        )
        for column in table.columns
    ]
    hashes = tuple(table.hashes[first] for first, _ in recipe.differences)
    return Table(f"{name}-differences", f"{table.title}: differences", tuple(rows), tuple(columns), hashes, table.notes, _LEGEND)


def _difference(first: Entry, second: Entry) -> Entry:
    if not (first.defined and second.defined) or _mixed(first, second):
        return Entry(defined=False)
    if first.number is None or second.number is None:
        return Entry()
    precision = "bf16" if "bf16" in (first.precision, second.precision) else first.precision
    return Entry(precision=precision, estimate=first.number - second.number)


def _mixed(first: Entry, second: Entry) -> bool:
    """Whether two entries were measured under different protocols."""
    return len({entry.protocol for entry in (first, second) if entry.protocol}) > 1


def _csv(recipe: TableRecipe, table: Table) -> str:
    """One line per difference and metric."""
    records = table_records(table)
    for place, record in enumerate(records):
        row, column = divmod(place, len(table.columns))
        other = recipe.rows[recipe.differences[row][1]]
        record |= {f"minus_{key}": getattr(other, key) for key in ("encoder", "finetuning", "method")}
        known = record["interval_95"] is not None
        record |= {"difference": record["value"], "excludes_0": row in table.columns[column].bold if known else None}
    columns = ["encoder", "finetuning", "method", "minus_encoder", "minus_finetuning", "minus_method", "task", "metric", "unit"]
    return csv_file(records, [*columns, "higher_is_better", "status", "difference", "interval_95", "excludes_0"])
