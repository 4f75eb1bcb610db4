"""Write and draw curves: metrics against alpha."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechft.files.atomic import write_text
from speechft.files.escapes import markdown_escape
from speechft.files.output_kinds import CURVE
from speechft.files.outputs import check_shown
from speechft.recipes.alphas import alpha_text
from speechft.recipes.cell import Cell
from speechft.recipes.tables import CurvePoint, CurveRecipe, TableRecipe
from speechft.tables.arrange import arrange
from speechft.tables.canvas import LEGEND, Look, dress, looks, panel_page, panels_across, save_figure, short, title_of
from speechft.tables.cells import existing_cells
from speechft.tables.notes import interval_legend
from speechft.tables.render import csv_file, entry_text, markdown_page, table_records
from speechft.tables.scores import SUPERB_S_TASKS
from speechft.tables.table import Column, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER_ALPHA = 0.25
"""Alpha of all main results in the Speech-FT paper."""
_LINE: dict[str, Any] = {"linewidth": 1.4, "marker": ".", "markersize": 4}
_PAPER: dict[str, Any] = {"color": "#888888", "linestyle": ":", "linewidth": 1.2}


def build_curve(
    recipe: CurveRecipe,
    cells: Sequence[str | Path],
    out_dir: str | Path,
    figures_dir: str | Path | None,
    name: str,
    reasons: Mapping[str, str] | None = None,
) -> Table:
    """Write `{name}.csv` and `.md` into `out_dir`, `{name}.png` and `.svg` into `figures_dir` if given, each atomically.

    Rows are alphas, columns the metrics of the recipe's tasks, then SUPERB_S (and SUPERB_FULL) if the curve has all their tasks. Other
    arguments and errors as in `build_table`.
    """
    check_shown(out_dir, figures_dir, name, (".md",), CURVE, cells)
    table = arrange_curve(recipe, existing_cells(cells), name, reasons)
    write_text(Path(out_dir) / f"{name}.csv", _csv(recipe, table))
    write_text(Path(out_dir) / f"{name}.md", _markdown(recipe, table))
    if figures_dir is not None:
        save_figure(lambda: draw_curve(recipe, table), Path(figures_dir) / f"{name}.png")
    return table


def arrange_curve(recipe: CurveRecipe, cells: Iterable[Cell], name: str, reasons: Mapping[str, str] | None = None) -> Table:
    """Build the table of a curve, one row per alpha; errors as in `build_curve`."""
    shared = {key: getattr(recipe, key) for key in ("title", "note", "tasks", "metrics", "command")}
    rows = TableRecipe(rows=recipe.points, **shared)
    scored = {task.lower() for task in SUPERB_S_TASKS} <= set(recipe.tasks)
    return arrange(rows, cells, None, name, scores=scored, reasons=reasons)


def _markdown(recipe: CurveRecipe, table: Table) -> str:
    grid = [["alpha", "model", *(markdown_escape(column.metric.title) for column in table.columns)]]
    for row, point in enumerate(recipe.points):
        entries = [entry_text(column, row, markdown_escape, "**{}**") for column in table.columns]
        grid.append([alpha_text(point.alpha), markdown_escape(table.label(row)), *entries])
    return markdown_page(table.title, grid, 2, (*table.notes, *table.legend), table.pending_commands)


def _csv(recipe: CurveRecipe, table: Table) -> str:
    """One line per alpha and metric."""
    records = table_records(table)
    for place, record in enumerate(records):
        record |= {"alpha": recipe.points[place // len(table.columns)].alpha, "mean": record["value"]}
    columns = ["alpha", "task", "metric", "mean", "interval_95", "std", "seeds", "values", "status", "unit", "higher_is_better"]
    columns += ["protocol", "precision", "encoder", "finetuning", "method", "label", "model_sha256", "command"]
    return csv_file(records, [*columns, *(["reason"] if table.reasons else [])])


def draw_curve(recipe: CurveRecipe, table: Table) -> Figure:
    """Draw one panel per metric: the metric against alpha with its 95 % band."""
    shown = looks(point.method for point in recipe.points)
    across = panels_across(len(table.columns), 3)
    figure, panels = panel_page(table.title, _foot(table), len(table.columns), across=across, size=(3.2, 2.7), margin=0.4, at_least=2)
    for panel, column in zip(panels, table.columns, strict=True):
        _draw_panel(panel, recipe, column, shown)
    _legend(panels[0], recipe, shown)
    return figure


def _merged(recipe: CurveRecipe) -> CurvePoint:
    """A point between the ends; if there is none, the last point."""
    return next((point for point in recipe.points if 0 < point.alpha < 1), recipe.points[-1])


def _legend(panel: Axes, recipe: CurveRecipe, shown: Mapping[str, Look]) -> None:
    from matplotlib.lines import Line2D

    merged = _merged(recipe)
    names = {0.0: recipe.start, merged.alpha: merged.label, 1.0: recipe.end}
    handles = []
    for point in recipe.points:
        if point.alpha in names:
            line = {**_LINE, "color": shown[point.method].color} if point is merged else {"linestyle": "none"}
            name = short(names[point.alpha]) + (f" (alpha {point.alpha:g})" if point.alpha in (0, 1) else "")
            handles.append(Line2D([], [], **{**line, **shown[point.method].style}, label=name))
    handles.append(Line2D([], [], **_PAPER, label=f"alpha {PAPER_ALPHA:g}, the paper's"))
    panel.legend(handles=handles, **LEGEND)


def _draw_panel(panel: Axes, recipe: CurveRecipe, column: Column, shown: Mapping[str, Look]) -> None:
    measured = [
        (point, entry.mean, entry.half_width or 0.0)
        for point, entry in zip(recipe.points, column.entries, strict=True)
        if entry.mean is not None
    ]
    panel.axvline(PAPER_ALPHA, **_PAPER, zorder=1)
    panel.margins(y=0.15)
    if measured:
        points, means, widths = (list(values) for values in zip(*measured, strict=True))
        alphas, color = [point.alpha for point in points], shown[_merged(recipe).method].color
        if any(widths):
            low, high = ([mean + sign * width for mean, width in zip(means, widths, strict=True)] for sign in (-1, 1))
            panel.fill_between(alphas, low, high, color=color, alpha=0.18, linewidth=0, zorder=1)
        panel.plot(alphas, means, **_LINE, color=color, zorder=2)
        for point, mean in zip(points, means, strict=True):
            if point.alpha in (0, PAPER_ALPHA, 1):
                panel.plot([point.alpha], [mean], **shown[point.method].style, linestyle="none", zorder=3, clip_on=False)
        bottom, top = panel.get_ylim()
        least, most = column.metric.ends
        panel.set_ylim(max(bottom, least), min(top, most))
    else:
        panel.set_yticks([])
    panel.set_xlim(recipe.points[0].alpha, recipe.points[-1].alpha)
    panel.set_xlabel("alpha", fontsize=7.5)
    panel.set_ylabel(column.metric.better, fontsize=7.5)
    dress(panel, title_of(column.metric, 34), pending=not measured)


def _foot(table: Table) -> list[str]:
    entries = [entry for column in table.columns for entry in column.entries]
    legend = ["Points: means over the seeds of the heads."]
    if interval := interval_legend(table.columns):
        legend.append(f"Band: {interval}")
    if pending := sum(entry.mean is None for entry in entries):
        legend.append(f"Pending: {pending} of {len(entries)} points.")
    return [*table.notes, " ".join(legend)]
