"""Published numbers, in tidy CSV files that can be extended by hand.

`config/published.csv` has those of Speech-FT, `config/superb_rows.csv` those of known encoders on SUPERB.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from speechft.errors import TableError, missing_file
from speechft.files.text import read_text
from speechft.tables.metrics import METRICS

COLUMNS = ("table", "encoder", "finetuning", "method", "metric", "value")
SOURCE_COLUMN, WHERE_COLUMN = "source", "where"
"""Optional last columns: whether the number is from the authors; its URL, or paper and table."""
FIRST_HAND, SECOND_HAND = "first_hand", "second_hand"
"""Read in the authors' publication, or quoted by somebody else."""
Key = tuple[str, str, str, str, str]
"""Table, encoder, finetuning, method, metric."""
Files = str | Path | Sequence[str | Path]
"""One file of published numbers, or several."""


@dataclass(frozen=True)
class Published:
    """Published numbers; unknown ones are absent."""

    values: dict[Key, float]
    empty: tuple[Key, ...] = ()
    """Keys without a number, to be filled in by hand."""
    sources: dict[Key, str] = field(default_factory=dict)
    """FIRST_HAND or SECOND_HAND for each number, if stated in the file."""
    places: dict[Key, str] = field(default_factory=dict)
    """URL, or paper and table, of each number, if stated in the file."""

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables, including those without numbers."""
        return tuple(dict.fromkeys(key[0] for key in (*self.values, *self.empty)))

    def value(self, table: str | None, encoder: str, finetuning: str, method: str, metric: str) -> float | None:
        """Return the published number of a model in `table`, or None."""
        return None if table is None else self.values.get((table, encoder, finetuning, method, metric))

    def source(self, table: str | None, encoder: str, finetuning: str, method: str, metric: str) -> str | None:
        """Return the source of a number (FIRST_HAND or SECOND_HAND), or None."""
        return None if table is None else self.sources.get((table, encoder, finetuning, method, metric))

    def models(self, table: str) -> tuple[tuple[str, str, str], ...]:
        """List the models with numbers in `table`, as (encoder, finetuning, method), in its order."""
        return tuple(dict.fromkeys(key[1:4] for key in self.values if key[0] == table))

    def row(self, table: str, encoder: str, finetuning: str, method: str) -> dict[str, float]:
        """Return all published numbers of a model in `table`, metric key -> value."""
        return {key[4]: value for key, value in self.values.items() if key[:4] == (table, encoder, finetuning, method)}


def listed(files: Files | None) -> list[str | Path]:
    """Return `files` as a list, empty for None."""
    return [files] if isinstance(files, str | Path) else list(files or ())


def load_published(files: Files, further: Iterable[str] = ()) -> Published:
    """Read and check files of published numbers. Lines that start with `#` are comments; an empty value means unknown.

    `further` are keys of metrics of tasks without a catalog entry.

    Raises:
        TableError: a file is missing, has problems (all are listed with their line), or has the same table as another file.
    """
    known = [*METRICS, *further]
    loaded = [(path, _load(path, known)) for path in listed(files)]
    origin: dict[str, str | Path] = {}
    for path, numbers in loaded:
        for table in numbers.tables:
            if table in origin:
                raise TableError(f"{path} and {origin[table]} both have a table {table!r}. Give only one of them.")
            origin[table] = path
    merged = Published({})
    for _, numbers in loaded:
        merged = Published(
            merged.values | numbers.values, merged.empty + numbers.empty, merged.sources | numbers.sources, merged.places | numbers.places
        )
    return merged


def _load(path: str | Path, known: Sequence[str]) -> Published:
    try:
        lines = read_text(Path(path)).split("\n")
    except FileNotFoundError:
        raise TableError(missing_file(path, "for the published numbers", "Those of the project are in config/published.csv.")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: cannot be read ({error}).") from None
    content = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    rows = [(number, [field.strip() for field in line.split(",")]) for number, line in content]
    columns = tuple(rows[0][1]) if rows else ()
    whole = (*COLUMNS, SOURCE_COLUMN, WHERE_COLUMN)
    if columns not in [whole[:count] for count in range(len(COLUMNS), len(whole) + 1)]:
        found = ",".join(columns) or "nothing"
        raise TableError(
            f"{path}: the first line must be {','.join(COLUMNS)} (optionally with {SOURCE_COLUMN}, or {SOURCE_COLUMN},{WHERE_COLUMN}), "
            f"found {found}."
        )
    problems: list[str] = []
    values: dict[Key, float | None] = {}
    sources: dict[Key, str] = {}
    places: dict[Key, str] = {}
    for number, fields in rows[1:]:
        if problem := _problem(fields, len(columns), values, known):
            problems.append(f"line {number}: {problem}")
            continue
        key = _key(fields)
        values[key] = float(fields[5]) if fields[5] else None
        if any(fields[6:7]):
            sources[key] = fields[6]
        if any(fields[7:8]):
            places[key] = fields[7]
    if problems:
        raise TableError(f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''}\n  " + "\n  ".join(problems))
    numbers = {key: value for key, value in values.items() if value is not None}
    return Published(numbers, tuple(key for key in values if key not in numbers), sources, places)


def _key(fields: Sequence[str]) -> Key:
    table, encoder, finetuning, method, metric = fields[:5]
    return table, encoder, finetuning, method, metric


def _problem(fields: Sequence[str], columns: int, earlier: dict[Key, float | None], known: Sequence[str]) -> str | None:
    if len(fields) != columns:
        return f"{len(fields)} fields instead of {columns}"
    if not all(fields[:5]):
        return "only the value and its source may be empty"
    metric, text = fields[4:6]
    if metric not in known:
        return f"{metric!r} is not a metric; metrics are {', '.join(dict.fromkeys(known))}"
    try:
        finite = not text or math.isfinite(float(text))
    except ValueError:
        finite = False
    if not finite:
        return f"{text!r} is not a finite number"
    for source in fields[6:7]:
        if source and not text:
            return f"column {SOURCE_COLUMN}: {source!r} has no value; leave it empty, or give the value"
        if text and source not in (FIRST_HAND, SECOND_HAND):
            return f"{SOURCE_COLUMN} of {text} is {source!r}; write {FIRST_HAND} (read in the paper) or {SECOND_HAND} (quoted elsewhere)"
    if any(fields[7:]) and not text:
        return f"column {WHERE_COLUMN}: {fields[7]!r} has no value; leave it empty, or give the value"
    return f"{'/'.join(fields[:5])} is repeated" if _key(fields) in earlier else None
