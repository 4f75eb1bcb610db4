"""The figure of a table: one small panel a metric, one line a model."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from speechft.files.outputs import check_figure
from speechft.recipes.tables import TableRecipe
from speechft.tables.build import existing_cells
from speechft.tables.canvas import MAX_PANELS_HEIGHT, new_page, save_figure, short
from speechft.tables.layout import Column, Table, arrange
from speechft.tables.published import Published
from speechft.tables.render import PENDING, UNDEFINED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 4
_WIDTH, _LINE_HEIGHT, _PANEL_EXTRA = 2.5, 0.34, 1.0  # inches
# Shape tells methods apart without colour; filled and hollow alternate.
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "*")
_COLOURS = ("#000000", "#b35806", "#2166ac", "#1b7837", "#762a83", "#8c510a", "#35978f", "#bf812d", "#80cdc1", "#c51b7d")
_STYLE = {"axes.spines.left": False}
_PLATE = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}  # keeps numbers readable over lines


def build_figure(recipe: TableRecipe, cells: Sequence[str | Path], out_png: str | Path) -> None:
    """Draw our values of a table's metrics; write `out_png` and the same as `.svg` beside it, each complete or not at all.

    A point is the mean over seeds, a bar its 95 % interval, the dashed line the pre-trained encoder of the same group of rows. The same
    cells give the same bytes with the same matplotlib.

    Args:
        recipe: the recipe of the table; published numbers are not drawn.
        cells: cell files; missing ones are shown as pending.
        out_png: the raster file, 200 dpi.

    Raises:
        TableError: see `build_table`.
    """
    check_figure(out_png, cells)
    table = arrange(recipe.model_copy(update={"published": None}), existing_cells(cells), Published({}), Path(out_png).stem)
    save_figure(lambda: _draw(table, [row.method for row in table.rows], _foot(table), _reference_lines), out_png, **_STYLE)


def build_differences_figure(table: Table, out_png: str | Path) -> None:
    """The same for differences between rows: a point is a difference, a bar its 95 % interval, the dashed line says `no difference`."""
    kinds = [row.label for row in table.rows]
    save_figure(lambda: _draw(table, kinds, [*table.notes, *table.legend], _zero_line), out_png, **_STYLE)


def _draw(
    table: Table, kinds: Sequence[str], foot: Sequence[str], draw_lines: Callable[[Axes, Table, Column, list[float]], None]
) -> Figure:
    """Rows of one kind look alike; `draw_lines` puts lines behind them."""
    columns = [column for column in table.columns if any(entry.defined for entry in column.entries)]
    across = min(_COLUMNS, len(columns))
    down = -(-len(columns) // across)
    lines = (MAX_PANELS_HEIGHT / down - _PANEL_EXTRA) / _LINE_HEIGHT - 1
    fitting = sum(place <= lines for place in _positions(table)[0])
    if fitting < len(table.rows):
        note = f"Only the first {fitting} of {len(table.rows)} rows are drawn, which is what a figure has room for; the table has all."
        return _draw(_first_rows(table, fitting), kinds[:fitting], [note, *foot], draw_lines)
    positions, headings = _positions(table)
    panel_height = _PANEL_EXTRA + _LINE_HEIGHT * (max([*positions, *(place for _, place in headings)]) + 1)
    width = 1.3 + _WIDTH * across
    figure = new_page(table.title, foot, width, panel_height * down)
    panels = figure.subplots(down, across, squeeze=False, sharey=True)
    for place, panel in enumerate(panels.flat):
        if place < len(columns):
            draw_lines(panel, table, columns[place], positions)
            _panel(panel, table, columns[place], kinds, positions, headings, labelled=place % across == 0)
        else:
            panel.set_visible(False)
    return figure


def _first_rows(table: Table, count: int) -> Table:
    columns = tuple(replace(column, entries=column.entries[:count]) for column in table.columns)
    return replace(table, rows=table.rows[:count], hashes=table.hashes[:count], columns=columns)


def _positions(table: Table) -> tuple[list[float], list[tuple[str, float]]]:
    """Height of each row from the top, and (text, height) of a heading for each group of rows when there are several fine-tunings."""
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


def _panel(
    panel: Axes,
    table: Table,
    column: Column,
    kinds: Sequence[str],
    positions: list[float],
    headings: list[tuple[str, float]],
    labelled: bool,
) -> None:
    different = list(dict.fromkeys(kinds))
    for index, (kind, entry, height) in enumerate(zip(kinds, column.entries, positions, strict=True)):
        if entry.mean is None:
            panel.annotate(
                PENDING if entry.defined else UNDEFINED, (0.5, height), xycoords=panel.get_yaxis_transform(), ha="center", va="center",
                color="#777777", style="italic", fontsize=7, bbox=_PLATE,
            )  # fmt: skip
            continue
        style = different.index(kind) % len(_MARKERS)
        colour = _COLOURS[style]
        panel.errorbar(
            entry.mean, height, xerr=entry.half_width, fmt=_MARKERS[style], color=colour, markersize=6.5, capsize=2.5, linewidth=1.2,
            markerfacecolor="white" if style % 2 == 0 else colour, markeredgewidth=1.4, zorder=3,
        )  # fmt: skip
        weight = "bold" if index in column.bold else "normal"
        panel.annotate(
            column.metric.shown(entry.mean), (entry.mean, height), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=7,
            fontweight=weight, zorder=4, bbox=_PLATE,
        )  # fmt: skip
    panel.margins(x=0.22)
    panel.set_ylim(max(positions) + 0.6, min([*positions, *(place for _, place in headings)]) - 0.8)
    panel.set_title(
        "\n".join(textwrap.wrap(short(column.metric.title.removesuffix(f" {column.metric.arrow}")), 30)), fontsize=8.5, loc="left"
    )
    panel.set_xlabel(
        "better →" if column.metric.higher_is_better else "← better",
        fontsize=7.5,
        loc="right" if column.metric.higher_is_better else "left",
    )
    panel.tick_params(axis="y", length=0)
    panel.tick_params(axis="x", labelsize=7)
    panel.xaxis.grid(visible=True, color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)
    if not any(entry.mean is not None for entry in column.entries):
        panel.set_xticks([])
    panel.set_yticks(positions, [short(table.label(row)) for row in range(len(table.rows))])
    if labelled:
        for text, height in headings:
            panel.annotate(
                short(text), (0.0, height), xycoords=panel.get_yaxis_transform(), xytext=(-4, 0), textcoords="offset points", ha="right",
                va="center", fontsize=7, color="#333333", fontweight="bold", annotation_clip=False,
            )  # fmt: skip


def _reference_lines(panel: Axes, table: Table, column: Column, positions: list[float]) -> None:
    """The value of each encoder before fine-tuning, through all rows of that encoder."""
    for row, entry, height in zip(table.rows, column.entries, positions, strict=True):
        if row.method == "pretrained" and entry.mean is not None:
            last = max(place for other, place in zip(table.rows, positions, strict=True) if other.encoder == row.encoder)
            if last == height:  # nothing to compare with, as for filterbanks
                continue
            panel.plot([entry.mean, entry.mean], [height, last + 0.4], color="#888888", linestyle=(0, (3, 2)), linewidth=0.9, zorder=1)


def _zero_line(panel: Axes, _table: Table, column: Column, _positions: list[float]) -> None:
    """Where both rows of a difference are equal."""
    if any(entry.mean is not None for entry in column.entries):
        panel.axvline(0, color="#888888", linestyle=(0, (3, 2)), linewidth=0.9, zorder=1)


def _foot(table: Table) -> list[str]:
    entries = [entry for column in table.columns for entry in column.entries]
    legend = ["Points: means over the seeds of the heads, with 95 % confidence intervals (Student's t)."]
    if not any(entry.std is not None for entry in entries):
        legend = ["Points: one seed of the heads."]
    if any(column.bold for column in table.columns):
        legend.append("Bold: best in a panel.")
    if any(row.method == "pretrained" for row in table.rows):
        legend.append("Dashed: the encoder before fine-tuning.")
    return [*table.notes, " ".join(legend)]
