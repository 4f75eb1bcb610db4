"""The table of public checkpoints, `config/encoders.tsv`: where they are, and what is known about them. Nothing here imports torch."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from speechft.encoders.families import LEARNED_FAMILIES
from speechft.errors import ConfigError, missing_file, nearest

TABLE = Path("config/encoders.tsv")
FOLDER = Path("checkpoints")
"""Where the workflow keeps the files."""
_PATTERNS = {
    "name": r"[A-Za-z0-9][A-Za-z0-9_]*",
    "family": "|".join(LEARNED_FAMILIES),
    "url": r"https?://\S+",
    "file": r"[A-Za-z0-9][A-Za-z0-9_.+-]*",
    "sha256": r"([0-9a-f]{64})?",
    "bytes": r"([1-9][0-9]*)?",
    "licence": r".+",
    "source": r"https?://\S+",
}
COLUMNS = tuple(_PATTERNS)


@dataclass(frozen=True)
class PublicCheckpoint:
    """One row: `sha256` and `bytes` are None where they were never published; `source` is the page of the project."""

    name: str
    family: str
    url: str
    file: str
    sha256: str | None
    bytes: int | None
    licence: str
    source: str


def public_checkpoints(table: str | Path | None = None) -> dict[str, PublicCheckpoint]:
    """All rows of the table, by name.

    Args:
        table: the file; default: the one beside the package's source, else `config/encoders.tsv` in the current folder.

    Raises:
        ConfigError: the table is missing or malformed; the message names the line and the column.
    """
    path = Path(table) if table is not None else _default_table()
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t"))
    except FileNotFoundError:
        raise ConfigError(missing_file(path, "for the public checkpoints", "It comes with the repository; run from its root.")) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text ({error}).") from None
    if not lines or tuple(lines[0]) != COLUMNS:
        raise ConfigError(f"{path}:1: the columns must be {', '.join(COLUMNS)}, separated by tabs.")
    rows: dict[str, PublicCheckpoint] = {}
    for number, line in enumerate(lines[1:], start=2):
        row = _parse(line, f"{path}:{number}")
        if row.name in rows or row.file in {other.file for other in rows.values()}:
            raise ConfigError(f"{path}:{number}: name {row.name!r} or file {row.file!r} is there twice.")
        rows[row.name] = row
    return rows


def public_checkpoint(name: str, table: str | Path | None = None) -> PublicCheckpoint:
    """The row called `name`.

    Raises:
        ConfigError: there is none, or the table is malformed.
    """
    rows = public_checkpoints(table)
    if name not in rows:
        raise ConfigError(f"There is no public checkpoint {name!r}.{nearest(name, rows)} In {TABLE}: {', '.join(rows)}.")
    return rows[name]


def _default_table() -> Path:
    beside = Path(__file__).parents[2] / TABLE
    return beside if beside.is_file() else TABLE


def _parse(line: list[str], where: str) -> PublicCheckpoint:
    if len(line) != len(COLUMNS):
        raise ConfigError(f"{where}: has {len(line)} columns, needs {len(COLUMNS)}: {', '.join(COLUMNS)}.")
    cells = dict(zip(COLUMNS, line, strict=True))
    for column, cell in cells.items():
        if not re.fullmatch(_PATTERNS[column], cell):
            raise ConfigError(f"{where}: {column} {cell!r} is not of the form {_PATTERNS[column]}")
    return PublicCheckpoint(
        name=cells["name"],
        family=cells["family"],
        url=cells["url"],
        file=cells["file"],
        sha256=cells["sha256"] or None,
        bytes=int(cells["bytes"]) if cells["bytes"] else None,
        licence=cells["licence"],
        source=cells["source"],
    )
