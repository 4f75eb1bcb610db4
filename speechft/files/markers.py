"""The marker in every folder that a command made: which command, and which files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

MARKER = ".speechft.json"
"""In every folder that a command made; hidden, and of no meaning to other programs."""
SNAKEMAKE_STAMP = ".snakemake_timestamp"
"""Snakemake's own mark in a folder that is an output of a rule."""


@dataclass(frozen=True)
class Record:
    """The command (a verb) and the relative paths of its files; a path that ends with a slash is a folder."""

    made_by: str
    files: frozenset[str]

    def covers(self, entry: str) -> bool:
        """Whether the command made `entry`."""
        return entry in self.files or (entry.endswith("/") and any(file.startswith(entry) for file in self.files))


def read_record(folder: Path) -> Record | None:
    """Read the marker of a folder; None where there is none, or a damaged one."""
    try:
        value = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("schema") != 1 or not isinstance(value.get("files"), list):
        return None
    return Record(str(value.get("made_by")), frozenset(map(str, value["files"])))
