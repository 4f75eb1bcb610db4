"""Metrics of tasks, and how tables show them. No torch here: tables are made where there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

INSERTIONS = 10_000.0
"""Percent. A hypothesis with a hundred times the words of its reference is no result of a head here."""


@dataclass(frozen=True)
class Metric:
    """A number that a task reports, and a column of tables. Fractions become percent where `unit` says so.

    `key` names it in cells and published numbers, e.g. "PR" or "SF_F1"; `name` is that of the heading. `task` is the evaluation that
    gives it, None for scores over tasks and for what is followed on dev alone. Cells and recipes of tables hold these fields as they are.
    """

    key: str
    name: str
    task: str | None = None
    higher_is_better: bool = field(kw_only=True)
    unit: str = "%"
    decimals: Annotated[int, Field(ge=0, le=12)] = 2
    highest: float | None = 100.0
    """Largest value that a cell can hold, None for no limit. Error rates count insertions, so they pass 100 %."""
    lowest: float | None = 0.0
    """Smallest value that a cell can hold, None for no limit."""
    signed: bool = False
    """Whether values are differences, which are printed with their sign."""
    heading: str = ""
    """What the heading of a task's column begins with; default: `key` up to its first underscore."""

    @property
    def ends(self) -> tuple[float, float]:
        """Smallest and largest value, infinite where there is no limit."""
        return -math.inf if self.lowest is None else self.lowest, math.inf if self.highest is None else self.highest

    @property
    def arrow(self) -> str:
        """Direction of improvement."""
        return "↑" if self.higher_is_better else "↓"

    @property
    def better(self) -> str:
        """Label of an axis that points to the better side."""
        return "better →" if self.higher_is_better else "← better"

    @property
    def title(self) -> str:
        """Heading of the column, e.g. `PR PER % ↓`."""
        words = [(self.heading or self.key.split("_")[0]) if self.task else "", self.name, self.unit, self.arrow]
        return " ".join(word for word in words if word)

    def can_be(self, value: float) -> bool:
        """Whether a cell can hold the value."""
        return (self.lowest is None or value >= self.lowest) and (self.highest is None or value <= self.highest)

    @property
    def range(self) -> str:
        """Smallest and largest value in words."""
        low, high = ("any" if end is None else f"{end:g}" for end in (self.lowest, self.highest))
        return f"{low} to {high}"

    def error(self, value: float) -> float:
        """How much is wrong: an error rate itself, or what a score lacks of its largest value (of 1 where it has no unit)."""
        if not self.higher_is_better:
            return value
        return (self.highest or 1.0 if self.unit == "%" else 1.0) - value

    def of_fraction(self, fraction: float) -> float:
        """The value as tables hold it: percent of `fraction` where the field counts in percent."""
        return 100.0 * fraction if self.unit == "%" else fraction

    def shown(self, value: float) -> str:
        """The value with the decimals that the field prints."""
        # Adding zero turns the -0.00 of a tiny negative number into 0.00.
        return self.shown_difference(value) if self.signed else f"{round(value, self.decimals) + 0.0:.{self.decimals}f}"

    def shown_width(self, value: float) -> str:
        """Half of an interval with the decimals that the field prints."""
        return f"{value:.{self.decimals}f}"

    def shown_difference(self, value: float) -> str:
        """A signed difference."""
        return f"{round(value, self.decimals) + 0.0:+.{self.decimals}f}"
