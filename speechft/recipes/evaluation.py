"""The recipe of stage 3. Defaults of each task are in `speechft.tasks.catalog`. No torch here: Snakemake imports this."""

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
"""`steps: auto`: so many epochs, at least and at most so many steps; `eval_every: auto`: so many evaluations on dev."""
LAST_RUNG, RUNG_RATIO, FINALISTS = 0.28, 3.5, 2
"""`lr_search: halving`: share of the steps after which only the finalists are left, ratio of two rungs, number of finalists."""


class EvaluationRecipe(Pluggable):
    """Stage 3: training and scoring of a head on a frozen encoder. The defaults of each task are in its entry (`task_entry`)."""

    task: str = Field(description="Name of the task, as in cells and tables.")
    kind: str | None = Field(None, description="Of a task of your own: its kind, one of speechft.tasks.catalog.KINDS.")
    task_options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the class of the task; of a kind: label, metric and those of its head."
    )
    protocol: Literal["superb", "quick"] = Field(
        "superb", description="superb: published steps and sampling. quick: anything else; printed on every table."
    )
    precision: FeaturePrecision = Field(
        "fp32",
        description="Of the encoder's passes, on every device; heads train in fp32. bf16 needs `protocol: quick`; tables mark such rows.",
    )
    steps: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        description="Of the optimizer; 0 for a task without training. auto: 100 passes over train, but at least 200 and at most 20 000."
    )
    batch_size: Positive = Field(description="Utterances in a batch.")
    accumulate: Positive = Field(1, description="Batches in a step.")
    optimizer: Literal["Adam", "AdamW"] = "Adam"
    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7), description="All are trained at once; dev chooses."
    )
    lr_search: Literal["grid", "halving"] = Field(
        "grid",
        description="grid: every learning rate trains to the end, as in SUPERB. halving: of seven rates the four that are best on dev go "
        "on after 8 % of the steps, and two after 28 %; needs `protocol: quick`.",
    )
    clip_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="Gradients of a head are scaled down to this norm.")
    eval_every: Positive | Literal["auto"] = Field(description="Steps between two scores on dev. auto: a twentieth of the steps.")
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
        entry = self.entry
        for key, value in (("steps", self.steps), ("learning_rates", self.learning_rates)):
            if bool(value) != entry.trains:
                raise ValueError(
                    f"{key}={value} does not go with task {self.task!r}, which {'trains a head' if entry.trains else 'trains nothing'}"
                )
        if entry.protocol == "verification" and self.crop_draws != "every":
            raise ValueError(f"crop_draws={self.crop_draws} does not go with task {self.task!r}: frames of crops are too large to be kept")
        if self.protocol == "superb" and entry.recipe.get("protocol") == "quick":
            raise ValueError(f"protocol=superb: {self.task!r} is a task of your own, unknown to SUPERB; leave it out, or write quick")
        try:
            metrics_of(self.task, self.kind, self.task_options)
        except TaskError as error:
            raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _superb_is_superb(self) -> EvaluationRecipe:
        if self.protocol == "superb" and self.precision != "fp32":
            raise ValueError(
                f"precision={self.precision} is not SUPERB's (fp32); write `protocol: quick` so that tables say so, or drop it"
            )
        if self.protocol == "superb":
            crops = {"crop_draws": "every"} if self.entry.cropped_anew else {}
            for key, value in {**self.entry.recipe, **crops, "lr_search": "grid"}.items():
                if getattr(self, key) != value:
                    raise ValueError(
                        f"{key}={getattr(self, key)} is not SUPERB's ({value}); write `protocol: quick` so that tables say so, or drop it"
                    )
            changed = sorted(self.task_options.keys() & set(self.entry.head_options))
            if changed:
                raise ValueError(
                    f"task_options {', '.join(changed)}: not SUPERB's head or loss; write `protocol: quick` so that tables say so, "
                    "or drop them"
                )
        return self

    @property
    def unwritten(self) -> set[str]:
        """Keys that are left out of JSON: `lr_search` of a grid, so that such recipes stay as they were."""
        return super().unwritten | ({"lr_search"} if self.lr_search == "grid" else set())

    @property
    def named(self) -> list[tuple[str, str]]:
        """Its task, unless it is of a kind."""
        return [("task", self.task)] if self.kind is None else []

    @property
    def entry(self) -> TaskEntry:
        """What is known of the task; ValueError for an unknown one."""
        try:
            return task_entry(self.task, self.kind)
        except TaskError as error:
            raise ValueError(str(error)) from None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What the task reports."""
        return metrics_of(self.task, self.kind, self.task_options)

    def resolved(self, utterances: float) -> EvaluationRecipe:
        """The recipe with numbers in place of `auto`, for that many utterances of train."""
        epoch = math.ceil(utterances / (self.batch_size * self.accumulate))
        steps = min(AUTO_MOST, max(AUTO_FEWEST, AUTO_EPOCHS * epoch)) if self.steps == "auto" else self.steps
        eval_every = max(1, steps // AUTO_EVALUATIONS) if self.eval_every == "auto" else self.eval_every
        return self.model_copy(update={"steps": steps, "eval_every": eval_every})

    @property
    def counts(self) -> tuple[int, int]:
        """`steps` and `eval_every` of a recipe that is `resolved`."""
        assert self.steps != "auto"
        assert self.eval_every != "auto"
        return self.steps, self.eval_every

    @property
    def halvings(self) -> list[tuple[float, int]]:
        """Share of the steps, and how many learning rates go on after it; empty for a grid."""
        left, numbers = len(self.learning_rates), []
        while self.lr_search == "halving" and left > FINALISTS:
            left = math.ceil(left / 2)
            numbers.append(left)
        return [(LAST_RUNG / RUNG_RATIO ** (len(numbers) - place), number) for place, number in enumerate(numbers, start=1)]

    @property
    def mean_rates(self) -> float:
        """Learning rates that train at a step, on average."""
        shares, numbers = (
            [0.0, *(share for share, _ in self.halvings), 1.0],
            [len(self.learning_rates), *(left for _, left in self.halvings)],
        )
        return sum(number * (end - start) for number, (start, end) in zip(numbers, pairwise(shares), strict=True))

    @property
    def rungs(self) -> dict[int, int]:
        """Of a recipe that is `resolved`: step -> learning rates that go on after it, the best on dev."""
        steps = self.counts[0]
        rungs = {max(1, int(share * steps)): number for share, number in self.halvings}
        return {step: number for step, number in rungs.items() if step < steps}

    @property
    def scored_after(self) -> list[int]:
        """Of a recipe that is `resolved`: the steps after which a training scores dev, ascending."""
        steps, eval_every = self.counts
        return sorted({*range(eval_every, steps + 1, eval_every), *self.rungs, *([steps] if steps else [])})

    def with_lexicon(self, lexicon: Sequence[str]) -> EvaluationRecipe:
        """Return the recipe with the lexicons of its corpus for PR, unless its options name others."""
        return self.model_copy(update={"task_options": with_lexicon(self.task, self.task_options, lexicon)})


def _crops_of_the_protocol(earlier: dict[str, Any]) -> CropDraws:
    """The default of `crop_draws`, from the fields before it."""
    try:
        entry = task_entry(earlier.get("task", ""), earlier.get("kind"))
    except TaskError:  # the recipe is refused for it
        return 1
    return "every" if entry.protocol == "verification" or (entry.cropped_anew and earlier.get("protocol") == "superb") else 1


def evaluation_recipe(task: str, overrides: Mapping[str, Any] | None = None) -> EvaluationRecipe:
    """Build the recipe of `task` from its defaults and `overrides`.

    Args:
        task: a built-in task, or the name of one whose `kind` is in the overrides.
        overrides: keys of EvaluationRecipe; and `like`, a task or kind whose defaults hold in place of the task's own.

    Raises:
        ConfigError: unknown task, kind, metric or key, impossible value, a recipe of another task, or a change of the published recipe
            without `protocol: quick`.
    """
    changes = dict(overrides or {})
    source, like = f"recipe of {task}", changes.pop("like", None)
    if changes.get("task", task) != task:
        raise ConfigError(f"The recipe is of task {changes['task']!r}, not {task!r}.")
    for key, value in (("like", like), ("kind", changes.get("kind"))):
        if not isinstance(value, str | None):
            raise ConfigError(f"{source}: {key}: {value!r} is no name.")
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
