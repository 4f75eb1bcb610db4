"""Tables of public files, `config/*.tsv`: where they are, and what is known about them. Nothing here imports torch."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from speechft.errors import ConfigError, missing_file
from speechft.files.text import read_text

PATTERNS = {
    "name": r"[A-Za-z0-9][A-Za-z0-9_]*",
    "url": r"https?://\S+",
    "file": r"[A-Za-z0-9][A-Za-z0-9_.+-]*",
    "sha256": r"([0-9a-f]{64})?",
    "git_sha1": r"([0-9a-f]{40})?",
    "bytes": r"([1-9][0-9]*)?",
    "licence": r".+",
    "source": r"https?://\S+",
}
"""Column -> regular expression of its cells."""


@dataclass(frozen=True)
class PublicFile:
    """One row. `path` is where the workflow keeps the file, `source` the page of the project; what was never published is None."""

    name: str
    url: str
    path: Path
    sha256: str | None
    git_sha1: str | None
    """Name of the content in git, where the file is kept in a repository."""
    bytes: int | None
    licence: str
    source: str
    own: str
    """What to do with a file of one's own, the second half of a sentence."""

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.path.name


def public_file(cells: Mapping[str, str], folder: Path, own: str) -> PublicFile:
    """The file that a row is about, kept in `folder`."""
    return PublicFile(
        name=cells["name"],
        url=cells["url"],
        path=folder / cells["file"],
        sha256=cells.get("sha256") or None,
        git_sha1=cells.get("git_sha1") or None,
        bytes=int(cells["bytes"]) if cells["bytes"] else None,
        licence=cells["licence"],
        source=cells["source"],
        own=own,
    )


def read_table(path: Path, patterns: Mapping[str, str], purpose: str) -> dict[str, dict[str, str]]:
    """Rows of a table by name, each a mapping of its columns, which are those of `patterns` in their order.

    Raises:
        ConfigError: the table is missing or malformed; the message names the line and the column.
    """
    try:
        lines = list(csv.reader(read_text(path).splitlines(), delimiter="\t"))
    except FileNotFoundError:
        raise ConfigError(missing_file(path, purpose, "It comes with the repository; run from its root.")) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text ({error}).") from None
    if not lines or lines[0] != list(patterns):
        raise ConfigError(f"{path}:1: the columns must be {', '.join(patterns)}, separated by tabs.")
    rows: dict[str, dict[str, str]] = {}
    for number, line in enumerate(lines[1:], start=2):
        row = _parse(line, patterns, f"{path}:{number}")
        if row["name"] in rows or row["file"] in {other["file"] for other in rows.values()}:
            raise ConfigError(f"{path}:{number}: name {row['name']!r} or file {row['file']!r} is there twice.")
        rows[row["name"]] = row
    return rows


def default_table(table: Path) -> Path:
    """The table beside the package's source, else the one of that name in the current folder."""
    beside = Path(__file__).parents[2] / table
    return beside if beside.is_file() else table


def _parse(line: list[str], patterns: Mapping[str, str], where: str) -> dict[str, str]:
    if len(line) != len(patterns):
        raise ConfigError(f"{where}: has {len(line)} columns, needs {len(patterns)}: {', '.join(patterns)}.")
    cells = dict(zip(patterns, line, strict=True))
    for column, cell in cells.items():
        if not re.fullmatch(patterns[column], cell):
            raise ConfigError(f"{where}: {column} {cell!r} is not of the form {patterns[column]}")
    return cells
