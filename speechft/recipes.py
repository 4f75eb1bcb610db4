"""Recipes: what one job needs to know, and nothing else.

The workflow resolves the experiment into one small JSON file a job (`results/.../recipes/...json`). A job depends on that file only, so
changing a table never retrains a model and changing a recipe reruns exactly what depends on it. No torch here: Snakemake imports this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, field_validator, model_validator

from speechft.errors import ConfigError, MergeError, nearest
from speechft.files import read_json
from speechft.finetune_options import Adapters, Early, JointTask, MaxBatchSeconds, PartName
from speechft.lexicon_files import with_lexicon
from speechft.pretraining_recipes import ContinuedPretrainRecipe as ContinuedPretrainRecipe
from speechft.pretraining_recipes import PretrainRecipe as PretrainRecipe
from speechft.stage1_recipes import named_recipe
from speechft.validation import FeaturePrecision, Fraction, InputPath, Positive, Seed, Strict, validate

CropDraws = Positive | Literal["every"]
FIRST = (
    "Keep the first utterances of each split, so many, and as many more as every class, fold, speaker and kind of trial needs: for a "
    "rehearsal. Of mixtures: the first mixtures."
)


class CorpusRecipe(Strict):
    """How manifests are made from a corpus on disk."""

    kind: Literal["csv", "mixtures"] = Field(
        "csv",
        description="Layout of the corpus: csv = a table with one recording a row; mixtures = a table with one source of a mixture a row, "
        "which are mixed when the corpus is prepared.",
    )
    path: InputPath = Field(description="The CSV file.")
    audio_root: InputPath | None = Field(
        None, description="Folder that the paths in the CSV are relative to; default: the folder of the CSV."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Our column name -> name in the CSV, where they differ, e.g. {label: digit}. "
        "Ours: path id text speaker label split fold phones relevant.",
    )
    rttm: InputPath | None = Field(None, description="For diarization (SD): RTTM file with the turns of the recordings in the CSV.")
    trials: InputPath | None = Field(
        None, description="For speaker verification (ASV): CSV file with the columns label (1 = same speaker), enrolment and test (ids)."
    )
    channel: int | None = Field(
        None, ge=0, description="Channel to take from recordings with several; without it such recordings are errors."
    )
    dev_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        None, description="For a corpus without a dev split: move this share of train to dev, chosen by a hash of the id."
    )
    subset: Literal["tedlium"] | None = Field(
        None,
        description="tedlium: the recordings of 1 to 60 s without `<unk>` in their text, of train the first ones until they are 10 hours, "
        "as the released fine-tuning on TED-LIUM 3 takes them.",
    )
    default_split: Literal["train", "dev", "test"] | None = Field(None, description="Split of all rows of a CSV without a split column.")
    unlabelled: bool = Field(False, description="True: every row goes to train and needs no label (pre-training).")
    first: Positive | None = Field(None, description=FIRST)

    @model_validator(mode="after")
    def _mixtures_define_themselves(self) -> CorpusRecipe:
        given = sorted(self.model_fields_set - {"kind", "path", "audio_root", "first"})
        given = [name for name in given if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True)]
        if self.kind == "mixtures" and given:
            raise ValueError(f"a corpus of kind mixtures takes `path`, `audio_root` and `first` alone, not {', '.join(given)}")
        return self


class FbankRecipe(Strict):
    """Log-mel filterbanks as an encoder; the defaults are SUPERB's FBANK baseline."""

    mel_bins: int = Field(80, ge=8, le=128, description="Log-mel energies of a frame of 25 ms.")
    deltas: int = Field(2, ge=0, le=2, description="Highest order of the time derivatives that stand beside the energies.")
    normalize: bool = Field(
        True,
        description="Zero mean and unit deviation of every value over the utterance. The mean over its frames is then zero, so that heads "
        "that average over frames (KS, SID, ER, IC) learn nothing from FBANK, in SUPERB's own numbers too.",
    )


