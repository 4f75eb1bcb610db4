"""Public checkpoints listed in `config/encoders.tsv`. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path

from speechft.downloads.tables import PublicFile, read_table
from speechft.errors import ConfigError, unknown_name

TABLE = Path("config/encoders.tsv")
OWN = "use a file of your own as `kind: checkpoint` with its `path`"
"""Remedy for a file that is not the public one."""
COLUMNS = ("name", "family", "url", "file", "sha256", "bytes", "licence", "source")


def public_checkpoints(table: str | Path = TABLE) -> dict[str, PublicFile]:
    """Read all rows of the table, by name.

    Raises:
        ConfigError: the table is missing or malformed; the message names the line and the column.
    """
    return read_table(Path(table), COLUMNS, Path("checkpoints"), OWN)


def public_checkpoint(name: str, table: str | Path = TABLE) -> PublicFile:
    """Return the table row of a checkpoint.

    Raises:
        ConfigError: unknown name, or malformed table.
    """
    rows = public_checkpoints(table)
    if name not in rows:
        raise ConfigError(f"{table}: {unknown_name('public checkpoint', name, rows)}")
    return rows[name]
