"""Metrics of tasks, and their format in tables. This module does not import torch, since tables may be built without it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

INSERTIONS = 10_000.0
"""Largest error rate in percent; a head cannot produce a hundred times the reference words."""


@dataclass(frozen=True)
class Metric:
    """A reported number of a task, and a column of tables. Fractions are converted to percent if `unit` is percent.

    `key` names it in cells and published numbers, such as "PR" or "SF_F1"; `name` is used in headings. `task` is the task that reports it,
    None for scores over tasks and for metrics only on dev. Cells and recipes of tables contain these fields unchanged.
    """

    key: str
    name: str
    task: str | None = None
    higher_is_better: bool = field(kw_only=True)
    unit: str = "%"
    decimals: Annotated[int, Field(ge=0, le=12)] = 2
    highest: float | None = 100.0
    """Largest value in a cell, None for no limit. Error rates count insertions and can exceed 100 %."""
    lowest: float | None = 0.0
    """Smallest value in a cell, None for no limit."""
    signed: bool = False
    """Whether values are differences, printed with a sign."""
    heading: str = ""
    """Start of the column heading; default: `key` up to its first underscore."""

    @property
    def ends(self) -> tuple[float, float]:
        """Smallest and largest value, infinite if there is no limit."""
        return -math.inf if self.lowest is None else self.lowest, math.inf if self.highest is None else self.highest

    @property
    def arrow(self) -> str:
        """Direction of improvement."""
        return "↑" if self.higher_is_better else "↓"

    @property
    def better(self) -> str:
        """Axis label that points to the better side."""
        return "better →" if self.higher_is_better else "← better"

    @property
    def title(self) -> str:
        """Column heading, such as `PR PER % ↓`."""
        words = [(self.heading or self.key.split("_")[0]) if self.task else "", self.name, self.unit, self.arrow]
        return " ".join(word for word in words if word)

    def can_be(self, value: float) -> bool:
        """Whether a cell can have the value."""
        return (self.lowest is None or value >= self.lowest) and (self.highest is None or value <= self.highest)

    @property
    def range(self) -> str:
        """Smallest and largest value in words."""
        low, high = ("any" if end is None else f"{end:g}" for end in (self.lowest, self.highest))
        return f"{low} to {high}"

    def error(self, value: float) -> float:
        """Convert to an error: the error rate itself, or the distance of a score from its largest value (from 1 without a unit)."""
        if not self.higher_is_better:
            return value
        return (self.highest or 1.0 if self.unit == "%" else 1.0) - value

    def of_fraction(self, fraction: float) -> float:
        """Convert a fraction to the unit of tables."""
        return 100.0 * fraction if self.unit == "%" else fraction

    def shown(self, value: float) -> str:
        """Format a value with the metric's decimals."""
        # Adding zero turns -0.00 into 0.00.
        return self.shown_difference(value) if self.signed else f"{round(value, self.decimals) + 0.0:.{self.decimals}f}"

    def shown_width(self, value: float) -> str:
        """Format half the width of an interval with the metric's decimals."""
        return f"{value:.{self.decimals}f}"

    def shown_difference(self, value: float) -> str:
        """Format a signed difference."""
        return f"{round(value, self.decimals) + 0.0:+.{self.decimals}f}"
