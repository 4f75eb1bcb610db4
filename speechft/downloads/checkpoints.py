"""The table of public checkpoints, `config/encoders.tsv`. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from speechft.downloads.tables import PATTERNS, PublicFile, default_table, public_file, read_table
from speechft.encoders.families import LEARNED_FAMILIES
from speechft.errors import ConfigError, unknown_name

TABLE = Path("config/encoders.tsv")
FOLDER = Path("checkpoints")
"""Where the workflow keeps the files."""
OWN = "use a file of your own as `kind: checkpoint` with its `path`"
"""What to do with a file that is not the public one."""
_COLUMNS = ("name", "family", "url", "file", "sha256", "bytes", "licence", "source")
_PATTERNS = {column: "|".join(LEARNED_FAMILIES) if column == "family" else PATTERNS[column] for column in _COLUMNS}
COLUMNS = tuple(_PATTERNS)


@dataclass(frozen=True)
class PublicCheckpoint(PublicFile):
    """One row."""

    family: str


def public_checkpoints(table: str | Path | None = None) -> dict[str, PublicCheckpoint]:
    """All rows of the table, by name.

    Args:
        table: the file; default: the one beside the package's source, else `config/encoders.tsv` in the current folder.

    Raises:
        ConfigError: the table is missing or malformed; the message names the line and the column.
    """
    rows = read_table(Path(table) if table is not None else default_table(TABLE), _PATTERNS, "for the public checkpoints")
    return {name: PublicCheckpoint(**vars(public_file(cells, FOLDER, OWN)), family=cells["family"]) for name, cells in rows.items()}


def public_checkpoint(name: str, table: str | Path | None = None) -> PublicCheckpoint:
    """The row called `name`.

    Raises:
        ConfigError: there is none, or the table is malformed.
    """
    rows = public_checkpoints(table)
    if name not in rows:
        raise ConfigError(unknown_name(f"public checkpoint in {TABLE}", name, rows))
    return rows[name]
