"""Draw the figure of a table: one panel per metric, one line per model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from speechft.files.outputs import check_figure
from speechft.recipes.tables import TableRecipe
from speechft.tables.arrange import arrange
from speechft.tables.canvas import (
    MAX_PANELS_HEIGHT,
    Look,
    dress,
    looks,
    panel_page,
    panels_across,
    rows_of_panels,
    save_figure,
    short,
    title_of,
)
from speechft.tables.cells import existing_cells
from speechft.tables.notes import interval_legend
from speechft.tables.render import PENDING, UNDEFINED
from speechft.tables.table import Column, Entry, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 5
_WIDTH, _LINE_HEIGHT, _PANEL_EXTRA = 2.5, 0.34, 1.0  # inches
STYLE = {"axes.spines.left": False}
_PLATE = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}  # keeps numbers readable over lines
_SQUASHED = 0.25
_LINE = {"color": "#888888", "linestyle": (0, (3, 2)), "linewidth": 0.9, "zorder": 1}


def build_figure(recipe: TableRecipe, cells: Sequence[str | Path], out_png: str | Path) -> None:
    """Draw our values of a table's metrics to `out_png` and an `.svg` next to it, each written atomically.

    Points are means over seeds, bars their 95 % intervals, dashed lines the pre-trained encoder of the same group of rows. Published
    numbers are not drawn. The same cells and matplotlib give the same bytes.

    Raises:
        TableError: see `build_table`.
    """
    check_figure(out_png, cells)
    table = arrange(recipe, existing_cells(cells), None, Path(out_png).stem)
    save_figure(lambda: draw_table(table), out_png, **STYLE)


def draw_table(table: Table) -> Figure:
    """Draw a table; rows of one method look alike."""
    return _draw(table, _kinds(table), _foot(table), _reference_lines)


def build_differences_figure(table: Table, out_png: str | Path) -> None:
    """Draw differences between rows: points are differences, bars their 95 % intervals, the dashed line is zero."""
    save_figure(lambda: draw_differences(table), out_png, **STYLE)


def draw_differences(table: Table) -> Figure:
    """Draw a table of differences."""
    return _draw(table, _kinds(table), [*table.notes, *table.legend], _zero_line)


def _kinds(table: Table) -> list[str]:
    """Look of each row: its method, or `baseline` for an encoder that is only evaluated, such as filterbanks."""
    plain = {row.encoder for row in table.rows if row.finetuning != "none"}
    alone = {row.label for row in table.rows if row.method == "pretrained" and row.encoder in plain}
    return [
        "baseline" if row.method == "pretrained" and plain and row.encoder not in plain and row.label not in alone else row.method
        for row in table.rows
    ]


def _draw(
    table: Table, kinds: Sequence[str], foot: Sequence[str], draw_lines: Callable[[Axes, Table, Column, list[float]], None]
) -> Figure:
    """Draw a table; rows of one kind look alike, `draw_lines` adds lines behind them."""
    columns = [column for column in table.columns if any(entry.defined for entry in column.entries)]
    across = panels_across(len(columns), _COLUMNS)
    lines = (MAX_PANELS_HEIGHT / rows_of_panels(len(columns), across) - _PANEL_EXTRA) / _LINE_HEIGHT - 1
    positions, headings = _positions(table)
    fitting = sum(place <= lines for place in positions)
    if fitting < len(table.rows):
        note = f"Only the first {fitting} of {len(table.rows)} rows are drawn, which is what a figure has room for; the table has all."
        columns = [replace(column, entries=column.entries[:fitting]) for column in table.columns]
        first = replace(table, rows=table.rows[:fitting], hashes=table.hashes[:fitting], columns=tuple(columns))
        return _draw(first, kinds[:fitting], [note, *foot], draw_lines)
    height = _PANEL_EXTRA + _LINE_HEIGHT * (max([*positions, *(place for _, place in headings)]) + 1)
    figure, panels = panel_page(table.title, foot, len(columns), across=across, size=(_WIDTH, height), margin=1.3, sharey=True)
    for place, (panel, column) in enumerate(zip(panels, columns, strict=True)):
        draw_lines(panel, table, column, positions)
        _draw_panel(panel, table, column, kinds, positions, headings)
        if place % across == 0:
            for text, level in headings:
                panel.annotate(
                    short(text), (0.0, level), xycoords=panel.get_yaxis_transform(), xytext=(-4, 0), textcoords="offset points",
                    ha="right", va="center", fontsize=7, color="#333333", fontweight="bold", annotation_clip=False,
                )  # fmt: skip
    return figure


def _positions(table: Table) -> tuple[list[float], list[tuple[str, float]]]:
    """Height of each row from the top, and (text, height) of a heading per group of rows if there are several fine-tunings."""
    grouped = len({(row.encoder, row.finetuning) for row in table.rows if row.finetuning != "none"}) > 1
    positions: list[float] = []
    headings: list[tuple[str, float]] = []
    height, encoder, group = 0.0, "", ("", "")
    for row in table.rows:
        if grouped and (row.encoder, row.finetuning) != group:
            words = [row.encoder] if row.encoder != encoder else []
            words += [row.finetuning] if row.finetuning != "none" else []
            headings.append((", ".join(words), height))
            height += 0.8
        encoder, group = row.encoder, (row.encoder, row.finetuning)
        positions.append(height)
        height += 1.0
    return positions, headings


def _draw_panel(
    panel: Axes, table: Table, column: Column, kinds: Sequence[str], positions: list[float], headings: list[tuple[str, float]]
) -> None:
    style = looks(kinds)
    low, high, outside = axis_limits(column)
    panel.set_xlim(low, high)
    for index, (kind, entry, height) in enumerate(zip(kinds, column.entries, positions, strict=True)):
        if entry.mean is None:
            panel.annotate(
                PENDING if entry.defined else UNDEFINED, (0.5, height), xycoords=panel.get_yaxis_transform(), ha="center", va="center",
                color="#777777", style="italic", fontsize=7, bbox=_PLATE,
            )  # fmt: skip
            continue
        weight, shown = "bold" if index in column.bold else "normal", column.metric.shown(entry.mean)
        if index in outside:  # would compress all others
            left = entry.mean < low
            panel.annotate(
                f"◂ {shown}" if left else f"{shown} ▸", (0.0 if left else 1.0, height), xycoords=panel.get_yaxis_transform(),
                ha="left" if left else "right", va="center", fontsize=7, color=style[kind].color, fontweight=weight, bbox=_PLATE, zorder=4,
            )  # fmt: skip
            continue
        _draw_point(panel, entry, height, style[kind])
        panel.annotate(
            shown, (entry.mean, height), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=7, fontweight=weight, zorder=4,
            bbox=_PLATE,
        )  # fmt: skip
    panel.set_ylim(max(positions) + 0.6, min([*positions, *(place for _, place in headings)]) - 0.8)
    panel.set_xlabel(column.metric.better, fontsize=7.5, loc="right" if column.metric.higher_is_better else "left")
    dress(panel, title_of(column.metric, 30), grid="x")
    panel.tick_params(axis="y", length=0, labelsize=8)
    if not any(entry.mean is not None for entry in column.entries):
        panel.set_xticks([])
    panel.set_yticks(positions, _row_names(table, grouped=bool(headings)))


def _row_names(table: Table, *, grouped: bool) -> list[str]:
    """Labels of the rows, with the encoder if labels repeat."""
    names = [table.label(row) for row in range(len(table.rows))]
    if not grouped and len(set(names)) < len(names):
        names = [f"{name} ({row.encoder})" for name, row in zip(names, table.rows, strict=True)]
    return [short(name, 40) for name in names]


def _draw_point(panel: Axes, entry: Entry, height: float, look: Look) -> None:
    assert entry.mean is not None
    panel.errorbar(
        entry.mean, height, xerr=entry.half_width, linestyle="none", elinewidth=1.2, capsize=2.5, zorder=3, **look.style
    )  # fmt: skip


def axis_limits(column: Column) -> tuple[float, float, set[int]]:
    """Ends of the axis, and rows outside it: an outlier that would leave the others less than a quarter of the axis.

    The axis covers means and intervals of the other rows, clipped to the range of the metric.
    """
    means = {row: entry.mean for row, entry in enumerate(column.entries) if entry.mean is not None}
    outside: set[int] = set()
    for end in (min, max) if len(means) > 3 else ():
        left = {row: mean for row, mean in means.items() if row not in outside}
        extreme = end(left, key=left.__getitem__)
        rest = [mean for row, mean in left.items() if row != extreme]
        if max(rest) - min(rest) < _SQUASHED * (max(left.values()) - min(left.values())):
            outside.add(extreme)
    inside = [(mean, column.entries[row].half_width or 0.0) for row, mean in means.items() if row not in outside]
    if not inside:
        return 0.0, 1.0, outside
    least, most = (-math.inf, math.inf) if column.metric.signed or column.metric.task is None else column.metric.ends
    low, high = max(least, min(mean - width for mean, width in inside)), min(most, max(mean + width for mean, width in inside))
    # Room for the numbers above the points.
    margin = 0.22 * (high - low) or 0.05 * abs(high) or 1.0
    return max(low - margin, least - margin / 4), min(high + margin, most + margin / 4), outside


def _reference_lines(panel: Axes, table: Table, column: Column, positions: list[float]) -> None:
    """Draw the value of each pre-trained encoder through all rows of that encoder."""
    for row, entry, height in zip(table.rows, column.entries, positions, strict=True):
        last = max(place for other, place in zip(table.rows, positions, strict=True) if other.encoder == row.encoder)
        # An encoder with a single row, such as filterbanks, needs no line.
        if row.method == "pretrained" and entry.mean is not None and last != height:
            panel.plot([entry.mean, entry.mean], [height, last + 0.4], **_LINE)  # type: ignore[arg-type]


def _zero_line(panel: Axes, _table: Table, column: Column, _positions: list[float]) -> None:
    """Draw the line of zero difference."""
    if any(entry.mean is not None for entry in column.entries):
        panel.axvline(0, **_LINE)  # type: ignore[arg-type]


def _foot(table: Table) -> list[str]:
    interval = interval_legend(table.columns)
    legend = [f"Points: means over the seeds of the heads. Lines: {interval}" if interval else "Points: one seed of the heads."]
    if any(column.bold for column in table.columns):
        legend.append("Bold: better than all others by more than the interval of the difference.")
    if any(row.method == "pretrained" for row in table.rows):
        legend.append("Dashed: the encoder before fine-tuning.")
    if any(axis_limits(column)[2] for column in table.columns):
        legend.append("◂ or ▸: off the axis.")
    return [*table.notes, " ".join(legend)]
