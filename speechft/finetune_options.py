"""Parts of a stage-1 recipe: adapters, tasks that are learnt jointly, and recipes that have a name. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from speechft.validation import Positive, Strict

PartName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
MaxBatchSeconds = Annotated[float, Field(gt=0)]
Early = Annotated[float, Field(gt=0.0, lt=1.0)]


class Adapters(Strict):
    """Low-rank adapters in place of full fine-tuning: the encoder's own weights stay, and the adapters are merged into them at the end.

    The paper does not publish the settings of its LoRA and DoRA baselines; these defaults are ours.
    """

    kind: Literal["lora", "dora"] = Field(description="dora also learns the norm of every column of an adapted matrix.")
    rank: Positive = 16
    alpha: Annotated[float, Field(gt=0)] = Field(32.0, description="The product of the two factors is multiplied by alpha / rank.")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Of what goes into the adapters, in training.")
    targets: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense"),
        min_length=1,
        description="Linear layers that get one, by the ends of their names; default: all of the transformer layers.",
    )


class JointTask(Strict):
    """A further task that is learnt together with the recipe's own: one encoder, a head for each."""

    task: str = Field(description="Fine-tuning task, one of speechft.tasks.TASK_NAMES.")
    task_options: dict[str, Any] = Field(default_factory=dict)
    batch_size: Positive | None = Field(16, description="Utterances in a batch; null: as many as max_batch_seconds allows.")
    max_batch_seconds: MaxBatchSeconds = Field(400.0, description="Longer batches are split; bounds memory.")
    share: Annotated[float, Field(gt=0)] = Field(1.0, description="Batches of the tasks take turns in proportion to their shares.")
    order: Literal["pooled", "superb"] = Field("pooled", description="As in FinetuneRecipe.")
    fold: str | None = Field(None, description="As in FinetuneRecipe.")
