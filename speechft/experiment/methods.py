"""Fine-tunings of an experiment, combinations of them, and methods that train and merge."""

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
    """One fine-tuning on a corpus: on one task, on several jointly, or without labels as continued pre-training; or one from elsewhere.

    Keys of `recipe`, or of `pretraining`, override Stable-FT's defaults for all methods that train on it. A `checkpoint` is the model
    ENCODER/FINETUNING/finetuned, and methods that train do not apply to it.
    """

    corpus: Name | None = Field(None, description="The corpus that it is trained on.")
    recipe: FinetuneRecipe | None = Field(None, description="The task and how it is trained.")
    pretraining: ContinuedPretrainRecipe | None = Field(None, description="Instead of `recipe`: continued pre-training, without labels.")
    checkpoint: InputPath | None = Field(
        None,
        description="Instead of `recipe`: a model that was fine-tuned elsewhere, in any layout that `speechft import` takes. A bare "
        "state dict takes the settings of the encoder.",
    )
    encoder: Name | None = Field(
        None, description="Of a checkpoint: the encoder that it was fine-tuned from; default: the only encoder that has weights."
    )
    task: str | None = Field(None, description="Of a checkpoint: the task that it was fine-tuned on, if it is known.")
    sha256: Sha256 | None = Field(None, description="Of a checkpoint: checked when given.")
    jointly: dict[PartName, Name] = Field(
        default_factory=dict, description="For `jointly` in the recipe: name of a further task -> corpus."
    )
    start: ModelOfEncoder | None = Field(
        None,
        description="finetuning/method of the same encoder that is theta0 of this one, for fine-tuning task by task; default: the "
        "pre-trained encoder.",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if [self.recipe, self.pretraining, self.checkpoint].count(None) != 2:
            raise ValueError("needs `recipe` (a task), `pretraining` (no labels) or `checkpoint` (trained elsewhere), and one alone")
        if (self.corpus is None) == (self.checkpoint is None):
            raise ValueError("corpus: name the one that it is trained on" if self.corpus is None else "corpus: a checkpoint needs none")
        given = [key for key in ("encoder", "task", "sha256") if getattr(self, key) is not None]
        if given and self.checkpoint is None:
            raise ValueError(f"{', '.join(given)}: only with `checkpoint`")
        named = set(self.recipe.jointly) if self.recipe else set()
        if named != set(self.jointly):
            raise ValueError(
                f"jointly: the recipe has the further tasks {', '.join(sorted(named)) or 'none'}, corpora are named for "
                f"{', '.join(sorted(self.jointly)) or 'none'}; name a corpus for each"
            )
        return self

    @property
    def corpora(self) -> tuple[str, ...]:
        """All corpora of training audio."""
        return tuple(name for name in (self.corpus, *self.jointly.values()) if name is not None)

    @property
    def starts_from(self) -> tuple[str, str]:
        """Fine-tuning and method of the model that it starts from."""
        finetuning, _, method = (self.start or "/".join(PRETRAINED)).partition("/")
        return finetuning, method


class EarlyMethod(Strict):
    """Checkpoint of another method's run after a share of its updates; it needs no training."""

    kind: Literal["early"]
    label: str = Field(description="Name in tables.")
    of: Name = Field("stable_ft", description="The method whose run kept it.")
    share: Early = Field(0.2, description="Of the updates; one of `early` in the recipe of that run.")


class Combination(Strict):
    """Fine-tunings whose models are merged. Tables and paths use its name as that of a fine-tuning, under methods that merge."""

    of: Annotated[tuple[Name, ...], DIFFERENT] = Field(min_length=2, description="Fine-tunings.")


class TrainedMethod(Strict):
    """A method that trains: stage 1. `changes` are keys of the fine-tuning's recipe that this method overrides."""

    kind: Literal["finetune"] = "finetune"
    label: str = Field(description="Name in tables.")
    changes: dict[str, Any] = Field(default_factory=dict)


class ChoiceLayout(Strict):
    """How alpha is chosen for each encoder and fine-tuning: by dev scores of models along the merge, which are made and evaluated."""

    tasks: Annotated[tuple[str, ...], DIFFERENT] = Field(min_length=1, description="Tasks of the experiment whose dev scores count.")
    alphas: Alphas = Field(parse_alphas("0:1:0.1"), description="Candidates, 0 among them: a list, or start:stop:step as text.")
    among: Name | None = Field(
        None, description="A merge whose models at these alphas are the candidates, as those of a curve; default: the method itself."
    )
    rule: Rule = Field("one_se", description="one_se: the smallest alpha within one standard error of the best one. best: that one.")

    @field_validator("alphas")
    @classmethod
    def _from_0(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if values[0] != 0:
            raise ValueError("0 is missing: gains are measured from it")
        return values


class MergedMethod(Strict):
    """A method that merges: stage 2, from the pre-trained encoder and the result of another method."""

    kind: Literal["merge"] = "merge"
    label: str = Field(description="Name in tables.")
    of: Name = Field("stable_ft", description="The method whose model is interpolated with the pre-trained encoder.")
    recipe: MergeRecipe = MergeRecipe()
    choose: ChoiceLayout | None = Field(None, description="With `alpha: dev` in the recipe: how alpha is chosen.")

    @model_validator(mode="after")
    def _chooses(self) -> Self:
        if (self.recipe.alpha == "dev") != (self.choose is not None):
            raise ValueError("`alpha: dev` in the recipe and `choose` go together: name the tasks whose dev scores decide")
        return self


FINETUNED = "finetuned"
"""Name of the method of fine-tunings that come as a checkpoint."""
GIVEN = TrainedMethod(label="Fine-tuned")

Method = Annotated[TrainedMethod | EarlyMethod | MergedMethod, Field(discriminator="kind")]
