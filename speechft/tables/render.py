"""A table as Markdown, LaTeX (booktabs), HTML and tidy CSV. All four show the same entries and notes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from speechft.files.escapes import code_line, html_escape, latex_escape, markdown_escape, markdown_item, one_line
from speechft.tables.csv_file import csv_file
from speechft.tables.layout import Column, Entry, Table
from speechft.tables.notes import SECOND_HAND_MARK
from speechft.tables.published import SECOND_HAND

PENDING = "pending"
UNDEFINED = "n/a"
_PENDING_HEADING = "Commands for the pending cells, row by row (on a cluster `--profile slurm` in place of `--cores all`)"
_LEADING = ("method", "encoder", "fine-tuning")


def entry_text(column: Column, row: int, escape: Callable[[str], str], bold: str) -> str:
    """One entry, e.g. `**96.92 ± 0.11** (96.59, +0.33)`; a published number at second hand has a mark.

    Args:
        column: its column.
        row: its row.
        escape: plain text -> the format.
        bold: the format's bold, with {} for the text.
    """
    entry, metric = column.entries[row], column.metric
    ours = _ours(entry, column)
    text = bold.format(escape(ours)) if row in column.bold else escape(ours)
    if entry.published is None:
        return text
    beside = metric.shown(entry.published) + (SECOND_HAND_MARK if entry.source == SECOND_HAND else "")
    if entry.difference is not None:
        beside += f", {metric.shown_difference(entry.difference)}"
    return f"{text} {escape(f'({beside})')}"


def _ours(entry: Entry, column: Column) -> str:
    if entry.mean is None:
        return PENDING if entry.defined else UNDEFINED
    text = column.metric.shown(entry.mean)
    return text if entry.half_width is None else f"{text} ± {column.metric.shown_width(entry.half_width)}"


def _grid(table: Table, escape: Callable[[str], str], bold: str) -> tuple[list[str], list[list[str]]]:
    header = [*map(escape, _LEADING), *(escape(column.metric.title) for column in table.columns)]
    rows = []
    for index, row in enumerate(table.rows):
        leading = [escape(table.label(index)), escape(row.encoder), escape(row.finetuning)]
        rows.append([*leading, *(entry_text(column, index, escape, bold) for column in table.columns)])
    return header, rows


def markdown(table: Table) -> str:
    """GitHub-flavoured Markdown, columns padded so that the source can be read too."""
    header, rows = _grid(table, markdown_escape, "**{}**")
    return markdown_page(table, header, rows, len(_LEADING))


def markdown_page(table: Table, header: list[str], rows: list[list[str]], leading: int) -> str:
    """Title, grid and notes; the first `leading` columns hold words, the others numbers."""
    widths = [max(3, *(len(line[place]) for line in [header, *rows])) for place in range(len(header))]
    rules = ["-" * width if place < leading else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in [header, rules, *rows]
    ]
    notes = [f"- {markdown_item(note)}" for note in (*table.notes, *table.legend)]
    waiting = map(code_line, table.pending_commands)
    commands = ["", f"{_PENDING_HEADING}:", "", "```", *waiting, "```"] if table.pending_commands else []
    return "\n".join([f"# {markdown_escape(table.title)}", "", *lines, "", *notes, *commands]).rstrip() + "\n"


def latex(table: Table) -> str:
    r"""A `table` environment; needs \usepackage{booktabs}."""
    header, rows = _grid(table, latex_escape, r"\textbf{{{}}}")
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_escape(table.title)}}}",
        rf"\label{{tab:{re.sub('[^A-Za-z0-9]+', '-', table.name)}}}",
        rf"\begin{{tabular}}{{{'l' * len(_LEADING)}{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\footnotesize {latex_escape(note)}" for note in (*table.notes, *table.legend)),
        r"\end{table}",
        *([f"% {_PENDING_HEADING}:"] if table.pending_commands else []),
        *(f"% {one_line(command)}" for command in table.pending_commands),
    ]
    return "\n".join(lines) + "\n"


_STYLE = (
    "body{font-family:sans-serif;margin:2em}table{border-collapse:collapse}th,td{padding:.3em .8em;text-align:right;white-space:nowrap}"
    "th{border-bottom:1px solid}td:nth-child(-n+3),th:nth-child(-n+3){text-align:left}"
    "table{border-top:2px solid;border-bottom:2px solid}li{margin:.2em 0}"
)


def html_page(table: Table) -> str:
    """A page of its own, without scripts or files from elsewhere."""
    header, rows = _grid(table, html_escape, "<strong>{}</strong>")
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        f'<head><meta charset="utf-8"><title>{html_escape(table.title)}</title><style>{_STYLE}</style></head>',
        "<body>",
        f"<h1>{html_escape(table.title)}</h1>",
        "<table>",
        "<thead><tr>" + "".join(f"<th>{cell}</th>" for cell in header) + "</tr></thead>",
        "<tbody>",
        *("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows),
        "</tbody>",
        "</table>",
        "<ul>",
        *(f"<li>{html_escape(note)}</li>" for note in (*table.notes, *table.legend)),
        "</ul>",
        *([f"<p>{_PENDING_HEADING.replace('`', '')}:</p>"] if table.pending_commands else []),
        *([f"<pre>{chr(10).join(map(html_escape, table.pending_commands))}</pre>"] if table.pending_commands else []),
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def tidy_csv(table: Table) -> str:
    """One line for each row and column of the table, full precision; what is not known is empty."""
    records: list[dict[str, Any]] = [
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
            "status": "measured" if entry.number else PENDING if entry.defined else "undefined",
            "value": entry.mean,
            "interval_95": entry.half_width,
            "std": entry.std,
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
    return csv_file(records)
