"""Tables as a self-contained web page: light and dark, on phones and on paper, with or without its script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import speechft
from speechft.files.escapes import one_line
from speechft.files.output_kinds import PROGRAM
from speechft.tables.render import COMMANDS, entry_parts
from speechft.tables.table import Table

_FOLDER = Path(__file__).with_name("html")


@dataclass(frozen=True)
class Picture:
    """A figure inside a page."""

    source: str
    """URL, such as `data:image/svg+xml;base64,...`."""
    text: str
    """Alternative text for screen readers."""
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of a page: a table, figures, or both."""

    id: str
    title: str
    table: Mapping[str, Any] | None = None
    figures: Sequence[Picture] = ()
    commands: Sequence[str] = ()


def html_page(table: Table) -> str:
    """Render a page with one table."""
    return render(table.title, [Section("table", table.title, table_content(table), commands=table.pending_commands)])


def render(title: str, sections: Sequence[Section], **content: Any) -> str:
    """Fill the template. All text in `content` and `sections` is plain text and is escaped."""
    from markupsafe import Markup

    files = {key: Markup((_FOLDER / name).read_text(encoding="utf-8")) for key, name in (("css", "page.css"), ("script", "page.js"))}
    fixed = {"program": PROGRAM, "version": speechft.__version__, "commands_title": COMMANDS.replace("`", "")}
    page: str = _template().render(title=title, sections=sections, **files, **fixed, **content)
    return page


def table_content(table: Table, links: Mapping[tuple[int, str], str] | None = None) -> dict[str, Any]:
    """Convert a table to the template's input; `links` maps row and task to the anchor of an entry."""
    leading = [("encoder", [row.encoder for row in table.rows]), ("fine-tuning", [row.finetuning for row in table.rows])]
    heads = [{"title": title, "better": ""} for title in ("method", *(name for name, _ in leading))]
    heads += [{"title": column.metric.title, "better": "higher" if column.metric.higher_is_better else "lower"} for column in table.columns]
    rows = []
    for index in range(len(table.rows)):
        entries = []
        for column in table.columns:
            ours, width, beside = entry_parts(column, index)
            mean = column.entries[index].mean
            entries.append(
                {
                    "label": column.metric.title, "text": ours, "width": width, "beside": beside, "bold": index in column.bold,
                    "value": "" if mean is None else repr(mean), "link": (links or {}).get((index, str(column.metric.task))),
                }
            )  # fmt: skip
        words = [{"label": name, "text": texts[index]} for name, texts in leading]
        rows.append({"label": table.label(index), "words": words, "entries": entries})
    orders = [(column.metric.title, place) for place, column in enumerate(table.columns, start=1 + len(leading))]
    return {"title": table.title, "heads": heads, "rows": rows, "orders": orders, "notes": (*table.notes, *table.legend)}


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: one_line(value) if type(value) is str else value,
    )
    environment.globals |= dict.fromkeys(("note", "summary", "trainings", "pending", "cells", "source"))
    return environment.get_template("page.html")
