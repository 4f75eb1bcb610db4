"""The figure of a curve: one panel a metric, the metric against alpha with its 95 % band."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from speechft.recipes.tables import CurveRecipe
from speechft.tables.canvas import new_page, short
from speechft.tables.layout import Column, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER_ALPHA = 0.25
"""alpha of all main results of Speech-FT."""
_COLUMNS = 3
_WIDTH, _HEIGHT = 3.2, 2.7  # inches
_CURVE: dict[str, Any] = {"color": "#2166ac", "marker": "o", "markersize": 3.5, "linewidth": 1.4}
_START: dict[str, Any] = {"color": "#000000", "marker": "s", "markersize": 6.5, "linestyle": "none"}
_END: dict[str, Any] = {"color": "#b35806", "marker": "D", "markersize": 6.5, "linestyle": "none"}
_PAPER: dict[str, Any] = {"color": "#888888", "linestyle": ":", "linewidth": 1.2}


def draw_curve(recipe: CurveRecipe, table: Table) -> Figure:
    """Panels of all metrics of the table whose rows are the points of the curve."""
    across = min(_COLUMNS, len(table.columns))
    down = -(-len(table.columns) // across)
    figure = new_page(table.title, _foot(table), 0.4 + _WIDTH * max(across, 2), _HEIGHT * down)
    panels = figure.subplots(down, across, squeeze=False)
    for place, panel in enumerate(panels.flat):
        if place < len(table.columns):
            _panel(panel, recipe, table.columns[place])
        else:
            panel.set_visible(False)
    _legend(panels[0, 0], recipe)
    return figure


def _legend(panel: Axes, recipe: CurveRecipe) -> None:
    """In the first panel, where it hides least."""
    from matplotlib.lines import Line2D

    between = dict.fromkeys(point.label for point in recipe.points if point.alpha not in (0, 1))
    panel.legend(
        handles=[
            Line2D([], [], **_START, label=f"{short(recipe.start)} (alpha 0)"),
            Line2D([], [], **_CURVE, label=short(", ".join(between))),
            Line2D([], [], **_END, label=f"{short(recipe.end)} (alpha 1)"),
            Line2D([], [], **_PAPER, label=f"alpha {PAPER_ALPHA:g}, the paper's"),
        ],
        loc="best", fontsize=6.5, framealpha=0.85, edgecolor="none", labelspacing=0.3,
    )  # fmt: skip


def _panel(panel: Axes, recipe: CurveRecipe, column: Column) -> None:
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
        panel.annotate("pending", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color="#777777", style="italic")
        panel.set_yticks([])
    panel.margins(y=0.15)
    panel.set_xlim(min(point.alpha for point in recipe.points), max(point.alpha for point in recipe.points))
    panel.set_title("\n".join(textwrap.wrap(column.metric.title.removesuffix(f" {column.metric.arrow}"), 34)), fontsize=8.5, loc="left")
    panel.set_xlabel("alpha", fontsize=7.5)
    panel.set_ylabel("better →" if column.metric.higher_is_better else "← better", fontsize=7.5)
    panel.tick_params(labelsize=7)
    panel.yaxis.grid(visible=True, color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)


def _foot(table: Table) -> list[str]:
    entries = [entry for column in table.columns for entry in column.entries]
    legend = ["Points: means over the seeds of the heads."]
    if any(entry.std is not None for entry in entries):
        legend.append("Band: 95 % confidence interval (Student's t).")
    pending = sum(entry.mean is None for entry in entries)
    if pending:
        legend.append(f"Pending: {pending} of {len(entries)} points.")
    return [*table.notes, " ".join(legend)]
