"""Recipe of stage 1, fine-tuning, with adapters and joint tasks. No torch here: Snakemake imports this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from speechft.downloads.lexicons import with_lexicon
from speechft.recipes.presets import named_recipe
from speechft.recipes.values import Fraction, Pluggable, Positive, Seed, Sparse, Strict

PartName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
MaxBatchSeconds = Annotated[float, Field(gt=0)]
CACHE_GB = 10
"""Default size, in GB, of the disk cache for features of the frozen extractor: 27 hours of audio."""
Early = Annotated[float, Field(gt=0.0, lt=1.0)]


class Adapters(Strict):
    """Low-rank adapters instead of full fine-tuning: the encoder is frozen, and the adapters are merged into it at the end.

    The defaults are ours: the paper does not publish the settings of its LoRA and DoRA baselines.
    """

    kind: Literal["lora", "dora"] = Field(description="dora also learns the norm of every column of an adapted matrix.")
    rank: Positive = 16
    alpha: Annotated[float, Field(gt=0)] = Field(32.0, description="The product of the two factors is multiplied by alpha / rank.")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Dropout of the adapters' input during training.")
    targets: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense"),
        min_length=1,
        description="Linear layers to adapt, by the ends of their names; default: all in the transformer layers.",
    )


class JointTask(Sparse):
    """Another task of a joint fine-tuning: one encoder, one head per task."""

    task: str = Field(description="Fine-tuning task: one of speechft.tasks.TASK_NAMES, or a task of your own.")
    kind: str | None = Field(None, description="Kind of a task of your own; filled in for tasks that the experiment's `tasks` define.")
    task_options: dict[str, Any] = Field(default_factory=dict, description="As in EvaluationRecipe.")
    batch_size: Positive | None = Field(16, description="Utterances per batch; null: as many as max_batch_seconds allows.")
    max_batch_seconds: MaxBatchSeconds = Field(400.0, description="Maximum seconds of audio per batch; longer batches are split.")
    share: Annotated[float, Field(gt=0)] = Field(1.0, description="Batches of the tasks alternate in proportion to their shares.")
    order: Literal["pooled", "superb"] = Field("pooled", description="As in FinetuneRecipe.")
    fold: str | None = Field(None, description="As in FinetuneRecipe.")


class FinetuneRecipe(Pluggable):
    """Stage 1. The defaults are the paper's Stable-FT; the number of updates depends on the fine-tuning task."""

    like: str | None = Field(None, description="Preset (speechft.recipes.presets) that provides all keys not given here.")
    task: str = Field(description="Fine-tuning task: one of speechft.tasks.TASK_NAMES, or a task of your own.")
    kind: str | None = Field(None, description="Kind of a task of your own; filled in for tasks that the experiment's `tasks` define.")
    task_options: dict[str, Any] = Field(default_factory=dict, description="As in EvaluationRecipe.")
    updates: Positive
    batch_size: Positive | None = Field(16, description="Utterances per batch; null: as many as max_batch_seconds allows.")
    accumulate: Positive = Field(1, description="Batches per update.")
    max_batch_seconds: MaxBatchSeconds = Field(400.0, description="Maximum seconds of audio per batch; longer batches are split.")
    order: Literal["pooled", "superb"] = Field(
        "pooled",
        description="pooled: shuffled batches of similar length. superb: the order of the task's SUPERB recipe, without splitting batches.",
    )
    fold: str | None = Field(None, description="For a corpus with folds instead of splits (ER): the fold to leave out.")
    jointly: dict[PartName, JointTask] = Field(default_factory=dict, description="Other tasks to train jointly with this one.")
    share: Annotated[float, Field(gt=0)] = Field(1.0, description="Share of this task among the joint tasks.")
    peak_lr: Annotated[float, Field(gt=0)] = 1e-4
    warmup: Fraction = Field(0.1, description="Share of the updates with linearly increasing learning rate.")
    hold: Fraction = Field(0.4, description="Share of the updates at peak_lr; the learning rate then decays linearly to 0.")
    head_only: Fraction = Field(0.1, description="Share of the updates, from the start, that train only the head.")
    freeze_extractor: bool = Field(True, description="Keep the convolutional feature extractor frozen throughout.")
    l2: Annotated[float, Field(ge=0)] = Field(
        0.0, description="lambda: weight in the loss of the squared L2 distance between the encoder and its starting point."
    )
    adapters: Adapters | None = Field(None, description="Train LoRA or DoRA adapters instead of the encoder's weights.")
    early: tuple[Early, ...] = Field((0.2,), description="Early checkpoints to keep, as shares of the updates; [] for none.")
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    validate_every: Positive = 1000
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    padding: Literal["alone", "reference"] = Field(
        "alone", description="alone: features do not depend on the rest of the batch. reference: as in s3prl, for comparison with it."
    )
    seed: Seed = 1337

    @model_validator(mode="before")
    @classmethod
    def _like(cls, values: Any) -> Any:
        return named_recipe(values)

    @model_validator(mode="after")
    def _values_fit(self) -> FinetuneRecipe:
        if self.warmup + self.hold > 1.0:
            raise ValueError(f"warmup + hold = {self.warmup + self.hold:g} is more than 1, which leaves nothing for the decay")
        if self.adapters and (self.l2 or not self.freeze_extractor):
            raise ValueError("adapters keep the encoder's weights frozen: remove l2 and `freeze_extractor: false`, or `adapters`")
        if self.task in self.jointly:
            raise ValueError(f"jointly: {self.task!r} is the recipe's own task; choose another name")
        return self

    @property
    def named(self) -> list[tuple[str, str]]:
        """Tasks without a `kind`."""
        return [("task", part.task) for part in self.parts.values() if part.kind is None]

    def with_lexicons(self, lexicons: Mapping[str, Sequence[str]]) -> FinetuneRecipe:
        """Return the recipe with each part's corpus lexicons for PR, unless its options name others."""
        options = {name: with_lexicon(part.task, part.task_options, lexicons.get(name, ())) for name, part in self.parts.items()}
        jointly = {name: part.model_copy(update={"task_options": options[name]}) for name, part in self.jointly.items()}
        return self.model_copy(update={"task_options": options[self.task], "jointly": jointly})

    @property
    def parts(self) -> dict[str, JointTask]:
        """All tasks by name; the recipe's own comes first, under the name of its task."""
        return {self.task: JointTask.model_validate({key: getattr(self, key) for key in JointTask.model_fields}), **self.jointly}
