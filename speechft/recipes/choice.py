"""How alpha is chosen by scores on dev, and what came out. No torch here: Snakemake imports this."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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
    standard_error: float | None = Field(description="Of the gain, over the seeds of the heads; null where no task has several.")
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
