"""How alpha is chosen by scores on dev, and what came out. No torch here: Snakemake imports this."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from speechft.recipes.tables import CurvePoint
from speechft.recipes.values import DIFFERENT, Strict

Rule = Literal["one_se", "best"]
"""`best`: the alpha with the best mean gain. `one_se`: the smallest alpha whose mean gain is within one standard error of that one's."""


class ChoiceRecipe(Strict):
    """Models along a merge, and how one of them is chosen."""

    points: tuple[CurvePoint, ...] = Field(min_length=2, description="In ascending order of alpha; the first one is alpha 0.")
    tasks: Annotated[tuple[str, ...], DIFFERENT] = Field(min_length=1, description="Tasks whose dev scores count.")
    rule: Rule = "one_se"


class ChoicePoint(Strict):
    """One alpha."""

    alpha: float
    model: str = Field(description="encoder/finetuning/method.")
    gain: float = Field(description="Mean over the tasks of the share of alpha 0's errors on dev that are gone.")
    standard_error: float | None = Field(ge=0, description="Of the gain, over the seeds of the heads; null where no task has several.")
    gains: dict[str, float] = Field(description="By task.")


class Choice(Strict):
    """The chosen alpha, as `speechft choose` writes it."""

    schema_version: Literal[1] = Field(1, alias="schema")
    alpha: float
    best: float = Field(description="The alpha with the best mean gain.")
    rule: Rule
    tasks: tuple[str, ...]
    points: tuple[ChoicePoint, ...]
    without: dict[str, float] = Field(description="Task -> the alpha that the other tasks choose; empty with a single task.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """What is chosen follows from the points, so that a number that was changed by hand is noticed."""
        alphas = [point.alpha for point in self.points]
        if not alphas or alphas != sorted(set(alphas)):
            raise ValueError("points: needs some, in ascending order of alpha")
        for point in self.points:
            if {*point.gains} != {*self.tasks} or not math.isclose(point.gain, statistics.fmean(point.gains.values()), abs_tol=1e-9):
                raise ValueError(f"points: gain at alpha {point.alpha:g} is not the mean of gains over {', '.join(self.tasks)}")
        found = [(point.gain, point.standard_error) for point in self.points]
        for key, place in (("best", choose_place(found, "best")), ("alpha", choose_place(found, self.rule))):
            if getattr(self, key) != alphas[place]:
                raise ValueError(f"{key}: is {getattr(self, key):g}, but the points give {alphas[place]:g}")
        return self


def choose_place(gains: Sequence[tuple[float, float | None]], rule: Rule) -> int:
    """The point that is chosen by the mean gains of all points with their standard errors."""
    best, error = max(gains, key=lambda of_point: of_point[0])
    enough = best - (error or 0.0) if rule == "one_se" else best
    return next(place for place, (gain, _) in enumerate(gains) if gain >= enough)
