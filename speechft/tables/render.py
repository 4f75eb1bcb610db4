"""Write a table as Markdown, LaTeX (booktabs) and tidy CSV, with the same entries and notes; HTML is in `speechft.tables.page`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from speechft.files.atomic import write_text
from speechft.files.escapes import code_line, csv_text, latex_escape, markdown_escape, markdown_item, one_line
from speechft.tables.notes import SECOND_HAND_MARK
from speechft.tables.published import SECOND_HAND
from speechft.tables.table import Column, Table

PENDING, UNDEFINED = "pending", "n/a"
SUFFIXES = (".tex", ".html", ".md")
"""Suffixes of a table's files, except the CSV."""
COMMANDS = "Commands for what is pending, row by row (on a cluster `--profile slurm` in place of `--cores all`):"
_COLUMN_CHARACTERS, _PAGE_CHARACTERS = 48, 100
"""Characters per column and per page of a two-column paper in LaTeX's `small`."""
_LEADING = ("method", "encoder", "fine-tuning")


def write_table(table: Table, out_dir: str | Path, name: str, csv: str) -> None:
    """Write `{name}.csv` (with the text `csv`), `.tex`, `.html` and `.md` into `out_dir`."""
    from speechft.tables.page import html_page

    for suffix, text in ((".csv", csv), (".tex", latex(table)), (".html", html_page(table)), (".md", markdown(table))):
        write_text(Path(out_dir) / f"{name}{suffix}", text)


def entry_parts(column: Column, row: int) -> tuple[str, str, str]:
    """Format one entry as three parts of plain text: `96.92`, `± 0.11`, `(96.59, +0.33)`; missing parts are empty.

    The last part is the published number, marked if second-hand, and ours minus published.
    """
    entry, metric = column.entries[row], column.metric
    ours, width, beside = "" if entry.alone else PENDING if entry.defined else UNDEFINED, "", ""
    if entry.mean is not None:
        ours = metric.shown(entry.mean)
    if entry.mean is not None and entry.half_width is not None:
        width = f"± {metric.shown_width(entry.half_width)}"
    if entry.published is not None:
        beside = metric.shown(entry.published) + (SECOND_HAND_MARK if entry.source == SECOND_HAND else "")
        difference = "" if entry.difference is None else f", {metric.shown_difference(entry.difference)}"
        beside = f"({beside}{difference})"
    return ours, width, beside


def entry_text(column: Column, row: int, escape: Callable[[str], str], bold: str) -> str:
    """Format one entry as `**96.92 ± 0.11** (96.59, +0.33)`; second-hand published numbers are marked.

    `escape` converts plain text to the output format; `bold` is that format's bold, with {} for the text.
    """
    ours, width, beside = entry_parts(column, row)
    text = escape(f"{ours} {width}".strip())
    text = bold.format(text) if row in column.bold else text
    return f"{text} {escape(beside)}".strip()


def _grid(table: Table, escape: Callable[[str], str], bold: str) -> list[list[str]]:
    """Format all lines of a table, the header first."""
    lines = [[escape(text) for text in (*_LEADING, *(column.metric.title for column in table.columns))]]
    for index, row in enumerate(table.rows):
        leading = [escape(text) for text in (table.label(index), row.encoder, row.finetuning)]
        lines.append([*leading, *(entry_text(column, index, escape, bold) for column in table.columns)])
    return lines


def markdown(table: Table) -> str:
    """Format a table as GitHub-flavored Markdown."""
    grid = _grid(table, markdown_escape, "**{}**")
    return markdown_page(table.title, grid, len(_LEADING), (*table.notes, *table.legend), table.pending_commands)


def markdown_page(title: str, grid: Sequence[Sequence[str]], leading: int, notes: Sequence[str], commands: Sequence[str] = ()) -> str:
    """Format title, grid (escaped, header first) and notes as Markdown; the first `leading` columns are text, the others numbers.

    Columns are padded to keep the source readable.
    """
    widths = [max(3, *map(len, column)) for column in zip(*grid, strict=True)]
    rules = ["-" * width if place < leading else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    lines = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in (grid[0], rules, *grid[1:])]
    page = [f"# {markdown_escape(title)}", "", *(f"| {' | '.join(line)} |" for line in lines), ""]
    page += [f"- {markdown_item(note)}" for note in notes]
    if commands:
        page += ["", COMMANDS, "", "```", *map(code_line, commands), "```"]
    return "\n".join(page).rstrip() + "\n"


