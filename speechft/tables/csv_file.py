"""Records as CSV: numbers with full precision, text that no spreadsheet takes for a formula."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from speechft.files.escapes import csv_text


def csv_file(records: Sequence[Mapping[str, Any]], columns: list[str] | None = None) -> str:
    """One line a record; what is None or missing is empty. A tuple of numbers is one cell, with `;` between them."""
    import pandas as pd

    cells = [{key: _cell(value) for key, value in record.items()} for record in records]
    buffer = StringIO()
    pd.DataFrame.from_records(cells, columns=columns).to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return csv_text(value)
    return ";".join(map(repr, value)) if isinstance(value, tuple) else value
