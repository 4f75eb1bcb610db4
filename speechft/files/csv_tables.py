"""CSV files as written by spreadsheets."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from speechft.errors import CorpusError, missing_file
from speechft.files.text import decode, nfc

Row = tuple[int, list[str]]
"""Row number, from 1 as in a spreadsheet, and cells."""
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SEPARATOR_LINE = re.compile(r'"?sep=,"?')
"""Line that Excel may write above a table."""


def read_table(path: Path, purpose: str, remedy: str, *, files: str = "path") -> list[Row]:
    """Read the rows of a CSV file, the header first, with stripped names.

    Blank rows are counted but left out, as are empty cells after the last named column. Cells are in Unicode NFC, except in the column
    `files`, which names files. Bytes that are not UTF-8 become lone surrogates. The error about a missing file contains `purpose` and the
    sentence `remedy`.

    Raises:
        CorpusError: the file is missing, cannot be read or is not CSV.
    """
    try:
        # Invalid bytes become lone surrogates, so that every affected row can be reported.
        text = decode(path.read_bytes(), "surrogateescape")
    except FileNotFoundError:
        raise CorpusError(missing_file(path, purpose, remedy)) from None
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not a CSV file in UTF-8 ({error}).") from None
    first = text.lstrip("\n").partition("\n")[0]
    for separator, name in _SEPARATORS.items():
        if separator in first and "," not in first:
            raise CorpusError(f"{path}: its cells are separated by {name} ({separator!r}). Save the table with commas.")
    try:
        rows = list(enumerate(csv.reader(io.StringIO(text, newline=""), strict=True), start=1))
    except csv.Error as error:
        raise CorpusError(f"{path}: not a CSV file ({error}).") from None
    rows = [(number, row) for number, row in rows if any(cell.strip() for cell in row)]
    if rows and _SEPARATOR_LINE.fullmatch(first.strip()):
        del rows[0]
    return _tidied(rows, files)


def write_table(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows, the header first, as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _tidied(rows: list[Row], files: str) -> list[Row]:
    if not rows:
        return []
    number, names = rows[0]
    header = [nfc(name.strip()) for name in names]
    while not header[-1]:
        header.pop()
    tidied: list[Row] = [(number, header)]
    for number, cells in rows[1:]:
        behind = cells[len(header) :]
        kept = cells if any(cell.strip() for cell in behind) else cells[: len(header)]
        names = [*header, *("" for _ in behind)]
        tidied.append((number, [cell if name == files else nfc(cell) for name, cell in zip(names, kept, strict=False)]))
    return tidied


def printable(value: str) -> str:
    """Format a cell for a message, with invalid UTF-8 as escapes."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def row_complaints(values: list[str], header: list[str]) -> list[str]:
    """Report invalid UTF-8 in a row, and a number of cells that differs from the header."""
    complaints = [
        f"column {number} is not UTF-8 ({printable(value)}); save the CSV as UTF-8"
        for number, value in enumerate(values, start=1)
        if printable(value) != value
    ]
    if len(values) != len(header):
        complaints.append(f"has {len(values)} cells, but the header has {len(header)}; quote cells that contain commas")
    return complaints
