"""The recipe of stage 3, and the published settings of each SUPERB task. No torch here: Snakemake imports this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from speechft.downloads.lexicons import with_lexicon
from speechft.errors import ConfigError, unknown_name
from speechft.recipes.values import FeaturePrecision, Positive, Seed, Strict, validate
from speechft.tasks.catalog import TASKS

CropDraws = Positive | Literal["every"]


class EvaluationRecipe(Strict):
    """Stage 3: training and scoring of a head on a frozen encoder. The defaults of each task are in SUPERB_RECIPES."""

    task: str
    task_options: dict[str, Any] = Field(default_factory=dict)
    protocol: Literal["superb", "quick"] = Field(
        "superb", description="superb: published steps and sampling. quick: anything else; printed on every table."
    )
    precision: FeaturePrecision = Field(
        "fp32",
        description="Of the encoder's passes, on every device; heads train in fp32. bf16 needs `protocol: quick`; tables mark such rows.",
    )
    steps: Annotated[int, Field(ge=0)] = Field(description="Of the optimizer; 0 for a task without training.")
    batch_size: Positive
    accumulate: Positive = 1
    optimizer: Literal["Adam", "AdamW"] = "Adam"
    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7), description="All are trained at once; dev chooses."
    )
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    eval_every: Positive
    seeds: tuple[Seed, ...] = Field((1337,), min_length=1, description="Each seed trains its own heads; the cell holds mean and values.")
    crop_draws: CropDraws = Field(
        default_factory=lambda earlier: _crops_of_the_protocol(earlier),
        description="Random crops of each long training utterance, for tasks that crop (SID, ASV, the silence of KS). every: a new one, "
        "sent through the encoder, at every access, as in SUPERB. A number: so many are drawn and encoded once and chosen from at random, "
        "which costs fewer encoder passes. Default: every where SUPERB's recipe is followed for SID, and for ASV; else 1.",
    )
    cache_gb: Annotated[float, Field(ge=0)] = Field(4.0, description="Frame features are kept in memory up to this size, else recomputed.")
    disk_gb: Annotated[float, Field(ge=0)] = Field(
        100.0,
        description="Mean vectors are kept in the work folder up to this size, for a restart; past it a restart computes them again.",
    )

    @field_validator("learning_rates", "seeds")
    @classmethod
    def _distinct(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(values)) != len(values):
            raise ValueError(f"{values} names a value twice")
        return values

    @model_validator(mode="after")
    def _values_fit(self) -> EvaluationRecipe:
        trains = self.task not in UNTRAINED_TASKS
        for key, value in (("steps", self.steps), ("learning_rates", self.learning_rates)):
            if bool(value) != trains:
                raise ValueError(
                    f"{key}={value} does not go with task {self.task!r}, which {'trains a head' if trains else 'trains nothing'}"
                )
        if self.task == "asv" and self.crop_draws != "every":
            raise ValueError(f"crop_draws={self.crop_draws} does not go with task 'asv': frames of crops are too large to be kept")
        return self

    @model_validator(mode="after")
    def _superb_is_superb(self) -> EvaluationRecipe:
        if self.protocol == "superb" and self.precision != "fp32":
            raise ValueError(
                f"precision={self.precision} is not SUPERB's (fp32); write `protocol: quick` so that tables say so, or drop it"
            )
        if self.protocol == "superb" and self.task in SUPERB_RECIPES:
            crops = {"crop_draws": "every"} if self.task in CROPPED_ANEW else {}
            for key, value in (SUPERB_RECIPES[self.task] | crops).items():
                if getattr(self, key) != value:
                    raise ValueError(
                        f"{key}={getattr(self, key)} is not SUPERB's ({value}); write `protocol: quick` so that tables say so, or drop it"
                    )
            changed = sorted(self.task_options.keys() & set(HEAD_OPTIONS.get(self.task, ())))
            if changed:
                raise ValueError(
                    f"task_options {', '.join(changed)}: not SUPERB's head or loss; write `protocol: quick` so that tables say so, "
                    "or drop them"
                )
        return self

    def with_lexicon(self, lexicon: Sequence[str]) -> EvaluationRecipe:
        """Return the recipe with the lexicons of its corpus for PR, unless its options name others."""
        return self.model_copy(update={"task_options": with_lexicon(self.task, self.task_options, lexicon)})


def _crops_of_the_protocol(earlier: dict[str, Any]) -> CropDraws:
    """The default of `crop_draws`, from the fields before it."""
    task, protocol = earlier.get("task"), earlier.get("protocol")
    return "every" if task == "asv" or (task in CROPPED_ANEW and protocol == "superb") else 1


UNTRAINED_TASKS = tuple(name for name, task in TASKS.items() if not task.recipe["steps"])
"""Tasks that compare features and have no head."""
CROPPED_ANEW = tuple(name for name, task in TASKS.items() if task.cropped_anew)
"""Tasks whose long training utterances are cropped anew at every access under `protocol: superb`."""
HEAD_OPTIONS = {name: task.head_options for name, task in TASKS.items() if task.head_options}
"""Options of a task whose defaults are SUPERB's recipe (those of asr_zh: ours)."""
SUPERB_RECIPES = {name: dict(task.recipe) for name, task in TASKS.items()}
"""The configurations that s3prl 0.4.18 ships for SUPERB; learning rates are searched, everything else is fixed. Those of others: ours."""


def evaluation_recipe(task: str, overrides: dict[str, Any] | None = None) -> EvaluationRecipe:
    """Build SUPERB's recipe of `task` with `overrides`.

    Raises:
        ConfigError: unknown task or key, impossible value, or a change of the published recipe without `protocol: quick`.
    """
    if task not in SUPERB_RECIPES:
        raise ConfigError(unknown_name("recipe for task", task, SUPERB_RECIPES))
    values = {**SUPERB_RECIPES[task], **(overrides or {}), "task": task}
    return validate(EvaluationRecipe, values, f"recipe of {task}")