def latex(table: Table) -> str:
    r"""Format a table as a `table` environment, or `table*` if wider than a column; needs \usepackage{booktabs}.

    A table wider than the page is split into parts below one another, each with the names of the rows.
    """
    header, *rows = _grid(table, latex_escape, r"\textbf{{{}}}")
    parts = _latex_parts(table)
    wide = "*" if len(parts) > 1 or _characters(table, parts[0]) > _COLUMN_CHARACTERS else ""
    lines = [
        r"% needs \usepackage{booktabs}",
        rf"\begin{{table{wide}}}",
        r"\centering\small",
        rf"\caption{{{latex_escape(table.title)}}}",
        rf"\label{{tab:{re.sub('[^A-Za-z0-9]+', '-', table.name)}}}",
    ]
    for number, part in enumerate(parts):
        places = [*range(len(_LEADING)), *(len(_LEADING) + column for column in part)]
        lines += [
            *([r"\par\medskip"] if number else []),
            rf"\begin{{tabular}}{{{'l' * len(_LEADING)}{'r' * len(part)}}}",
            r"\toprule",
            " & ".join(header[place] for place in places) + r" \\",
            r"\midrule",
            *(" & ".join(row[place] for place in places) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    lines += [
        *(rf"\par\footnotesize {latex_escape(note)}" for note in (*table.notes, *table.legend)),
        rf"\end{{table{wide}}}",
        *(f"% {one_line(line)}" for line in ([COMMANDS, *table.pending_commands] if table.pending_commands else [])),
    ]
    return "\n".join(lines) + "\n"


def _latex_parts(table: Table) -> list[list[int]]:
    """Split columns into parts that fit on a page, with at least one column each even if that is too wide."""
    parts: list[list[int]] = [[]]
    for column in range(len(table.columns)):
        if parts[-1] and _characters(table, [*parts[-1], column]) > _PAGE_CHARACTERS:
            parts.append([])
        parts[-1].append(column)
    return parts


def _characters(table: Table, columns: Sequence[int]) -> int:
    """Length of the longest line with the leading columns and `columns`."""
    lines = _grid(table, one_line, "{}")
    places = [*range(len(_LEADING)), *(len(_LEADING) + column for column in columns)]
    return sum(max(len(line[place]) for line in lines) + 2 for place in places)


def table_records(table: Table) -> list[dict[str, Any]]:
    """List one record per row and column of the table, row by row, in full precision; unknown values are None."""
    return [
        {
            "table": table.name,
            "encoder": row.encoder,
            "finetuning": row.finetuning,
            "method": row.method,
            "label": row.label,
            "task": column.metric.task,
            "metric": column.metric.key,
            "unit": column.metric.unit,
            "higher_is_better": column.metric.higher_is_better,
            "status": entry.status,
            "value": entry.mean,
            "interval_95": entry.half_width,
            "std": entry.std,
            "drawn": entry.drawn,
            "seeds": entry.seeds,
            "values": entry.values,
            "protocol": entry.protocol,
            "precision": entry.precision,
            "published": entry.published,
            "published_source": entry.source,
            "difference": entry.difference,
            "model_sha256": table.hashes[index],
            "command": table.command_of(index, column),
            **({"reason": table.reason_of(index, column)} if table.reasons else {}),
        }
        for index, row in enumerate(table.rows)
        for column in table.columns
        for entry in [column.entries[index]]
    ]


def csv_file(records: Sequence[Mapping[str, Any]], columns: list[str] | None = None) -> str:
    """Format records as CSV, one line each: numbers in full precision, text safe from being read as spreadsheet formulas.

    None and missing values are empty. A tuple of numbers is one cell, separated by `;`.
    """
    import pandas as pd

    cells = [{key: _csv_cell(value) for key, value in record.items()} for record in records]
    buffer = StringIO()
    pd.DataFrame.from_records(cells, columns=columns).to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, str):
        return csv_text(value)
    return ";".join(map(repr, value)) if isinstance(value, tuple) else value
