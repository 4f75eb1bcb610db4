"""A table of differences between rows of a table, with the intervals of the differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from speechft.errors import TableError
from speechft.files.atomic import write_text
from speechft.files.output_kinds import DIFFERENCES
from speechft.files.outputs import check_shown
from speechft.recipes.tables import TableRecipe
from speechft.tables.build import existing_cells
from speechft.tables.csv_file import csv_file
from speechft.tables.estimate import Estimate
from speechft.tables.figure import build_differences_figure
from speechft.tables.layout import Column, Entry, Table, arrange
from speechft.tables.metrics import TableMetric
from speechft.tables.published import Published
from speechft.tables.render import PENDING, html_page, latex, markdown

_LEGEND = (
    "Entries: mean of the first row minus mean of the second; the arrow tells which sign is an improvement.",
    "±: half of the 95 % confidence interval of the difference over seeds of the heads (Welch's t); none where a side has one value.",
    "Bold: the interval excludes 0. One in twenty differences between equal models does so by chance; nothing is corrected for this.",
    "Each model was trained once: the interval does not tell what training it again would give.",
)


class DifferenceMetric(TableMetric):
    """A metric whose values are differences, printed with their sign."""

    def shown(self, value: float) -> str:
        """The signed value."""
        return self.shown_difference(value)


class DifferenceColumn(Column):
    """Differences in one metric or score."""

    @cached_property
    def bold(self) -> frozenset[int]:
        """Rows whose interval excludes 0."""
        return frozenset(row for row, entry in enumerate(self.entries) if _excludes_0(entry))


@dataclass(frozen=True)
class Differences:
    """The table, and of each of its rows the two places in the table that it is from."""

    table: Table
    pairs: tuple[tuple[int, int], ...]
    of: Table


def build_differences(
    recipe: TableRecipe, cells: Sequence[str | Path], out_dir: str | Path, figures_dir: str | Path | None, name: str
) -> Differences:
    """Write `{name}.csv`, `.md`, `.tex`, `.html` into `out_dir`, `{name}.png`, `.svg` into `figures_dir`, each complete or not at all.

    Args:
        recipe: that of the table; its `differences` name the rows to compare.
        cells: cell files, as for `build_table`.
        out_dir: folder, made when missing; another one than that of the table.
        figures_dir: the same for the figure; None for no figure.
        name: of the table and these files.

    Raises:
        TableError: the recipe compares no rows, or see `build_table`.
    """
    check_shown(out_dir, figures_dir, name, (".tex", ".html", ".md"), DIFFERENCES, cells)
    found = arrange_differences(recipe, cells, name)
    for suffix, text in (
        (".csv", differences_csv(found)),
        (".tex", latex(found.table)),
        (".html", html_page(found.table)),
        (".md", markdown(found.table)),
    ):
        write_text(Path(out_dir) / f"{name}{suffix}", text)
    if figures_dir is not None:
        build_differences_figure(found.table, Path(figures_dir) / f"{name}.png")
    return found


def arrange_differences(recipe: TableRecipe, cells: Sequence[str | Path], name: str) -> Differences:
    """The same without files."""
    if not recipe.differences:
        raise TableError(f"The table {name} compares no rows. Name them as `differences`, e.g. [pretrained, stable_ft].")
    if bad := [pair for pair in recipe.differences if not all(0 <= place < len(recipe.rows) for place in pair)]:
        raise TableError(f"The table {name} has {len(recipe.rows)} rows; there are none to compare at {bad[0]}.")
    table = arrange(recipe.model_copy(update={"published": None}), existing_cells(cells), Published({}), name)
    rows = []
    for first, second in recipe.differences:
        row, other = table.rows[first], table.rows[second]
        rows.append(row.model_copy(update={"label": f"{row.label} minus {other.label}"}))
    mixed = {pair for pair in recipe.differences for column in table.columns if _mixed(*(column.entries[place] for place in pair))}
    columns = [
        DifferenceColumn(
            DifferenceMetric(**{field.name: getattr(column.metric, field.name) for field in fields(column.metric)}),
            tuple(
                # A score over tasks is no more comparable than its metrics.
                Entry(defined=False)
                if column.metric.task is None and pair in mixed
                else _difference(*(column.entries[place] for place in pair))
                for pair in recipe.differences
            ),
        )
        for column in table.columns
    ]
    hashes = tuple(table.hashes[first] for first, _ in recipe.differences)
    title = f"{table.title}: differences"
    compared = Table(f"{name}-differences", title, tuple(rows), tuple(columns), hashes, table.notes, _LEGEND)
    return Differences(compared, recipe.differences, table)


def _difference(first: Entry, second: Entry) -> Entry:
    if not (first.defined and second.defined) or _mixed(first, second):
        return Entry(defined=False)
    if first.number is None or second.number is None:
        return Entry()
    precision = "bf16" if "bf16" in (first.precision, second.precision) else first.precision
    if (first.half_width is None) != (second.half_width is None):  # how much one of them varies is not known
        return Entry(precision=precision, estimate=Estimate(((first.number.mean,), (-second.number.mean,))))
    return Entry(precision=precision, estimate=first.number - second.number)


def _mixed(first: Entry, second: Entry) -> bool:
    """Whether they were measured under different protocols."""
    return len({entry.protocol for entry in (first, second) if entry.protocol}) > 1


def _excludes_0(entry: Entry) -> bool:
    return entry.mean is not None and entry.half_width is not None and abs(entry.mean) > entry.half_width


def differences_csv(found: Differences) -> str:
    """One line for each difference and metric, full precision; what is not known is empty."""
    records: list[dict[str, Any]] = []
    for index, (first, second) in enumerate(found.pairs):
        row, other = found.of.rows[first], found.of.rows[second]
        for column in found.table.columns:
            entry = column.entries[index]
            records.append(
                {
                    "encoder": row.encoder,
                    "finetuning": row.finetuning,
                    "method": row.method,
                    "minus_encoder": other.encoder,
                    "minus_finetuning": other.finetuning,
                    "minus_method": other.method,
                    "task": column.metric.task,
                    "metric": column.metric.key,
                    "unit": column.metric.unit,
                    "higher_is_better": column.metric.higher_is_better,
                    "status": "measured" if entry.number else PENDING if entry.defined else "undefined",
                    "difference": entry.mean,
                    "interval_95": entry.half_width,
                    "excludes_0": _excludes_0(entry) if entry.half_width is not None else None,
                }
            )
    return csv_file(records)
