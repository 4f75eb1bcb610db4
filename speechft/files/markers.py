"""Markers in output folders, which record the command and its files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

MARKER = ".speechft.json"
"""Name of the hidden marker file in every output folder."""
SNAKEMAKE_STAMP = ".snakemake_timestamp"
"""Snakemake's own marker in a folder that is an output of a rule."""


@dataclass(frozen=True)
class Record:
    """Content of a marker: the command and the relative paths of its files; a path that ends with a slash is a folder."""

    made_by: str
    files: frozenset[str]

    def covers(self, entry: str) -> bool:
        """Whether the command made `entry`."""
        return entry in self.files or (entry.endswith("/") and any(file.startswith(entry) for file in self.files))


def read_record(folder: Path) -> Record | None:
    """Read the marker of a folder; None if it is missing or damaged."""
    try:
        value = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("schema") != 1 or not isinstance(value.get("files"), list):
        return None
    return Record(str(value.get("made_by")), frozenset(map(str, value["files"])))
