"""The sentence in a job's log that says why it failed."""

from __future__ import annotations

import re
from pathlib import Path

ERROR = "error: "
"""How the last message of a failed `speechft` command begins."""
SHOWN = 4
"""Lines of one message; a corpus has up to fifty problems."""

_EXCEPTION = re.compile(
    r"(?:\[rank\d+\]: )?([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning|Failure|Killed|Iteration)\b(?:: .*)?)"
)
_PROGRESS = re.compile(r"\d+%\|.*\||\d+(?:\.\d+)?(?:it/s|s/it)\b")
_OF_TORCHRUN = "ChildFailedError"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def last_words(text: str) -> str | None:
    """What a log says about a failure; None if it says nothing.

    That is our own last message (`error: ...`, with the first of the problems that it lists), or else the exception under a traceback. Of
    processes under torchrun the exception of one of them counts, not torchrun's own report about it.

    Args:
        text: of the log. Progress bars, which write over themselves, may stand before anything.
    """
    lines = [_ESCAPES.sub("", line).rsplit("\r", 1)[-1].rstrip() for line in re.split(r"\r?\n", text)]
    for place in range(len(lines) - 1, -1, -1):
        if lines[place].startswith(ERROR):
            return "\n".join(_shortened([lines[place].removeprefix(ERROR), *_indented(lines[place + 1 :])]))
    found = [match[1] for line in lines if (match := _EXCEPTION.fullmatch(line)) and _OF_TORCHRUN not in line]
    return found[-1] if found and any("Traceback (most recent call last)" in line for line in lines) else None


def last_line(text: str) -> str | None:
    """The last line of a log that is no progress bar; None if there is none."""
    lines = [_ESCAPES.sub("", line).rsplit("\r", 1)[-1].strip() for line in re.split(r"\r?\n", text)]
    return next((line for line in reversed(lines) if line and not _PROGRESS.search(line)), None)


def log_text(path: str | Path, newest: int = 200_000) -> str | None:
    """The last `newest` bytes of a log; None if there is no such file."""
    try:
        with Path(path).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - newest))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return None


def _indented(lines: list[str]) -> list[str]:
    found = []
    for line in lines:
        if not line.startswith("  "):
            break
        found.append(line)
    return found


def _shortened(lines: list[str]) -> list[str]:
    more = len(lines) - SHOWN
    return lines if more <= 0 else [*lines[:SHOWN], f"  and {more} more lines"]
