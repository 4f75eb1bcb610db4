"""Cells -> the files of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from speechft.errors import TableError
from speechft.files.output_kinds import TABLE
from speechft.files.outputs import check_shown
from speechft.recipes.tables import TableRecipe
from speechft.tables.arrange import arrange
from speechft.tables.cells import existing_cells
from speechft.tables.published import load_published
from speechft.tables.render import SUFFIXES, csv_file, table_records, write_table
from speechft.tables.table import Table


def build_table(
    recipe: TableRecipe,
    cells: Sequence[str | Path],
    published: str | Path | None,
    out_dir: str | Path,
    name: str,
    reasons: Mapping[str, str] | None = None,
) -> Table:
    """Write `{name}.csv`, `.md`, `.tex` and `.html` into `out_dir`, each complete or not at all.

    Rows are models, columns the metrics of the recipe's tasks, then SUPERB_S and SUPERB_FULL where the table has all their tasks (or a
    score over those that it has, named so). Entries are `ours (published, difference)`. Rows without a cell show as pending, with
    `reasons` by encoder/finetuning/method/task; cells of other models are ignored. The file of published numbers is needed when the
    recipe names a published table.

    Raises:
        TableError: a cell or the published numbers are malformed, cells contradict each other, a task has no metric here.
    """
    check_shown(out_dir, None, name, SUFFIXES, TABLE, [*cells, published])
    if recipe.published is not None and published is None:
        raise TableError(f"The table shows the published numbers of {recipe.published!r}, but no file of published numbers is given.")
    further = [metric.key for metrics in recipe.metrics.values() for metric in metrics]
    numbers = None if recipe.published is None or published is None else load_published(published, further)
    table = arrange(recipe, existing_cells(cells), numbers, name, reasons=reasons)
    write_table(table, out_dir, name, csv_file(table_records(table)))
    return table
