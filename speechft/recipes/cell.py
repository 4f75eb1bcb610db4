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
"""Metric key (e.g. "PR", "SF_F1") -> value as tables show it: percent."""

_EARLIER_PRECISIONS = {"fp32": "fp32", "bf16 autocast": "bf16"}


def with_precision(content: Any) -> Any:
    """Add `precision` to the content of a result file of an earlier version, which kept it under `software`."""
    if not isinstance(content, dict) or "precision" in content or not isinstance(content.get("software"), dict):
        return content
    return {**content, "precision": _EARLIER_PRECISIONS.get(content["software"].get("encoder_precision"))}


_Part = Annotated[str, Field(min_length=1, pattern=r"^[^/\x00]*$")]
"""Of `encoder/finetuning/method`; it stands in names of files, too."""


class ModelName(Strict):
    """The evaluated model; the names are null unless `--name` gave them."""

    encoder: _Part | None = None
    finetuning: _Part | None = None
    method: _Part | None = None
    sha256: str = Field(description="Of model.safetensors; of a module of the user's own, of its source, options and tensors.")


def model_names(model_name: str | None) -> dict[str, str]:
    """Encoder, fine-tuning and method of "encoder/finetuning/method", as keyword arguments of `ModelName`; none where it is None.

    Raises:
        ConfigError: it is not three names.
    """
    if model_name is None:
        return {}
    names = model_name.split("/")
    if len(names) != 3 or not all(names):
        raise ConfigError(f"name={model_name!r}: a model is named encoder/finetuning/method, e.g. hubert_base/none/pretrained.")
    return dict(zip(("encoder", "finetuning", "method"), names, strict=True))


class Trial(Sparse):
    """One head: a seed and a learning rate; or, where nothing is trained, one hidden state."""

    seed: int | None
    fold: str | None = Field(None, description="In cross-validation: which part was test.")
    learning_rate: float | None = None
    layer: int | None = Field(None, description="Hidden state, where one is chosen instead of a learning rate (QbE).")
    dev: Scores = Field(
        description="At the best step, on the split of `selected_on`; empty when the training diverged before its first evaluation."
    )
    best_step: int | None = None
    diverged: bool = Field(False, description="The loss became NaN or Inf, and training stopped there.")
    dropped: int | None = Field(None, description="Step at which `lr_search: halving` dropped it. Null: it stayed to the end.")
    selected: bool

    @property
    def unwritten(self) -> set[str]:
        """Cells of a grid stay as they were."""
        return {"dropped"} if self.dropped is None else set()


class Selected(Strict):
    """The head that dev chose for a seed (and fold), and its score on test."""

    seed: int | None
    fold: str | None = None
    learning_rate: float | None = None
    layer: int | None = None
    best_step: int | None = None
    test: Scores
    alternatives: dict[str, Scores] = Field(default_factory=dict, description="On test, other settings of what follows the head.")


class SplitCounts(Strict):
    """Size of a split, and what was left out."""

    utterances: int
    hours: float
    dropped: dict[str, int] = Field(default_factory=dict, description="Reason -> utterances that had no influence.")
    unknown: float | None = Field(
        None, ge=0, le=1, description="Share of the targets' symbols that are `<unk>`, since the vocabulary lacks them. Null: no text."
    )


class FoldCounts(Strict):
    """Utterances of one fold."""

    train: int
    dev: int
    test: int


class Counts(Strict):
    """Sizes of the evaluation."""

    train: SplitCounts = Field(description="In cross-validation: of all folds together, so that an utterance counts in several.")
    dev: SplitCounts
    test: SplitCounts
    folds: dict[str, FoldCounts] = Field(default_factory=dict, description="In cross-validation: the size of each fold.")
    labels: int
    trainable_parameters: int = Field(description="Of the layer weights and one head.")
    encoder_passes: int = Field(description="Utterances or crops sent through the encoder, all seeds and learning rates together.")


class Hashes(Strict):
    """SHA-256 of everything that decides the numbers."""

    model: str = Field(description="Of the configuration and the weights; of a module of the user's own, as `model.sha256`.")
    recipe: str
    labels: str
    manifests: dict[str, str]


class Seconds(Strict):
    """Wall time."""

    features: float
    training: float
    total: float


class Cell(Strict):
    """Result of one model on one task."""

    schema_version: Literal[1] = Field(1, alias="schema")
    model: ModelName
    task: str
    described: tuple[Metric, ...] = Field(
        (), description="Name, unit, direction and range of each metric, so that a table needs nothing else. Empty in older cells."
    )
    protocol: Literal["superb", "quick"]
    precision: FeaturePrecision | None = Field(description="Of the encoder's passes; heads are in fp32. Null: not recorded.")
    metrics: Scores = Field(description="Mean over seeds, on test.")
    values: dict[str, list[Score]] = Field(description="On test, one value a seed; in cross-validation the mean over its folds.")
    selected_on: Literal["dev", "test"] = Field(
        "dev", description="The split that chose step and learning rate: test where SUPERB does so (ASV without trials of dev)."
    )
    trials: list[Trial] = Field(min_length=1)
    selected: list[Selected] = Field(min_length=1)
    counts: Counts
    hashes: Hashes
    recipe: dict[str, Any]
    module: ModuleRecord | None = Field(None, description="The encoder, where it is a module of the user's own and no encoder directory.")
    seconds: Seconds
    software: dict[str, str]
    items: Annotated[ItemShares | TrialScores, Field(discriminator="unit")] | None = Field(
        None, description="The outcome of every item of test. Null in cells of before speechft 0.3, and where the task cannot tell it."
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
        """They fit together, and shares give the values of the metrics."""
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
                    raise ValueError(f"items: what {key} of seed {seed + 1} adds up to is not {value:g}, its value")

    def _check_recipe(self) -> None:
        """The recipe matches its hash, and the cell's other keys match the recipe."""
        if sha256_json(self.recipe) != self.hashes.recipe:
            raise ValueError("recipe: does not have the hash in hashes.recipe, so it was changed afterwards")
        seeds = sorted({chosen.seed for chosen in self.selected if chosen.seed is not None})
        said = {"task": self.task, "protocol": self.protocol, "precision": self.precision, "seeds": seeds or None}
        for key, value in said.items():
            of_recipe = sorted(self.recipe[key]) if key == "seeds" and key in self.recipe else self.recipe.get(key)
            if value is not None and of_recipe is not None and value != of_recipe:
                raise ValueError(f"{key}: is {value!r}, and {of_recipe!r} in the recipe of the cell")


def _refuse_repeated(key: str, places: Sequence[tuple[Any, ...]]) -> None:
    if twice := [place for place in places if places.count(place) > 1]:
        raise ValueError(f"{key}: seed {twice[0][0]} appears twice with the same setting")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _differ(found: float, expected: float) -> bool:
    return not abs(found - expected) <= 1e-6 * max(1.0, abs(expected))  # also of NaN


def write_cell(cell: Cell, path: str | Path) -> dict[str, Any]:
    """Write the cell atomically; returns its JSON value."""
    value = cell.model_dump(mode="json", by_alias=True)
    write_json(path, value)
    return value


def read_cell(path: str | Path) -> Cell:
    """Read and check a cell.

    Raises:
        TableError: the file is missing, is not JSON or is not a cell; the message names every problem.
    """
    refusal = "This is not a cell of `speechft evaluate`. Name a cell, or run the evaluation that makes it again."
    return load_result(Cell, path, TableError, refusal)
