"""Printing and logging of commands, with control characters in text from files escaped."""

from __future__ import annotations

import logging
import sys
from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING

from speechft.files.escapes import terminal_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def say(value: object) -> None:
    """Print one or more lines."""
    print(terminal_text(str(value)))


def rich_table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: Container[str]) -> Table:
    """Build a table for `console`. Columns with headings in `right` are right-aligned; a row `total` gets a line above."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left")
    for row in rows:
        if row[0] == "total":
            table.add_section()
        table.add_row(*map(terminal_text, row))
    return table


def console(width: int) -> Console:
    """Create a console as wide as the terminal; without a terminal `width` columns, so that long lines in a file are not wrapped."""
    from rich.console import Console

    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else width)


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return terminal_text(super().format(record))


def log_to_terminal() -> None:
    """Send messages of all loggers to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for library in ("httpx", "httpx2"):  # huggingface_hub would log a line per request
        logging.getLogger(library).setLevel(logging.WARNING)
