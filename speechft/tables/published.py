"""The published numbers (`config/published.csv`): a tidy file that readers with the paper at hand can extend."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from speechft.errors import TableError, missing_file
from speechft.files.text import read_text
from speechft.tables.metrics import METRICS

COLUMNS = ("table", "encoder", "finetuning", "method", "metric", "value")
SOURCE_COLUMN = "source"
"""May follow the others: where each number was read."""
FIRST_HAND, SECOND_HAND = "first_hand", "second_hand"
"""In what the authors published; in what somebody else wrote about it."""
Key = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Published:
    """Published numbers; whatever is not known is absent."""

    values: dict[Key, float]
    empty: tuple[Key, ...] = ()
    """Places without a number, for a reader with the paper to fill in."""
    sources: dict[Key, str] = field(default_factory=dict)
    """FIRST_HAND or SECOND_HAND of each number, if the file says so."""

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables, also of those without any number yet."""
        return tuple(dict.fromkeys(key[0] for key in (*self.values, *self.empty)))

    def value(self, table: str | None, encoder: str, finetuning: str, method: str, metric: str) -> float | None:
        """The number that `table` publishes of a model, or None."""
        return None if table is None else self.values.get((table, encoder, finetuning, method, metric))

    def source(self, table: str | None, encoder: str, finetuning: str, method: str, metric: str) -> str | None:
        """Where the number was read, or None."""
        return None if table is None else self.sources.get((table, encoder, finetuning, method, metric))

    def row(self, table: str, encoder: str, finetuning: str, method: str) -> dict[str, float]:
        """All numbers that `table` publishes of a model, metric key -> value."""
        return {key[4]: value for key, value in self.values.items() if key[:4] == (table, encoder, finetuning, method)}


def load_published(path: str | Path) -> Published:
    """Read and check a file of published numbers. Lines that start with `#` are comments; an empty value means not known.

    The column `source` may be left out of the file; without it no number is marked.

    Raises:
        TableError: the file is missing or has problems; all are listed with their line.
    """
    path = Path(path)
    try:
        lines = read_text(path).split("\n")
    except FileNotFoundError:
        raise TableError(missing_file(path, "for the published numbers", "The one of the project is config/published.csv.")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: cannot be read ({error}).") from None
    problems: list[str] = []
    found: dict[Key, float | None] = {}
    sources: dict[Key, str] = {}
    for number, key, value, source in _entries(path, lines, problems):
        if key in found:
            problems.append(f"line {number}: {'/'.join(key)} is there twice")
        found[key] = value
        if source:
            sources[key] = source
    if problems:
        raise TableError(f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''}\n  " + "\n  ".join(problems))
    numbers = {key: value for key, value in found.items() if value is not None}
    return Published(numbers, tuple(key for key in found if key not in numbers), sources)


def _entries(path: Path, lines: list[str], problems: list[str]) -> Iterable[tuple[int, Key, float | None, str]]:
    rows = [(number, [field.strip() for field in line.split(",")]) for number, line in enumerate(lines, 1) if _has_content(line)]
    columns = tuple(rows[0][1]) if rows else ()
    if columns not in (COLUMNS, (*COLUMNS, SOURCE_COLUMN)):
        found = ",".join(columns) or "nothing"
        raise TableError(f"{path}: the first line must be {','.join(COLUMNS)} (and {SOURCE_COLUMN} if you like), found {found}.")
    for number, fields in rows[1:]:
        if len(fields) != len(columns):
            problems.append(f"line {number}: {len(fields)} fields instead of {len(columns)}")
            continue
        table, encoder, finetuning, method, metric, text, *rest = fields
        source = rest[0] if rest else ""
        if not all(fields[:5]):
            problems.append(f"line {number}: only the value may be empty, and its source with it")
        elif metric not in METRICS:
            problems.append(f"line {number}: {metric!r} is not a metric; metrics are {', '.join(METRICS)}")
        else:
            value = _number(text) if text else None
            if text and value is None:
                problems.append(f"line {number}: {text!r} is not a finite number")
            elif rest and source not in ((FIRST_HAND, SECOND_HAND) if text else ("",)):
                problems.append(f"line {number}: {_source_problem(text, source)}")
            else:
                yield number, (table, encoder, finetuning, method, metric), value, source


def _source_problem(text: str, source: str) -> str:
    if not text:
        return f"there is a source {source!r} of no value; leave it empty, or give the value"
    return f"the source of {text} is {source!r}; write {FIRST_HAND} (read in the paper) or {SECOND_HAND} (quoted by somebody else)"


def _has_content(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
