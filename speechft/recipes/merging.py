"""The recipe of stage 2. No torch here: Snakemake imports this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from speechft.errors import MergeError
from speechft.recipes.values import Pluggable


class MergeRecipe(Pluggable):
    """Stage 2."""

    method: str = Field("linear", description="A method of speechft.merge.")
    alpha: float | Literal["dev"] = Field(
        0.25, description="Weight of the fine-tuned model; 0 is the pre-trained one. `dev`: chosen by dev scores (docs/choose.md)."
    )
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

    @property
    def named(self) -> list[tuple[str, str]]:
        """Its merge method."""
        return [("merge_method", self.method)]

    @property
    def recordings(self) -> tuple[str, ...]:
        """What a method that runs the models runs them on, as written: folders or, in an experiment, names of corpora."""
        recordings = self.parameters.get("recordings", ())
        return (recordings,) if isinstance(recordings, str) else tuple(recordings)

    def with_folders(self, folders: Mapping[str, str]) -> Self:
        """The same with folders instead of names of corpora."""
        if not self.recordings:
            return self
        recordings = [folders.get(name, name) for name in self.recordings]
        return self.model_copy(update={"parameters": {**self.parameters, "recordings": recordings}})
