"""Fine-tunings of an experiment, their combinations, and methods that train and merge."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from speechft.experiment.encoders import Sha256
from speechft.experiment.layouts import PRETRAINED, Alphas, ModelOfEncoder
from speechft.recipes.alphas import parse_alphas
from speechft.recipes.choice import Rule
from speechft.recipes.finetuning import Early, FinetuneRecipe, PartName
from speechft.recipes.merging import MergeRecipe
from speechft.recipes.pretraining import ContinuedPretrainRecipe
from speechft.recipes.values import DIFFERENT, InputPath, Name, Strict


class Finetuning(Strict):
    """A fine-tuning on one task, on several jointly, or without labels (continued pre-training); or a checkpoint fine-tuned elsewhere.

    Keys of `recipe` or `pretraining` override Stable-FT's defaults in all methods that train. A `checkpoint` becomes the model
    ENCODER/FINETUNING/finetuned; methods that train do not apply to it.
    """

    corpus: Name | None = Field(None, description="Corpus to train on.")
    recipe: FinetuneRecipe | None = Field(None, description="Task and training settings.")
    pretraining: ContinuedPretrainRecipe | None = Field(None, description="Instead of `recipe`: continued pre-training, without labels.")
    checkpoint: InputPath | None = Field(
        None,
        description="Instead of `recipe`: a model fine-tuned elsewhere, in any layout that `speechft import` reads. A bare state dict "
        "gets the configuration of `encoder`.",
    )
    encoder: Name | None = Field(
        None, description="With `checkpoint`: encoder that it was fine-tuned from; default: the only encoder with weights."
    )
    task: str | None = Field(None, description="With `checkpoint`: task that it was fine-tuned on; only recorded.")
    sha256: Sha256 | None = Field(None, description="With `checkpoint`: expected SHA-256; not checked by default.")
    jointly: dict[PartName, Name] = Field(default_factory=dict, description="Task name in the recipe's `jointly` -> corpus of that task.")
    start: ModelOfEncoder | None = Field(
        None,
        description="finetuning/method to start from instead of the pre-trained encoder, for sequential fine-tuning; it is theta0 in "
        "merges.",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if [self.recipe, self.pretraining, self.checkpoint].count(None) != 2:
            raise ValueError("give exactly one of `recipe` (a task), `pretraining` (no labels) and `checkpoint` (fine-tuned elsewhere)")
        if (self.corpus is None) == (self.checkpoint is None):
            raise ValueError("corpus: name the corpus to train on" if self.corpus is None else "corpus: omit it, a checkpoint needs none")
        given = [key for key in ("encoder", "task", "sha256") if getattr(self, key) is not None]
        if given and self.checkpoint is None:
            raise ValueError(f"{', '.join(given)}: only with `checkpoint`")
        named = set(self.recipe.jointly) if self.recipe else set()
        if named != set(self.jointly):
            raise ValueError(
                f"jointly: joint tasks of the recipe are {', '.join(sorted(named)) or 'none'}, but corpora are given for "
                f"{', '.join(sorted(self.jointly)) or 'none'}; name a corpus for each"
            )
        return self

    @property
    def corpora(self) -> tuple[str, ...]:
        """Corpora of all tasks."""
        return tuple(name for name in (self.corpus, *self.jointly.values()) if name is not None)

    @property
    def starts_from(self) -> tuple[str, str]:
        """Fine-tuning and method of the model that it starts from."""
        finetuning, _, method = (self.start or "/".join(PRETRAINED)).partition("/")
        return finetuning, method


class EarlyMethod(Strict):
    """An early checkpoint of another method's run; nothing is trained."""

    kind: Literal["early"]
    label: str = Field(description="Name in tables.")
    of: Name = Field("stable_ft", description="Method whose run kept the checkpoint.")
    share: Early = Field(0.2, description="Share of the updates at which it was kept; one of `early` in the recipe of that run.")


class Combination(Strict):
    """Fine-tunings to merge together. Tables and paths use the name like that of a fine-tuning, with methods that merge."""

    of: Annotated[tuple[Name, ...], DIFFERENT] = Field(min_length=2, description="Fine-tunings to merge.")


class TrainedMethod(Strict):
    """A method that trains (stage 1)."""

    kind: Literal["finetune"] = "finetune"
    label: str = Field(description="Name in tables.")
    changes: dict[str, Any] = Field(default_factory=dict, description="Keys that override those of the fine-tuning's recipe.")


class ChoiceLayout(Strict):
    """Choice of alpha, for each encoder and fine-tuning, by dev scores of merged models that the workflow builds and evaluates."""

    tasks: Annotated[tuple[str, ...], DIFFERENT] = Field(min_length=1, description="Tasks of the experiment whose dev scores count.")
    alphas: Alphas = Field(parse_alphas("0:1:0.1"), description="Candidates, including 0: a list, or text start:stop:step.")
    among: Name | None = Field(
        None, description="Merge method whose models at these alphas are the candidates, to share them; default: the method itself."
    )
    rule: Rule = Field("one_se", description="one_se: the smallest alpha within one standard error of the best. best: the best alpha.")

    @field_validator("alphas")
    @classmethod
    def _from_0(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if values[0] != 0:
            raise ValueError("must include 0, because gains are relative to alpha 0")
        return values


class MergedMethod(Strict):
    """A method that merges the pre-trained encoder with the result of another method (stage 2)."""

    kind: Literal["merge"] = "merge"
    label: str = Field(description="Name in tables.")
    of: Name = Field("stable_ft", description="Method whose model is merged with the pre-trained encoder.")
    recipe: MergeRecipe = MergeRecipe()
    choose: ChoiceLayout | None = Field(None, description="With `alpha: dev` in the recipe: how alpha is chosen.")

    @model_validator(mode="after")
    def _chooses(self) -> Self:
        if (self.recipe.alpha == "dev") != (self.choose is not None):
            raise ValueError("`alpha: dev` in the recipe needs `choose` with the tasks whose dev scores count, and vice versa")
        return self


FINETUNED = "finetuned"
"""Method name of fine-tunings given as a checkpoint."""
GIVEN = TrainedMethod(label="Fine-tuned")

Method = Annotated[TrainedMethod | EarlyMethod | MergedMethod, Field(discriminator="kind")]
