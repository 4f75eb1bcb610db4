"""Metrics against alpha: the files and the figure of a curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechft.files.atomic import write_text
from speechft.files.escapes import markdown_escape
from speechft.files.output_kinds import CURVE
from speechft.files.outputs import check_shown
from speechft.recipes.alphas import alpha_text
from speechft.recipes.tables import CurveRecipe, TableRecipe
from speechft.tables.arrange import arrange
from speechft.tables.canvas import LEGEND, dress, panel_page, save_figure, short, title_of
from speechft.tables.cells import existing_cells
from speechft.tables.render import csv_file, entry_text, markdown_page, table_records
from speechft.tables.scores import SUPERB_S_TASKS
from speechft.tables.table import Column, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER_ALPHA = 0.25
"""alpha of all main results of Speech-FT."""
_CURVE: dict[str, Any] = {"color": "#2166ac", "marker": "o", "markersize": 3.5, "linewidth": 1.4}
_START: dict[str, Any] = {"color": "#000000", "marker": "s", "markersize": 6.5, "linestyle": "none"}
_END: dict[str, Any] = {"color": "#b35806", "marker": "D", "markersize": 6.5, "linestyle": "none"}
_PAPER: dict[str, Any] = {"color": "#888888", "linestyle": ":", "linewidth": 1.2}


def build_curve(
    recipe: CurveRecipe,
    cells: Sequence[str | Path],
    out_dir: str | Path,
    figures_dir: str | Path | None,
    name: str,
    reasons: Mapping[str, str] | None = None,
) -> Table:
    """Write `{name}.csv` and `.md` into `out_dir`, `{name}.png` and `.svg` into `figures_dir`, each complete or not at all.

    Rows are alphas, columns the metrics of the recipe's tasks, then SUPERB_S (and SUPERB_FULL) where it has all their tasks. Arguments
    and errors are those of `build_table`; without `figures_dir` there is no figure.
    """
    check_shown(out_dir, figures_dir, name, (".md",), CURVE, cells)
    shared = {key: getattr(recipe, key) for key in ("title", "note", "tasks", "metrics", "command")}
    rows = TableRecipe(rows=recipe.points, **shared)
    scored = {task.lower() for task in SUPERB_S_TASKS} <= set(recipe.tasks)
    table = arrange(rows, existing_cells(cells), None, name, scores=scored, reasons=reasons)
    write_text(Path(out_dir) / f"{name}.csv", _csv(recipe, table))
    write_text(Path(out_dir) / f"{name}.md", _markdown(recipe, table))
    if figures_dir is not None:
        save_figure(lambda: draw_curve(recipe, table), Path(figures_dir) / f"{name}.png")
    return table


def _markdown(recipe: CurveRecipe, table: Table) -> str:
    grid = [["alpha", "model", *(markdown_escape(column.metric.title) for column in table.columns)]]
    for row, point in enumerate(recipe.points):
        entries = [entry_text(column, row, markdown_escape, "**{}**") for column in table.columns]
        grid.append([alpha_text(point.alpha), markdown_escape(table.label(row)), *entries])
    return markdown_page(table.title, grid, 2, (*table.notes, *table.legend), table.pending_commands)


def _csv(recipe: CurveRecipe, table: Table) -> str:
    """One line for each alpha and metric."""
    records = table_records(table)
    for place, record in enumerate(records):
        record |= {"alpha": recipe.points[place // len(table.columns)].alpha, "mean": record["value"]}
    columns = ["alpha", "task", "metric", "mean", "interval_95", "std", "seeds", "values", "status", "unit", "higher_is_better"]
    columns += ["protocol", "precision", "encoder", "finetuning", "method", "label", "model_sha256", "command"]
    return csv_file(records, [*columns, *(["reason"] if table.reasons else [])])


def draw_curve(recipe: CurveRecipe, table: Table) -> Figure:
    """One panel per metric, the metric against alpha with its 95 % band."""
    figure, panels = panel_page(table.title, _foot(table), len(table.columns), across=3, size=(3.2, 2.7), margin=0.4, at_least=2)
    for panel, column in zip(panels, table.columns, strict=True):
        _draw_panel(panel, recipe, column)
    _legend(panels[0], recipe)
    return figure


def _legend(panel: Axes, recipe: CurveRecipe) -> None:
    from matplotlib.lines import Line2D

    between = dict.fromkeys(point.label for point in recipe.points if point.alpha not in (0, 1))
    handles = [
        Line2D([], [], **_START, label=f"{short(recipe.start)} (alpha 0)"),
        Line2D([], [], **_CURVE, label=short(", ".join(between))),
        Line2D([], [], **_END, label=f"{short(recipe.end)} (alpha 1)"),
        Line2D([], [], **_PAPER, label=f"alpha {PAPER_ALPHA:g}, the paper's"),
    ]
    panel.legend(handles=handles, **LEGEND)


def _draw_panel(panel: Axes, recipe: CurveRecipe, column: Column) -> None:
    measured = [
        (point.alpha, entry.mean, entry.half_width or 0.0)
        for point, entry in zip(recipe.points, column.entries, strict=True)
        if entry.mean is not None
    ]
    panel.axvline(PAPER_ALPHA, **_PAPER, zorder=1)
    if measured:
        alphas, means, widths = (list(values) for values in zip(*measured, strict=True))
        if any(widths):
            low, high = ([mean + sign * width for mean, width in zip(means, widths, strict=True)] for sign in (-1, 1))
            panel.fill_between(alphas, low, high, color=_CURVE["color"], alpha=0.18, linewidth=0, zorder=1)
        panel.plot(alphas, means, **_CURVE, zorder=2)
        for end, style in ((0.0, _START), (1.0, _END)):
            if end in alphas:
                panel.plot([end], [means[alphas.index(end)]], **style, zorder=3, clip_on=False)
    else:
        panel.set_yticks([])
    panel.margins(y=0.15)
    panel.set_xlim(recipe.points[0].alpha, recipe.points[-1].alpha)
    panel.set_xlabel("alpha", fontsize=7.5)
    panel.set_ylabel(column.metric.better, fontsize=7.5)
    dress(panel, title_of(column.metric, 34), pending=not measured)


def _foot(table: Table) -> list[str]:
    entries = [entry for column in table.columns for entry in column.entries]
    legend = ["Points: means over the seeds of the heads."]
    if any(entry.std is not None for entry in entries):
        legend.append("Band: 95 % confidence interval (Student's t).")
    if pending := sum(entry.mean is None for entry in entries):
        legend.append(f"Pending: {pending} of {len(entries)} points.")
    return [*table.notes, " ".join(legend)]
