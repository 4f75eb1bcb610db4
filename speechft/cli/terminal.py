"""What the verbs print and log: text from files that others wrote reaches the terminal without control characters."""

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
    """Print a line, or a text of several."""
    print(terminal_text(str(value)))


def rich_table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: Container[str], *, total: bool = False) -> Table:
    """A table for `console`; the columns with headings in `right` hold numbers, and with `total` a line stands above the last row."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left")
    for row in rows:
        table.add_row(*map(terminal_text, row))
    if total and len(table.rows) > 1:
        table.rows[-2].end_section = True
    return table


def console(width: int) -> Console:
    """A console of the terminal's width, or of `width` where there is no terminal: lines in a file are as long as they need to be."""
    from rich.console import Console

    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else width)


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return terminal_text(super().format(record))


def log_to_terminal() -> None:
    """Send the messages of all loggers to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for library in ("httpx", "httpx2"):  # each request of huggingface_hub would be a line
        logging.getLogger(library).setLevel(logging.WARNING)
