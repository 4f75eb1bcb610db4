"""Values of alpha in names and experiment files: `speech_ft@0.50`, `0:1:0.1`. No torch here."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

ALPHA_PATTERN = r"(?:0\.\d\d(?:\d*[1-9])?|1\.00)"
"""Regular expression of an alpha from 0 to 1 in names: at least two decimals, and one spelling per number."""
_MOST = 1000


def alpha_text(alpha: float) -> str:
    """Spell `alpha` as in names: 0.50, 0.125, 1.00."""
    digits = f"{Decimal(repr(float(alpha))):f}".rstrip("0")
    whole, _, decimals = digits.partition(".")
    return f"{whole}.{decimals.ljust(2, '0')}"


def split_method(name: str) -> tuple[str, float | None]:
    """Split a name into method and alpha: speech_ft@0.50 gives ("speech_ft", 0.5); alpha is None if the name has none.

    Raises:
        ValueError: the number after the last @ is not spelled as by `alpha_text`, or is above 1.
    """
    method, separator, text = name.rpartition("@")
    if not separator or not re.fullmatch(r"\d*\.?\d+|\d+\.", text):
        return name, None
    if re.fullmatch(ALPHA_PATTERN, text) is None:
        if float(text) > 1:
            raise ValueError(f"{name!r}: alpha must be from 0 to 1; for values above 1 define a method with `extrapolate`")
        raise ValueError(f"{name!r}: write {method}@{alpha_text(float(text))}")
    return method, float(text)


def alphas_of(text: str) -> tuple[float, ...]:
    """Parse a range such as 0:1:0.1, a list such as 0,0.25,1, or a single number; ValueError for anything else."""
    if ":" in text:
        return parse_alphas(text)
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not a number, a range such as 0:1:0.1 (start:stop:step) or a list such as 0,0.25,1") from None


def parse_alphas(text: str) -> tuple[float, ...]:
    """Parse a range `start:stop:step`, end included: 0:1:0.1 gives 0, 0.1, ... 1.

    Raises:
        ValueError: not such a range, or more than 1000 values.
    """
    try:
        start, stop, step = (Decimal(part) for part in text.split(":"))
        count = int((stop - start) / step) + 1
    except (InvalidOperation, ValueError, ZeroDivisionError, OverflowError):
        count = 0
    if not 1 <= count <= _MOST or step <= 0:
        raise ValueError(f"{text!r} is not a range such as 0:1:0.1 (start:stop:step, stop included, at most {_MOST} values)")
    return tuple(float(start + index * step) for index in range(count))
