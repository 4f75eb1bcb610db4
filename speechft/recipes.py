"""Recipes: what one job needs to know, and nothing else.

The workflow resolves the experiment into one small JSON file a job (`results/.../recipes/...json`). A job depends on that file only, so
changing a table never retrains a model and changing a recipe reruns exactly what depends on it. No torch here: Snakemake imports this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, field_validator, model_validator

from speechft.errors import ConfigError
from speechft.files import read_json
from speechft.validation import Strict, validate

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]


class CorpusRecipe(Strict):
    """How manifests are made from a corpus on disk."""

    kind: Literal["csv"] = Field("csv", description="Layout of the corpus: csv = a table with one recording a row.")
    path: Path = Field(description="The CSV file.")
    audio_root: Path | None = Field(None, description="Folder that the paths in the CSV are relative to; default: the folder of the CSV.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Our column name -> name in the CSV, where they differ, e.g. {label: digit}. "
        "Ours: path id text speaker label split fold phones relevant.",
    )
    rttm: Path | None = Field(None, description="For diarization (SD): RTTM file with the turns of the recordings in the CSV.")
    trials: Path | None = Field(
        None, description="For speaker verification (ASV): CSV file with the columns label (1 = same speaker), enrolment and test (ids)."
    )
    channel: int | None = Field(
        None, ge=0, description="Channel to take from recordings with several; without it such recordings are errors."
    )
    dev_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        None, description="For a corpus without a dev split: move this share of train to dev, chosen by a hash of the id."
    )
    default_split: Literal["train", "dev", "test"] | None = Field(None, description="Split of all rows of a CSV without a split column.")
    unlabelled: bool = Field(False, description="True: every row goes to train and needs no label (pre-training).")


class ConvolutionLayer(Strict):
    """One layer of the convolutional feature extractor."""

    channels: Positive
    kernel: Positive
    stride: Positive


SMALL_EXTRACTOR = tuple(
    ConvolutionLayer(channels=channels, kernel=kernel, stride=stride)
    for channels, kernel, stride in [(32, 10, 5), (32, 3, 2), (64, 3, 2), (64, 3, 2), (128, 3, 2), (128, 2, 2), (128, 2, 2)]
)


class HubertArchitecture(Strict):
    """Sizes of a HuBERT to pre-train; the defaults are a small one of 1.8 million parameters."""

    extractor: tuple[ConvolutionLayer, ...] = SMALL_EXTRACTOR
    layers: Positive = 3
    hidden_size: Positive = 192
    ffn_size: Positive = 768
    attention_heads: Positive = 4
    conv_pos: Positive = 128
    conv_pos_groups: Positive = 16
    final_dim: Positive = 64
    dropout: Fraction = 0.1


class PretrainRecipe(Strict):
    """HuBERT's masked prediction of k-means clusters of MFCC frames."""

    architecture: HubertArchitecture = HubertArchitecture()
    clusters: Positive = Field(100, description="k of k-means on 39-dimensional MFCC frames at 100 Hz.")
    updates: Positive = 1000
    warmup_updates: Positive = 100
    peak_lr: Annotated[float, Field(gt=0)] = 7e-4
    batch_seconds: Annotated[float, Field(gt=0)] = Field(40.0, description="Seconds of audio in an update.")
    max_seconds: Annotated[float, Field(gt=0)] = Field(10.0, description="Longer recordings are cropped at random to this length.")
    min_seconds: Annotated[float, Field(ge=0)] = Field(0.25, description="Shorter recordings are left out (and counted).")
    mask_prob: Fraction = Field(0.5, description="Approximate share of frames under a mask.")
    mask_length: Positive = 6
    valid_fraction: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.02
    validate_every: Positive = 200
    seed: int = 1337


class FinetuneRecipe(Strict):
    """Stage 1. The defaults are the paper's Stable-FT; counts of updates depend on the fine-tuning task."""

    task: str = Field(description="Fine-tuning task, one of speechft.tasks.TASK_NAMES.")
    task_options: dict[str, Any] = Field(default_factory=dict)
    updates: Positive
    batch_size: Positive = Field(16, description="Utterances in a batch.")
    accumulate: Positive = Field(1, description="Batches in an update.")
    max_batch_seconds: Annotated[float, Field(gt=0)] = Field(400.0, description="Batches longer than this are split; bounds memory.")
    peak_lr: Annotated[float, Field(gt=0)] = 1e-4
    warmup: Fraction = Field(0.1, description="Share of the updates with linearly rising learning rate.")
    hold: Fraction = Field(0.4, description="Share of the updates at the peak; the rest decays linearly to 0.")
    head_only: Fraction = Field(0.1, description="Share of the updates, from the start, that train the head alone.")
    freeze_extractor: bool = Field(True, description="Keep the convolutional feature extractor frozen throughout.")
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    validate_every: Positive = 1000
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    seed: int = 1337

    @model_validator(mode="after")
    def _phases_fit(self) -> FinetuneRecipe:
        if self.warmup + self.hold > 1.0:
            raise ValueError(f"warmup + hold = {self.warmup + self.hold:g} is more than 1, nothing is left for the decay")
        return self


