"""Extract from a job's log the sentence that says why it failed."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

ERROR = "error: "
"""Prefix of the last message of a failed `speechft` command."""
SHOWN = 4
"""Maximum lines shown of one message, since a corpus can list fifty problems."""

_EXCEPTION = re.compile(
    r"(?:\[rank\d+\]: )?([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning|Failure|Killed|Iteration)\b(?:: .*)?)"
)
_PROGRESS = re.compile(r"\d+%\|.*\||\d+(?:\.\d+)?(?:it/s|s/it)\b")
_OF_TORCHRUN = "ChildFailedError"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def last_words(text: str) -> str | None:
    """Extract the error from a log; None if it contains none.

    This is our last message (`error: ...`, with the first problems it lists), otherwise the exception that ends a traceback. Under
    torchrun it is the exception of a process, not torchrun's own.
    """
    lines = _lines(text)
    for place in range(len(lines) - 1, -1, -1):
        if lines[place].startswith(ERROR):
            more = takewhile(lambda line: line.startswith("  "), lines[place + 1 :])
            message = [lines[place].removeprefix(ERROR), *more]
            left_out = [f"  and {len(message) - SHOWN} more lines"] if len(message) > SHOWN else []
            return "\n".join([*message[:SHOWN], *left_out])
    exceptions = [match[1] for line in lines if (match := _EXCEPTION.fullmatch(line)) and _OF_TORCHRUN not in line]
    return exceptions[-1] if exceptions and any("Traceback (most recent call last)" in line for line in lines) else None


def _lines(text: str) -> list[str]:
    """Lines as finally shown by a terminal, where progress bars overwrite themselves."""
    return [_ESCAPES.sub("", line).rsplit("\r", 1)[-1].rstrip() for line in re.split(r"\r?\n", text)]


def last_line(text: str) -> str | None:
    """Return the last line of a log that is not a progress bar; None if there is none."""
    return next((line.strip() for line in reversed(_lines(text)) if line.strip() and not _PROGRESS.search(line)), None)


def log_text(path: str | Path, newest: int = 200_000) -> str | None:
    """Read the last `newest` bytes of a log; None if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - newest))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return None
