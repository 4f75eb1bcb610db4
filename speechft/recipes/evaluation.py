"""Recipe of stage 3, evaluation. Defaults by task are in `speechft.tasks.catalog`. No torch here: Snakemake imports this."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from speechft.downloads.lexicons import with_lexicon
from speechft.errors import ConfigError, TaskError
from speechft.recipes.values import FeaturePrecision, Pluggable, Positive, Seed, validate
from speechft.tasks.catalog import TaskEntry, known_entry, metrics_of, task_entry
from speechft.tasks.metric import Metric

CropDraws = Positive | Literal["every"]
AUTO_EPOCHS, AUTO_FEWEST, AUTO_MOST, AUTO_EVALUATIONS = 100, 200, 20_000, 20
"""`steps: auto`: number of epochs, minimum and maximum of steps; `eval_every: auto`: number of evaluations on dev."""
LAST_RUNG, RUNG_RATIO, FINALISTS = 0.28, 3.5, 2
"""`lr_search: halving`: share of the steps after which only the finalists remain, ratio of two rungs, number of finalists."""


class EvaluationRecipe(Pluggable):
    """Stage 3: train and score a task's head on a frozen encoder. Defaults are in the task's entry (`task_entry`)."""

    task: str = Field(description="Name of the task, as in cells and tables.")
    kind: str | None = Field(None, description="Kind of a task of your own: one of speechft.tasks.catalog.KINDS.")
    task_options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the task; for a task of your own: label, metric and options of its head."
    )
    protocol: Literal["superb", "quick"] = Field(
        "superb", description="superb: published steps and sampling. quick: any departure from them; printed under every table."
    )
    precision: FeaturePrecision = Field(
        "fp32",
        description="Precision of the encoder, on every device; heads train in fp32. bf16 needs `protocol: quick`; tables mark such rows.",
    )
    steps: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        description="Optimizer steps; 0 for a task without training. auto: 100 epochs, but at least 200 and at most 20 000 steps."
    )
    batch_size: Positive = Field(description="Utterances per batch.")
    accumulate: Positive = Field(1, description="Batches per step.")
    optimizer: Literal["Adam", "AdamW"] = "Adam"
    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7), description="One head is trained per learning rate, all at once; dev selects."
    )
    lr_search: Literal["grid", "halving"] = Field(
        "grid",
        description="grid: every learning rate trains to the end, as in SUPERB. halving: of seven rates, the four best on dev continue "
        "after 8 % of the steps, and two after 28 %; needs `protocol: quick`.",
    )
    clip_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="Maximum gradient norm of a head.")
    eval_every: Positive | Literal["auto"] = Field(description="Steps between evaluations on dev. auto: a twentieth of the steps.")
    seeds: tuple[Seed, ...] = Field((1337,), min_length=1, description="Each seed trains its own heads; the cell has mean and values.")
    crop_draws: CropDraws = Field(
        default_factory=lambda earlier: _crops_of_the_protocol(earlier),
        description="Random crops per long training utterance, for tasks that crop (SID, ASV, silence in KS). every: a new crop is "
        "encoded at every access, as in SUPERB. A number: that many are encoded once and sampled from, which saves encoder passes. "
        "Default: `every` for ASV, and for SID under SUPERB's protocol; otherwise 1.",
    )
    cache_gb: Annotated[float, Field(ge=0)] = Field(
        4.0, description="Memory for frame features, in GB; features that do not fit are recomputed."
    )
    disk_gb: Annotated[float, Field(ge=0)] = Field(
        100.0,
        description="Disk for mean vectors in the work folder, in GB; a restart recomputes those that did not fit.",
    )

    @field_validator("learning_rates", "seeds")
    @classmethod
    def _distinct(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(values)) != len(values):
            raise ValueError(f"{values} contains a value twice")
        return values

    @model_validator(mode="after")
    def _values_fit(self) -> EvaluationRecipe:
        entry = self.entry
        for key, value in (("steps", self.steps), ("learning_rates", self.learning_rates)):
            if bool(value) != entry.trains:
                raise ValueError(
                    f"{key}={value} is not possible with task {self.task!r}, which {'trains a head' if entry.trains else 'trains nothing'}"
                )
        if entry.protocol == "verification" and self.crop_draws != "every":
            raise ValueError(f"crop_draws={self.crop_draws} is not possible with task {self.task!r}: its crops are too large to keep")
        if self.protocol == "superb" and entry.recipe.get("protocol") == "quick":
            raise ValueError(f"protocol=superb: {self.task!r} is a task of your own, not SUPERB's; omit it, or write quick")
        try:
            metrics_of(self.task, self.kind, self.task_options)
        except TaskError as error:
            raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _superb_is_superb(self) -> EvaluationRecipe:
        if self.protocol == "superb" and self.precision != "fp32":
            raise ValueError(
                f"precision={self.precision} is not SUPERB's (fp32); write `protocol: quick` so that tables say so, or omit it"
            )
        if self.protocol == "superb":
            crops = {"crop_draws": "every"} if self.entry.cropped_anew else {}
            for key, value in {**self.entry.recipe, **crops, "lr_search": "grid"}.items():
                if getattr(self, key) != value:
                    raise ValueError(
                        f"{key}={getattr(self, key)} is not SUPERB's ({value}); write `protocol: quick` so that tables say so, or omit it"
                    )
            changed = sorted(self.task_options.keys() & set(self.entry.head_options))
            if changed:
                raise ValueError(
                    f"task_options {', '.join(changed)}: not SUPERB's head or loss; write `protocol: quick` so that tables say so, "
                    "or omit them"
                )
        return self

    @property
    def unwritten(self) -> set[str]:
        """Keys omitted from JSON: also `lr_search: grid`, so that recipes from before that key keep their hash."""
        return super().unwritten | ({"lr_search"} if self.lr_search == "grid" else set())

    @property
    def named(self) -> list[tuple[str, str]]:
        """The task, unless it has a `kind`."""
        return [("task", self.task)] if self.kind is None else []

    @property
    def entry(self) -> TaskEntry:
        """Catalog entry of the task; ValueError if the task is unknown."""
        try:
            return task_entry(self.task, self.kind)
        except TaskError as error:
            raise ValueError(str(error)) from None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics that the task reports."""
        return metrics_of(self.task, self.kind, self.task_options)

    def resolved(self, utterances: float) -> EvaluationRecipe:
        """Return the recipe with `auto` replaced by numbers, for a train split of this many utterances."""
        epoch = math.ceil(utterances / (self.batch_size * self.accumulate))
        steps = min(AUTO_MOST, max(AUTO_FEWEST, AUTO_EPOCHS * epoch)) if self.steps == "auto" else self.steps
        eval_every = max(1, steps // AUTO_EVALUATIONS) if self.eval_every == "auto" else self.eval_every
        return self.model_copy(update={"steps": steps, "eval_every": eval_every})

    @property
    def counts(self) -> tuple[int, int]:
        """`steps` and `eval_every` of a `resolved` recipe."""
        assert self.steps != "auto"
        assert self.eval_every != "auto"
        return self.steps, self.eval_every

    @property
    def halvings(self) -> list[tuple[float, int]]:
        """Rungs of the halving search: share of the steps, and number of learning rates that continue after it. Empty for a grid."""
        left, numbers = len(self.learning_rates), []
        while self.lr_search == "halving" and left > FINALISTS:
            left = math.ceil(left / 2)
            numbers.append(left)
        return [(LAST_RUNG / RUNG_RATIO ** (len(numbers) - place), number) for place, number in enumerate(numbers, start=1)]

    @property
    def mean_rates(self) -> float:
        """Average number of learning rates that train at a step."""
        shares, numbers = (
            [0.0, *(share for share, _ in self.halvings), 1.0],
            [len(self.learning_rates), *(left for _, left in self.halvings)],
        )
        return sum(number * (end - start) for number, (start, end) in zip(numbers, pairwise(shares), strict=True))

    @property
    def rungs(self) -> dict[int, int]:
        """Step -> number of learning rates, the best on dev, that continue after it. The recipe must be `resolved`."""
        steps = self.counts[0]
        rungs = {max(1, int(share * steps)): number for share, number in self.halvings}
        return {step: number for step, number in rungs.items() if step < steps}

    @property
    def scored_after(self) -> list[int]:
        """Steps after which dev is scored, ascending. The recipe must be `resolved`."""
        steps, eval_every = self.counts
        return sorted({*range(eval_every, steps + 1, eval_every), *self.rungs, *([steps] if steps else [])})

    def with_lexicon(self, lexicon: Sequence[str]) -> EvaluationRecipe:
        """Return the recipe with the corpus's lexicons for PR, unless its options name others."""
        return self.model_copy(update={"task_options": with_lexicon(self.task, self.task_options, lexicon)})


def _crops_of_the_protocol(earlier: dict[str, Any]) -> CropDraws:
    """Default of `crop_draws`, given the fields before it."""
    try:
        entry = task_entry(earlier.get("task", ""), earlier.get("kind"))
    except TaskError:  # reported by another validator
        return 1
    return "every" if entry.protocol == "verification" or (entry.cropped_anew and earlier.get("protocol") == "superb") else 1


def evaluation_recipe(task: str, overrides: Mapping[str, Any] | None = None) -> EvaluationRecipe:
    """Build the evaluation recipe of `task` from its defaults and `overrides`.

    Args:
        task: a built-in task, or any name if the overrides have a `kind`.
        overrides: keys of EvaluationRecipe, and `like`: a task or kind whose defaults replace the task's own.

    Raises:
        ConfigError: unknown task, kind, metric or key, invalid value, a recipe for another task, or a departure from the published recipe
            without `protocol: quick`.
    """
    changes = dict(overrides or {})
    source, like = f"recipe of {task}", changes.pop("like", None)
    if changes.get("task", task) != task:
        raise ConfigError(f"The recipe is for task {changes['task']!r}, not {task!r}.")
    for key, value in (("like", like), ("kind", changes.get("kind"))):
        if not isinstance(value, str | None):
            raise ConfigError(f"{source}: {key}: {value!r} is not a name.")
    try:
        defaults = dict(task_entry(task, changes.get("kind")).recipe)
    except TaskError as error:
        raise ConfigError(f"{source}: {error}") from None
    if like is not None:
        try:
            own = {key: value for key, value in defaults.items() if key == "protocol"}
            defaults = {**known_entry(like).recipe, **own}
        except TaskError as error:
            raise ConfigError(f"{source}: like: {error}") from None
    return validate(EvaluationRecipe, {**defaults, **changes, "task": task}, source)
