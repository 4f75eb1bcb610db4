"""Tables of public files (`config/*.tsv`): URL, hash, size and license of each. Nothing here imports torch."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from speechft.encoders.families import FILE_FAMILIES
from speechft.errors import ConfigError, missing_file
from speechft.files.text import read_text
from speechft.shipped import shipped

_PATTERNS = {
    "name": r"[A-Za-z0-9][A-Za-z0-9_]*",
    "family": "|".join(FILE_FAMILIES),
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
    """One public file. `path` is its location in the workflow, `source` the project's page; unpublished values are None."""

    name: str
    url: str
    path: Path
    sha256: str | None
    git_sha1: str | None
    """Git blob hash, for a file in a git repository."""
    bytes: int | None
    licence: str
    source: str
    own: str
    """Second half of a sentence in errors: what to do with a file of one's own."""
    family: str = ""
    """Family of a checkpoint."""

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.path.name


def read_table(table: Path, columns: tuple[str, ...], folder: Path, own: str) -> dict[str, PublicFile]:
    """Read the rows of a table, by name.

    Args:
        table: TSV file, located by `shipped`.
        columns: its exact columns.
        folder: folder of the files in the workflow.
        own: as in `PublicFile`.

    Raises:
        ConfigError: the table is missing or malformed; the message names the line and the column.
    """
    path = shipped(table)
    try:
        lines = list(csv.reader(read_text(path).splitlines(), delimiter="\t"))
    except FileNotFoundError:
        raise ConfigError(missing_file(path, "for the public files", "It comes with the package; install it again.")) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text ({error}).") from None
    if not lines or lines[0] != list(columns):
        raise ConfigError(f"{path}:1: the columns must be {', '.join(columns)}, separated by tabs.")
    rows: dict[str, PublicFile] = {}
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(columns):
            raise ConfigError(f"{path}:{number}: has {len(line)} columns, expected {len(columns)}: {', '.join(columns)}.")
        cells = dict(zip(columns, line, strict=True))
        for column, cell in cells.items():
            if not re.fullmatch(_PATTERNS[column], cell):
                raise ConfigError(f"{path}:{number}: {column} {cell!r} does not match {_PATTERNS[column]}")
        name, url, licence, source, family = (cells.get(column, "") for column in ("name", "url", "licence", "source", "family"))
        sha256, git_sha1, size = (cells.get(column) or None for column in ("sha256", "git_sha1", "bytes"))
        row = PublicFile(name, url, folder / cells["file"], sha256, git_sha1, int(size) if size else None, licence, source, own, family)
        if row.name in rows or row.path in {other.path for other in rows.values()}:
            raise ConfigError(f"{path}:{number}: name {row.name!r} or file {row.file!r} is repeated.")
        rows[row.name] = row
    return rows
