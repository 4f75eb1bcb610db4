"""Metrics against alpha: the files of a curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speechft.experiment.alphas import alpha_text
from speechft.files.atomic import write_text
from speechft.files.escapes import markdown_escape
from speechft.files.output_kinds import CURVE
from speechft.files.outputs import check_shown
from speechft.recipes.tables import CurveRecipe, TableRecipe
from speechft.tables.build import existing_cells
from speechft.tables.canvas import save_figure
from speechft.tables.csv_file import csv_file
from speechft.tables.curve_figure import draw_curve
from speechft.tables.layout import Table, arrange
from speechft.tables.published import Published
from speechft.tables.render import PENDING, entry_text, markdown_page
from speechft.tables.scores import SUPERB_S_TASKS


def build_curve(
    recipe: CurveRecipe,
    cells: Sequence[str | Path],
    out_dir: str | Path,
    figures_dir: str | Path | None,
    name: str,
    reasons: Mapping[str, str] | None = None,
) -> Table:
    """Write `{name}.csv` and `.md` into `out_dir`, `{name}.png` and `.svg` into `figures_dir`, each complete or not at all.

    Rows are alphas, columns the metrics of the recipe's tasks, then SUPERB_S (and SUPERB_FULL) where it has all their tasks.

    Args:
        recipe: what the curve shows.
        cells: cell files. Those that do not exist are shown as pending; cells of other models are left aside.
        out_dir: folder, made when missing.
        figures_dir: folder, made when missing; None for no figure.
        name: of the files.
        reasons: why cells are pending, as for `build_table`.

    Raises:
        TableError: a cell is malformed, cells contradict each other, a task has no metric here.
    """
    check_shown(out_dir, figures_dir, name, (".md",), CURVE, cells)
    rows = TableRecipe(title=recipe.title, note=recipe.note, rows=recipe.points, tasks=recipe.tasks, command=recipe.command)
    scored = {task.lower() for task in SUPERB_S_TASKS} <= set(recipe.tasks)
    table = arrange(rows, existing_cells(cells), Published({}), name, scores=scored, reasons=reasons)
    write_text(Path(out_dir) / f"{name}.csv", curve_csv(recipe, table))
    write_text(Path(out_dir) / f"{name}.md", curve_markdown(recipe, table))
    if figures_dir is not None:
        save_figure(lambda: draw_curve(recipe, table), Path(figures_dir) / f"{name}.png")
    return table


def curve_markdown(recipe: CurveRecipe, table: Table) -> str:
    """One line an alpha."""
    header = ["alpha", "model", *(markdown_escape(column.metric.title) for column in table.columns)]
    rows = []
    for row, point in enumerate(recipe.points):
        entries = [entry_text(column, row, markdown_escape, "**{}**") for column in table.columns]
        rows.append([alpha_text(point.alpha), markdown_escape(table.label(row)), *entries])
    return markdown_page(table, header, rows, leading=2)


def curve_csv(recipe: CurveRecipe, table: Table) -> str:
    """One line for each alpha and metric, full precision; what is not known is empty."""
    records: list[dict[str, Any]] = [
        {
            "alpha": point.alpha,
            "task": column.metric.task,
            "metric": column.metric.key,
            "mean": entry.mean,
            "interval_95": entry.half_width,
            "std": entry.std,
            "seeds": entry.seeds,
            "values": entry.values,
            "status": "measured" if entry.number else PENDING if entry.defined else "undefined",
            "unit": column.metric.unit,
            "higher_is_better": column.metric.higher_is_better,
            "protocol": entry.protocol,
            "precision": entry.precision,
            "encoder": point.encoder,
            "finetuning": point.finetuning,
            "method": point.method,
            "label": point.label,
            "model_sha256": table.hashes[row],
            "command": table.command_of(row, column),
            **({"reason": table.reason_of(row, column)} if table.reasons else {}),
        }
        for row, point in enumerate(recipe.points)
        for column in table.columns
        for entry in [column.entries[row]]
    ]
    return csv_file(records)
