"""Time-aligned phones in a table cell: `AH0:0.00-0.08 B:0.08-0.15`."""

from __future__ import annotations

import re

Phone = tuple[str, float, float]
"""Label, start and end in seconds from the start of the recording."""

_PHONE = re.compile(r"(\S+):(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")


def parse_phones(cell: str) -> tuple[Phone, ...]:
    """Parse the phones of a cell, which must be in order of time.

    Raises:
        ValueError: an item is not `label:start-end`, is empty, or overlaps the previous one.
    """
    phones: list[Phone] = []
    for item in cell.split():
        match = _PHONE.fullmatch(item)
        if match is None:
            raise ValueError(f"{item!r} is not label:start-end in seconds, such as AH0:0.00-0.08")
        label, start, end = match[1], float(match[2]), float(match[3])
        if end <= start:
            raise ValueError(f"{item!r} does not end after it starts")
        if phones and start < phones[-1][2]:
            raise ValueError(f"{item!r} starts before the previous phone ends ({phones[-1][2]:g} s)")
        phones.append((label, start, end))
    return tuple(phones)
