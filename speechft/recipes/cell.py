"""Cells: the result of one model on one task, as a JSON file. No torch here: tables are made from cells alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from speechft.errors import ConfigError, TableError
from speechft.files.hashes import sha256_json
from speechft.files.structured import write_json
from speechft.recipes.items import ItemShares, TrialScores
from speechft.recipes.modules import ModuleRecord
from speechft.recipes.values import FeaturePrecision, Sparse, Strict, load_result
from speechft.tasks.metric import Metric

Score = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Scores = dict[str, Score]
"""Metric key (e.g. "PR", "SF_F1") -> value as shown in tables, usually in percent."""

_EARLIER_PRECISIONS = {"fp32": "fp32", "bf16 autocast": "bf16"}


def with_precision(content: Any) -> Any:
    """Add `precision` to the content of a result file by an earlier version, which stored it under `software`."""
    if not isinstance(content, dict) or "precision" in content or not isinstance(content.get("software"), dict):
        return content
    return {**content, "precision": _EARLIER_PRECISIONS.get(content["software"].get("encoder_precision"))}


_Part = Annotated[str, Field(min_length=1, pattern=r"^[^/\x00]*$")]
"""Of `encoder/finetuning/method`; it stands in names of files, too."""


class ModelName(Strict):
    """The evaluated model. Names are null unless given with `--name`."""

    encoder: _Part | None = None
    finetuning: _Part | None = None
    method: _Part | None = None
    sha256: str = Field(description="SHA-256 of model.safetensors; for a module of your own, of its source, options and tensors.")


def model_names(model_name: str | None) -> dict[str, str]:
    """Split "encoder/finetuning/method" into keyword arguments for `ModelName`; empty for None.

    Raises:
        ConfigError: `model_name` does not have three parts.
    """
    if model_name is None:
        return {}
    names = model_name.split("/")
    if len(names) != 3 or not all(names):
        raise ConfigError(f"name={model_name!r}: a model is named encoder/finetuning/method, e.g. hubert_base/none/pretrained.")
    return dict(zip(("encoder", "finetuning", "method"), names, strict=True))


class Trial(Sparse):
    """One candidate: a head trained with a seed and a learning rate, or, in tasks without training, one hidden state."""

    seed: int | None
    fold: str | None = Field(None, description="In cross-validation: the fold used as test.")
    learning_rate: float | None = None
    layer: int | None = Field(None, description="Index of the hidden state, if dev selects one instead of a learning rate (QbE).")
    dev: Scores = Field(
        description="Scores at the best step, on the split named by `selected_on`; empty if training diverged before its first evaluation."
    )
    best_step: int | None = None
    diverged: bool = Field(False, description="Whether training stopped because the loss became NaN or Inf.")
    dropped: int | None = Field(None, description="Step at which `lr_search: halving` dropped this head; null: trained to the end.")
    selected: bool

    @property
    def unwritten(self) -> set[str]:
        """Omit `dropped` if null, so that cells of a grid search keep their bytes."""
        return {"dropped"} if self.dropped is None else set()


class Selected(Strict):
    """The head selected on dev for a seed (and fold), and its test scores."""

    seed: int | None
    fold: str | None = None
    learning_rate: float | None = None
    layer: int | None = None
    best_step: int | None = None
    test: Scores
    alternatives: dict[str, Scores] = Field(
        default_factory=dict, description="Test scores with other post-processing of the head's output."
    )


class SplitCounts(Strict):
    """Size of a split, and how many utterances were dropped."""

    utterances: int
    hours: float
    dropped: dict[str, int] = Field(default_factory=dict, description="Reason -> number of utterances dropped.")
    unknown: float | None = Field(
        None, ge=0, le=1, description="Share of target symbols that are not in the vocabulary (`<unk>`); null for tasks without text."
    )


class FoldCounts(Strict):
    """Number of utterances per split of one fold."""

    train: int
    dev: int
    test: int


class Counts(Strict):
    """Sizes of splits and heads, and encoder passes."""

    train: SplitCounts = Field(description="In cross-validation: summed over folds, so each utterance counts several times.")
    dev: SplitCounts
    test: SplitCounts
    folds: dict[str, FoldCounts] = Field(default_factory=dict, description="In cross-validation: size of each fold.")
    labels: int
    trainable_parameters: int = Field(description="Number of parameters of the layer weights and one head.")
    encoder_passes: int = Field(description="Utterances or crops encoded, summed over seeds and learning rates.")


class Hashes(Strict):
    """SHA-256 of everything that determines the numbers."""

    model: str = Field(description="SHA-256 of configuration and weights; for a module of your own, the value of `model.sha256`.")
    recipe: str
    labels: str
    manifests: dict[str, str]


class Seconds(Strict):
    """Wall time in seconds."""

    features: float
    training: float
    total: float


class Cell(Strict):
    """Result of one model on one task."""

    schema_version: Literal[1] = Field(1, alias="schema")
    model: ModelName
    task: str
    described: tuple[Metric, ...] = Field(
        (), description="Name, unit, direction and range of each metric, so that tables need only the cell. Empty in older cells."
    )
    protocol: Literal["superb", "quick"]
    precision: FeaturePrecision | None = Field(description="Precision of the encoder; heads are in fp32. Null: not recorded.")
    metrics: Scores = Field(description="Test scores, mean over seeds.")
    values: dict[str, list[Score]] = Field(description="Test scores, one per seed; in cross-validation the mean over its folds.")
    selected_on: Literal["dev", "test"] = Field(
        "dev", description="Split that selected step and learning rate: test only where SUPERB does so (ASV without dev trials)."
    )
    trials: list[Trial] = Field(min_length=1)
    selected: list[Selected] = Field(min_length=1)
    counts: Counts
    hashes: Hashes
    recipe: dict[str, Any]
    module: ModuleRecord | None = Field(None, description="The encoder, if it is a module of your own instead of an encoder directory.")
    seconds: Seconds
    software: dict[str, str]
    items: Annotated[ItemShares | TrialScores, Field(discriminator="unit")] | None = Field(
        None, description="Result of every test item. Null in cells from before speechft 0.3, and for tasks that do not provide it."
    )

    @model_validator(mode="before")
    @classmethod
    def _earlier(cls, content: Any) -> Any:
        return with_precision(content)

    @model_validator(mode="after")
    def _consistent(self) -> Cell:
        self._check_recipe()
        _refuse_repeated("selected", [(chosen.seed, chosen.fold) for chosen in self.selected])
        _refuse_repeated("trials", [(trial.seed, trial.fold, trial.learning_rate, trial.layer) for trial in self.trials])
        seeds = list(dict.fromkeys(chosen.seed for chosen in self.selected))
        for key, mean in self.metrics.items():
            values = self.values.get(key, [])
            if len(values) != len(seeds) or _differ(_mean(values), mean):
                raise ValueError(f"metrics.{key} is not the mean of values.{key} over {len(seeds)} seed(s)")
            for seed, value in zip(seeds, values, strict=True):
                if _differ(_mean([chosen.test.get(key, math.inf) for chosen in self.selected if chosen.seed == seed]), value):
                    raise ValueError(f"values.{key} of seed {seed} is not the mean of its scores in `selected`")
        if self.items is not None:
            self._check_items(self.items, len(seeds))
        return self

    def _check_items(self, items: ItemShares | TrialScores, seeds: int) -> None:
        """Check that items are consistent and add up to the values of the metrics."""
        if problem := items.problem(seeds):
            raise ValueError(f"items: {problem}")
        known = {metric.key: metric for metric in self.described}
        if strange := [key for key in items.metrics if key not in known]:
            raise ValueError(f"items: {strange[0]} is not a metric of `described`")
        if isinstance(items, TrialScores):
            return
        for key in items.parts:
            for seed, value in enumerate(self.values.get(key, ())):
                if not abs(known[key].of_fraction(items.value(key, seed)) - value) <= 1e-4 * max(1.0, abs(value)):
                    raise ValueError(f"items: {key} of seed {seed + 1} does not add up to its value, {value:g}")

    def _check_recipe(self) -> None:
        """Check the recipe against its hash, and the cell's other keys against the recipe."""
        if sha256_json(self.recipe) != self.hashes.recipe:
            raise ValueError("recipe: does not match hashes.recipe, so it was edited after the evaluation")
        seeds = sorted({chosen.seed for chosen in self.selected if chosen.seed is not None})
        said = {"task": self.task, "protocol": self.protocol, "precision": self.precision, "seeds": seeds or None}
        for key, value in said.items():
            of_recipe = sorted(self.recipe[key]) if key == "seeds" and key in self.recipe else self.recipe.get(key)
            if value is not None and of_recipe is not None and value != of_recipe:
                raise ValueError(f"{key}: is {value!r}, but {of_recipe!r} in the cell's recipe")


def _refuse_repeated(key: str, places: Sequence[tuple[Any, ...]]) -> None:
    if twice := [place for place in places if places.count(place) > 1]:
        raise ValueError(f"{key}: seed {twice[0][0]} appears twice with the same setting")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _differ(found: float, expected: float) -> bool:
    return not abs(found - expected) <= 1e-6 * max(1.0, abs(expected))  # also of NaN


def write_cell(cell: Cell, path: str | Path) -> dict[str, Any]:
    """Write a cell atomically and return its JSON value."""
    value = cell.model_dump(mode="json", by_alias=True)
    write_json(path, value)
    return value


def read_cell(path: str | Path) -> Cell:
    """Read and check a cell.

    Raises:
        TableError: the file is missing, is not JSON or is not a cell; the message lists every problem.
    """
    refusal = "This is not a cell written by `speechft evaluate`. Name a cell, or run the evaluation again."
    return load_result(Cell, path, TableError, refusal)
