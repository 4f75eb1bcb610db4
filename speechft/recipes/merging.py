"""Recipe of stage 2, merging. No torch here: Snakemake imports this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from speechft.errors import MergeError
from speechft.recipes.values import Pluggable


class MergeRecipe(Pluggable):
    """Stage 2: merge a pre-trained encoder with fine-tuned ones."""

    method: str = Field("linear", description="Merge method (docs/merge.md).")
    alpha: float | Literal["dev"] = Field(
        0.25, description="Weight of the fine-tuned model; 0 is the pre-trained one. `dev`: chosen by dev scores (docs/choose.md)."
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="Other parameters of the method.")
    scale: dict[str, float | str] = Field(default_factory=dict, description="Factors of alpha by part of the model (docs/merge.md).")
    dtype: Literal["fp32", "fp16", "bf16"] | None = Field(
        None, description="Dtype of the stored result; default: that of the pre-trained encoder."
    )
    extrapolate: bool = Field(False, description="Allow alpha below 0 or above 1.")

    @model_validator(mode="after")
    def _method_takes_parameters(self) -> Self:
        from speechft.merge.methods import get_method

        try:
            get_method(self.method, self.parameters)
        except MergeError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def named(self) -> list[tuple[str, str]]:
        """Kind and name of the merge method."""
        return [("merge_method", self.method)]

    @property
    def recordings(self) -> tuple[str, ...]:
        """Recordings that the method runs the models on, as written: folders or, in an experiment, names of corpora."""
        recordings = self.parameters.get("recordings", ())
        return (recordings,) if isinstance(recordings, str) else tuple(recordings)

    def with_folders(self, folders: Mapping[str, str]) -> Self:
        """Return the recipe with names of corpora replaced by their folders."""
        if not self.recordings:
            return self
        recordings = [folders.get(name, name) for name in self.recordings]
        return self.model_copy(update={"parameters": {**self.parameters, "recordings": recordings}})