class FinetuneRecipe(Strict):
    """Stage 1. The defaults are the paper's Stable-FT; counts of updates depend on the fine-tuning task."""

    like: str | None = Field(None, description="A recipe of speechft.stage1_recipes whose keys hold unless they are given here.")
    task: str = Field(description="Fine-tuning task, one of speechft.tasks.TASK_NAMES.")
    task_options: dict[str, Any] = Field(default_factory=dict)
    updates: Positive
    batch_size: Positive | None = Field(16, description="Utterances in a batch; null: as many as max_batch_seconds allows.")
    accumulate: Positive = Field(1, description="Batches in an update.")
    max_batch_seconds: MaxBatchSeconds = Field(400.0, description="Batches longer than this are split; bounds memory.")
    order: Literal["pooled", "superb"] = Field(
        "pooled",
        description="pooled: shuffled batches of similar length. superb: the order of the task's SUPERB recipe, which reads its batches "
        "whole however long they are.",
    )
    fold: str | None = Field(None, description="For a corpus with folds in place of splits (ER): the fold that is left out.")
    jointly: dict[PartName, JointTask] = Field(default_factory=dict, description="Further tasks that are learnt together with this one.")
    share: Annotated[float, Field(gt=0)] = Field(1.0, description="Of this task among those that are learnt jointly.")
    peak_lr: Annotated[float, Field(gt=0)] = 1e-4
    warmup: Fraction = Field(0.1, description="Share of the updates with linearly rising learning rate.")
    hold: Fraction = Field(0.4, description="Share of the updates at the peak; the rest decays linearly to 0.")
    head_only: Fraction = Field(0.1, description="Share of the updates, from the start, that train the head alone.")
    freeze_extractor: bool = Field(True, description="Keep the convolutional feature extractor frozen throughout.")
    l2: Annotated[float, Field(ge=0)] = Field(
        0.0, description="lambda: this times the squared L2 distance of the encoder from its start is added to the loss."
    )
    adapters: Adapters | None = Field(None, description="LoRA or DoRA in place of the encoder's own weights.")
    early: tuple[Early, ...] = Field(
        (0.2,), description="Shares of the updates after which the encoder is kept as well, beside the result; [] for none."
    )
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    validate_every: Positive = 1000
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    padding: Literal["alone", "reference"] = Field(
        "alone", description="alone: each utterance has the features that it has by itself. reference: as s3prl, for comparisons with it."
    )
    seed: Seed = 1337

    @model_validator(mode="before")
    @classmethod
    def _like(cls, values: Any) -> Any:
        return named_recipe(values)

    @model_validator(mode="after")
    def _phases_fit(self) -> FinetuneRecipe:
        if self.warmup + self.hold > 1.0:
            raise ValueError(f"warmup + hold = {self.warmup + self.hold:g} is more than 1, nothing is left for the decay")
        return self

    @model_validator(mode="after")
    def _adapters_alone(self) -> FinetuneRecipe:
        if self.adapters and (self.l2 or not self.freeze_extractor):
            raise ValueError("adapters leave the encoder's own weights alone: l2 and `freeze_extractor: false` do not go with them")
        return self

    @model_validator(mode="after")
    def _parts_differ(self) -> FinetuneRecipe:
        if self.task in self.jointly:
            raise ValueError(f"jointly: {self.task!r} is the name of the recipe's own task; choose another name")
        return self

    def with_lexicons(self, lexicons: Mapping[str, Sequence[str]]) -> FinetuneRecipe:
        """The same, in which PR uses the lexicons of its corpus unless its options name others; `lexicons` has those of each of `parts`."""
        options = {name: with_lexicon(part.task, part.task_options, lexicons.get(name, ())) for name, part in self.parts.items()}
        jointly = {name: part.model_copy(update={"task_options": options[name]}) for name, part in self.jointly.items()}
        return self.model_copy(update={"task_options": options[self.task], "jointly": jointly})

    @property
    def parts(self) -> dict[str, JointTask]:
        """All tasks by name; the recipe's own is first and called as its task is."""
        return {self.task: JointTask.model_validate({key: getattr(self, key) for key in JointTask.model_fields}), **self.jointly}


