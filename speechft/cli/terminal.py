"""What the verbs print and log: text from files that others wrote reaches the terminal without control characters."""

from __future__ import annotations

import logging
import sys

from speechft.files.escapes import terminal_text


def say(value: object) -> None:
    """Print a line, or a text of several."""
    print(terminal_text(str(value)))


class _Plain(logging.Formatter):
    """The message alone."""

    def format(self, record: logging.LogRecord) -> str:
        return terminal_text(super().format(record))


def log_to_terminal() -> None:
    """Send the messages of all loggers to the standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
