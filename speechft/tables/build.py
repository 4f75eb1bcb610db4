"""Write the files of a table from cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from speechft.errors import TableError
from speechft.files.output_kinds import TABLE
from speechft.files.outputs import check_shown
from speechft.recipes.tables import TableRecipe
from speechft.tables.arrange import arrange
from speechft.tables.cells import existing_cells
from speechft.tables.published import Files, listed, load_published
from speechft.tables.render import SUFFIXES, csv_file, table_records, write_table
from speechft.tables.table import Table


def build_table(
    recipe: TableRecipe,
    cells: Sequence[str | Path],
    published: Files | None,
    out_dir: str | Path,
    name: str,
    reasons: Mapping[str, str] | None = None,
) -> Table:
    """Write `{name}.csv`, `.md`, `.tex` and `.html` into `out_dir`, each atomically.

    Rows are models, columns the metrics of the recipe's tasks, then SUPERB_S and SUPERB_FULL if the table has all their tasks, otherwise
    a partial score. Entries are `ours (published, difference)`. Missing cells are pending, with their `reasons` by
    encoder/finetuning/method/task; cells of other models are ignored. `published` is required if the recipe names a published table.

    Raises:
        TableError: a cell or the published numbers are malformed, cells contradict each other, or a task has no metrics.
    """
    files = listed(published)
    check_shown(out_dir, None, name, SUFFIXES, TABLE, [*cells, *files])
    shown = [*([recipe.published] if recipe.published is not None else []), *recipe.beside]
    if shown and not files:
        raise TableError(f"The table shows the published table {shown[0]!r}, but no file of published numbers is given.")
    further = [metric.key for metrics in recipe.metrics.values() for metric in metrics]
    numbers = load_published(files, further) if shown else None
    table = arrange(recipe, existing_cells(cells), numbers, name, reasons=reasons)
    write_table(table, out_dir, name, csv_file(table_records(table)))
    return table
