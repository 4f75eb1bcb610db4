"""Choosing alpha by dev scores: recipe and result. No torch here: Snakemake imports this."""

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
"""`best`: the alpha with the best mean gain. `one_se`: the smallest alpha whose mean gain is within one standard error of the best."""


class ChoiceRecipe(Strict):
    """Models along a merge, and the rule that chooses one of them."""

    points: tuple[CurvePoint, ...] = Field(min_length=2, description="Models in ascending order of alpha; the first has alpha 0.")
    tasks: Annotated[tuple[str, ...], DIFFERENT] = Field(min_length=1, description="Tasks whose dev scores count.")
    rule: Rule = "one_se"


class ChoicePoint(Strict):
    """Dev scores of the model at one alpha."""

    alpha: float
    model: str = Field(description="encoder/finetuning/method.")
    gain: float = Field(description="Share of alpha 0's dev errors that is removed, mean over tasks.")
    standard_error: float | None = Field(
        ge=0, description="Standard error of the gain over seeds of the heads; null if every task has one seed."
    )
    gains: dict[str, float] = Field(description="Gain by task.")


class Choice(Strict):
    """Output of `speechft choose`: the chosen alpha and the scores it is based on."""

    schema_version: Literal[1] = Field(1, alias="schema")
    alpha: float
    best: float = Field(description="Alpha with the best mean gain.")
    rule: Rule
    tasks: tuple[str, ...]
    points: tuple[ChoicePoint, ...]
    without: dict[str, float] = Field(description="Task -> alpha chosen by the other tasks; empty if there is one task.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Check that the choice follows from the points, so that an edited number is detected."""
        alphas = [point.alpha for point in self.points]
        if not alphas or alphas != sorted(set(alphas)):
            raise ValueError("points: needs some, in ascending order of alpha")
        for point in self.points:
            if {*point.gains} != {*self.tasks} or not math.isclose(point.gain, statistics.fmean(point.gains.values()), abs_tol=1e-9):
                raise ValueError(f"points: gain at alpha {point.alpha:g} is not the mean of gains over {', '.join(self.tasks)}")
        gains = [(point.gain, point.standard_error) for point in self.points]
        for key, place in (("best", choose_place(gains, "best")), ("alpha", choose_place(gains, self.rule))):
            if getattr(self, key) != alphas[place]:
                raise ValueError(f"{key}: is {getattr(self, key):g}, but the points give {alphas[place]:g}")
        return self


def choose_place(gains: Sequence[tuple[float, float | None]], rule: Rule) -> int:
    """Index of the point chosen by (mean gain, standard error) of all points in ascending order of alpha."""
    best, error = max(gains, key=lambda of_point: of_point[0])
    enough = best - (error or 0.0) if rule == "one_se" else best
    return next(place for place, (gain, _) in enumerate(gains) if gain >= enough)
