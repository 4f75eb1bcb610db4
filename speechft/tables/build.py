"""Cells -> the files of a table, and its figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from speechft.errors import TableError
from speechft.files.atomic import write_text
from speechft.files.output_kinds import TABLE
from speechft.files.outputs import check_shown
from speechft.recipes.cell import Cell
from speechft.recipes.tables import TableRecipe
from speechft.tables.cells import read_cells
from speechft.tables.layout import Table, arrange
from speechft.tables.published import Published, load_published
from speechft.tables.render import html_page, latex, markdown, tidy_csv


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
    score over those that it has, named so). Entries are `ours (published, difference)`.

    Args:
        recipe: what the table shows.
        cells: cell files. Those that do not exist, and rows without a cell, are shown as pending; cells of other models are left aside.
        published: file of published numbers, needed when the recipe names a published table.
        out_dir: folder, made when missing.
        name: of the table and its files.
        reasons: why cells are pending, by encoder/finetuning/method/task, as far as that is known.

    Raises:
        TableError: a cell or the published numbers are malformed, cells contradict each other, a task has no metric here.
    """
    check_shown(out_dir, None, name, (".tex", ".html", ".md"), TABLE, [*cells, published])
    table = arrange(recipe, existing_cells(cells), _published(recipe, published), name, reasons=reasons)
    for suffix, render in ((".csv", tidy_csv), (".tex", latex), (".html", html_page), (".md", markdown)):
        write_text(Path(out_dir) / f"{name}{suffix}", render(table))
    return table


def existing_cells(paths: Sequence[str | Path]) -> list[Cell]:
    """Read those cells that are there; a cell given twice by the same path is read once."""
    return read_cells([path for path in dict.fromkeys(map(Path, paths)) if path.exists()])


def _published(recipe: TableRecipe, path: str | Path | None) -> Published:
    if recipe.published is None:
        return Published({})
    if path is None:
        raise TableError(f"The table shows the published numbers of {recipe.published!r}, but no file of published numbers is given.")
    return load_published(path)