class MergeRecipe(Strict):
    """Stage 2."""

    method: str = Field("linear", description="A method of speechft.merge.")
    alpha: float = Field(0.25, description="Weight of the fine-tuned model; 0 is the pre-trained one.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="Further parameters of the method.")
    scale: dict[str, float | str] = Field(default_factory=dict, description="Factors of alpha by part of the model (docs/merge.md).")
    dtype: Literal["fp32", "fp16", "bf16"] | None = Field(None, description="To store the result in; default: as the pre-trained one.")
    extrapolate: bool = Field(False, description="Allow alpha outside of 0 to 1.")

    @model_validator(mode="after")
    def _method_takes_parameters(self) -> Self:
        from speechft.merge.methods import get_method

        try:
            get_method(self.method, self.parameters)
        except MergeError as error:
            raise ValueError(str(error)) from None
        return self


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
    def _trains_or_not(self) -> EvaluationRecipe:
        trains = self.task not in UNTRAINED_TASKS
        for key, value in (("steps", self.steps), ("learning_rates", self.learning_rates)):
            if bool(value) != trains:
                raise ValueError(
                    f"{key}={value} does not go with task {self.task!r}, which {'trains a head' if trains else 'trains nothing'}"
                )
        return self

    @model_validator(mode="after")
    def _crops_can_be_kept(self) -> EvaluationRecipe:
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
        """The same, in which PR uses the lexicons of its corpus unless its options name others."""
        return self.model_copy(update={"task_options": with_lexicon(self.task, self.task_options, lexicon)})


class TableRow(Strict):
    """One model of a table."""

    encoder: str
    finetuning: str
    method: str
    label: str = Field(description="Name of the method as shown, e.g. Stable-FT.")


class ScoreRecipe(Strict):
    """A score on a scale that the table itself gives: 0 is the row `floor`, 1000 the best row of every metric."""

    label: str
    floor: TableRow
    tasks: tuple[str, ...] = Field(min_length=1)


class TableRecipe(Strict):
    """What a table shows; made from the experiment's layout of the same name."""

    title: str
    note: str = ""
    rows: tuple[TableRow, ...] = Field(min_length=1)
    tasks: tuple[str, ...] = Field(min_length=1)
    published: str | None = Field(None, description="Table of the published numbers that stand beside ours.")
    score: ScoreRecipe | None = None
    differences: tuple[tuple[int, int], ...] = Field((), description="Rows to compare, from 0: the second is taken from the first.")
    protocols: dict[str, Literal["superb", "quick"]] = Field(
        default_factory=dict, description="Task -> protocol that its pending cells are going to have."
    )
    command: str | None = Field(
        None, description="Makes a cell when encoder/finetuning/method/task.json is appended; shown for pending ones."
    )


class CurvePoint(TableRow):
    """One model of a curve."""

    alpha: float


class CurveRecipe(Strict):
    """Metrics against alpha; made from the experiment's layout of the same name."""

    title: str
    note: str = ""
    points: tuple[CurvePoint, ...] = Field(min_length=2, description="In ascending order of alpha.")
    tasks: tuple[str, ...] = Field(min_length=1)
    start: str = Field(description="Name of the model at alpha 0, e.g. Pre-trained.")
    end: str = Field(description="Name of the model at alpha 1, e.g. Stable-FT.")
    command: str | None = Field(None, description="As in TableRecipe.")


def _crops_of_the_protocol(earlier: dict[str, Any]) -> CropDraws:
    """The default of `crop_draws`, from the fields before it."""
    task, protocol = earlier.get("task"), earlier.get("protocol")
    return "every" if task == "asv" or (task in CROPPED_ANEW and protocol == "superb") else 1


UNTRAINED_TASKS = ("qbe",)
"""Tasks that compare features and have no head."""

CROPPED_ANEW = ("sid", "asv")
"""Tasks whose long training utterances are cropped anew at every access under `protocol: superb`."""

_RECURRENT = ("projected", "hidden", "layers", "dropout", "spec_augment")
HEAD_OPTIONS: dict[str, tuple[str, ...]] = {
    "asr": (*_RECURRENT, "spelling", "selection", "pieces"),
    "sf": _RECURRENT,
    "asv": ("width", "pooled_width", "margin", "scale", "min_seconds"),
    "sd": ("hidden",),
    "asr_zh": _RECURRENT,
}
"""Options of a task whose defaults are SUPERB's recipe (those of asr_zh: ours)."""

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
    # Nor is Mandarin ASR, whose recipe in the paper is not public: that of SUPERB's ASR.
    "asr_zh": {"steps": 200_000, "batch_size": 32, "accumulate": 1, "optimizer": "Adam", "clip_norm": 1.0, "eval_every": 2000},
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
        raise ConfigError(f"There is no recipe for task {task!r}.{nearest(task, SUPERB_RECIPES)} Tasks: {', '.join(SUPERB_RECIPES)}.")
    values = {**SUPERB_RECIPES[task], **(overrides or {}), "task": task}
    return validate(EvaluationRecipe, values, f"recipe of {task}")


RecipeType = TypeVar("RecipeType", bound=BaseModel)


def load_recipe(model: type[RecipeType], path: str | Path) -> RecipeType:
    """Read a recipe file (JSON) that the workflow or a user wrote."""
    return validate(model, read_json(path), str(path))