class MergeRecipe(Strict):
    """Stage 2."""

    method: str = Field("linear", description="A method of speechft.merge.")
    alpha: float = Field(0.25, description="Weight of the fine-tuned model; 0 is the pre-trained one.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="Further parameters of the method.")


class EvaluationRecipe(Strict):
    """Stage 3: training and scoring of a head on a frozen encoder. The defaults of each task are in SUPERB_RECIPES."""

    task: str
    task_options: dict[str, Any] = Field(default_factory=dict)
    protocol: Literal["superb", "quick"] = Field(
        "superb", description="superb: published steps and sampling. quick: anything else; printed on every table."
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
    seeds: tuple[int, ...] = Field((1337,), min_length=1, description="Each seed trains its own heads; the cell holds mean and values.")
    crop_draws: Positive = Field(
        1,
        description="Random crops of each long training utterance, for tasks that crop (SID). They are drawn and encoded once, and chosen "
        "from at random; SUPERB draws a new one at each access, so that many more epochs than crops see the same ones again.",
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
    def _trains_or_not(self) -> EvaluationRecipe:
        trains = self.task not in UNTRAINED_TASKS
        for key, value in (("steps", self.steps), ("learning_rates", self.learning_rates)):
            if bool(value) != trains:
                raise ValueError(
                    f"{key}={value} does not go with task {self.task!r}, which {'trains a head' if trains else 'trains nothing'}"
                )
        return self

    @model_validator(mode="after")
    def _superb_is_superb(self) -> EvaluationRecipe:
        published = SUPERB_RECIPES.get(self.task)
        if self.protocol == "superb" and published is not None:
            for key, value in published.items():
                if getattr(self, key) != value:
                    raise ValueError(
                        f"{key}={getattr(self, key)} is not SUPERB's ({value}); write `protocol: quick` so that tables say so, or drop it"
                    )
        return self


class TableRow(Strict):
    """One model of a table."""

    encoder: str
    finetuning: str
    method: str
    label: str = Field(description="Name of the method as shown, e.g. Stable-FT.")


class TableRecipe(Strict):
    """What a table shows; made from the experiment's layout of the same name."""

    title: str
    note: str = ""
    rows: tuple[TableRow, ...] = Field(min_length=1)
    tasks: tuple[str, ...] = Field(min_length=1)
    published: str | None = Field(None, description="Table of the published numbers that stand beside ours.")


UNTRAINED_TASKS = ("qbe",)
"""Tasks that compare features and have no head."""

# The configurations that s3prl 0.4.18 ships for SUPERB; learning rates are searched, everything else is fixed.
SUPERB_RECIPES: dict[str, dict[str, Any]] = {
    "pr": {"steps": 100_000, "batch_size": 16, "accumulate": 2, "optimizer": "Adam", "clip_norm": 1.0, "eval_every": 1000},
    "asr": {"steps": 200_000, "batch_size": 32, "accumulate": 1, "optimizer": "Adam", "clip_norm": 1.0, "eval_every": 2000},
    "ks": {"steps": 200_000, "batch_size": 32, "accumulate": 1, "optimizer": "Adam", "clip_norm": 1.0, "eval_every": 5000},
    "sid": {"steps": 200_000, "batch_size": 8, "accumulate": 4, "optimizer": "Adam", "clip_norm": 1.0, "eval_every": 5000},
    "er": {"steps": 30_000, "batch_size": 4, "accumulate": 8, "optimizer": "Adam", "clip_norm": 1.0, "eval_every": 1000},
    "ic": {"steps": 200_000, "batch_size": 32, "accumulate": 1, "optimizer": "Adam", "clip_norm": 1.0, "eval_every": 5000},
    "sf": {"steps": 200_000, "batch_size": 32, "accumulate": 1, "optimizer": "Adam", "clip_norm": 1.0, "eval_every": 2000},
    # PC is no task of SUPERB and nobody has published its recipe; this one is ours, a linear probe that passes over TIMIT's 3696
    # training sentences about 90 times.
    "pc": {"steps": 20_000, "batch_size": 16, "accumulate": 1, "optimizer": "Adam", "clip_norm": 1.0, "eval_every": 500},
    "qbe": {"steps": 0, "batch_size": 1, "eval_every": 1, "learning_rates": ()},
    "asv": {"steps": 200_000, "batch_size": 10, "accumulate": 5, "optimizer": "AdamW", "clip_norm": 1e3, "eval_every": 20_000},
    "sd": {"steps": 30_000, "batch_size": 8, "accumulate": 4, "optimizer": "Adam", "clip_norm": 1.0, "eval_every": 500},
}


def evaluation_recipe(task: str, overrides: dict[str, Any] | None = None) -> EvaluationRecipe:
    """SUPERB's recipe of `task` with `overrides` on top.

    Raises:
        ConfigError: unknown task or key, impossible value, or a change of the published recipe without `protocol: quick`.
    """
    if task not in SUPERB_RECIPES:
        raise ConfigError(f"There is no recipe for task {task!r}. Tasks: {', '.join(SUPERB_RECIPES)}.")
    values = {**SUPERB_RECIPES[task], **(overrides or {}), "task": task}
    return validate(EvaluationRecipe, values, f"recipe of {task}")


RecipeType = TypeVar("RecipeType", bound=BaseModel)


def load_recipe(model: type[RecipeType], path: str | Path) -> RecipeType:
    """Read a recipe file (JSON) that the workflow or a user wrote."""
    return validate(model, read_json(path), str(path))
