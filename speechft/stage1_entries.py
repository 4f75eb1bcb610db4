"""Stage 1 in an experiment: fine-tunings that start from other fine-tunings, of several tasks, and early checkpoints. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from speechft.finetune_options import Early, PartName
from speechft.layouts import NOT_TUNED, ModelOfEncoder, Name
from speechft.recipes import SUPERB_RECIPES, ContinuedPretrainRecipe, FinetuneRecipe
from speechft.validation import Strict


class Finetuning(Strict):
    """One fine-tuning on a corpus: of a task, of several jointly, or without labels by going on with pre-training.

    Keys of `recipe`, or of `pretraining`, override Stable-FT's defaults for all methods that train on it.
    """

    corpus: Name
    recipe: FinetuneRecipe | None = Field(None, description="The task and how it is trained.")
    pretraining: ContinuedPretrainRecipe | None = Field(None, description="Instead of a recipe: how pre-training goes on.")
    jointly: dict[PartName, Name] = Field(
        default_factory=dict, description="For `jointly` in the recipe: name of a further task -> corpus."
    )
    start: ModelOfEncoder | None = Field(
        None,
        description="finetuning/method of the same encoder that is theta0 of this one, for fine-tuning task by task; default: the "
        "pre-trained encoder.",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.recipe is None) == (self.pretraining is None):
            raise ValueError("needs `recipe` (a task) or `pretraining` (no labels), and not both")
        named = set(self.recipe.jointly) if self.recipe else set()
        if named != set(self.jointly):
            raise ValueError(
                f"jointly: the recipe has the further tasks {', '.join(sorted(named)) or 'none'}, corpora are named for "
                f"{', '.join(sorted(self.jointly)) or 'none'}; name a corpus for each"
            )
        return self

    @property
    def corpora(self) -> tuple[str, ...]:
        """All corpora that it listens to."""
        return (self.corpus, *self.jointly.values())

    @property
    def starts_from(self) -> tuple[str, str]:
        """Fine-tuning and method of the model that it starts from."""
        finetuning, _, method = (self.start or "/".join(NOT_TUNED)).partition("/")
        return finetuning, method


class EarlyMethod(Strict):
    """The encoder of another method's run as it was after a share of the updates; no run of its own."""

    kind: Literal["early"]
    label: str = Field(description="Name in tables.")
    of: Name = Field("stable_ft", description="The method whose run kept it.")
    share: Early = Field(0.2, description="Of the updates; one of `early` in the recipe of that run.")


def finetuning_problems(finetunings: Mapping[str, Finetuning], is_method: Any) -> list[str]:
    """What is wrong with the tasks and starts of fine-tunings; `is_method` says whether a method of that name is defined."""
    problems = []
    for name, tuning in finetunings.items():
        tasks = tuning.recipe.parts if tuning.recipe else {}
        for part in tasks.values():
            if part.task not in SUPERB_RECIPES:
                problems.append(f"finetunings.{name}.recipe.task: {part.task!r} is not defined; defined are {', '.join(SUPERB_RECIPES)}")
        start, method = tuning.starts_from
        if tuning.start is not None and (start not in finetunings or not is_method(method)):
            problems.append(f"finetunings.{name}.start: {tuning.start!r} is no model; name a fine-tuning and a method, e.g. pr/speech_ft")
        elif _starts_from_itself(name, finetunings):
            problems.append(f"finetunings.{name}.start: {tuning.start!r} starts from {name} itself")
    return problems


def _starts_from_itself(name: str, finetunings: Mapping[str, Finetuning]) -> bool:
    seen = set()
    current = name
    while current in finetunings and current not in seen:
        seen.add(current)
        current = finetunings[current].starts_from[0]
    return current == name
