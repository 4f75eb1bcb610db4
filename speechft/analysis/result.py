"""Result of comparing a model with its pre-trained encoder, as a JSON file. No torch here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from speechft.errors import AnalysisError, missing_file
from speechft.recipes.cell import ModelName, with_precision
from speechft.recipes.values import FeaturePrecision, Positive, Strict, load_result

Size = Annotated[float, Field(strict=True, ge=0.0, allow_inf_nan=False)]
Similarity = Annotated[float, Field(strict=True, ge=-1.001, le=1.001, allow_inf_nan=False)]
"""From -1 to 1, with tolerance for rounding."""


class Deviation(Strict):
    """Distance of weights from theta0."""

    norm: Size = Field(description="Euclidean norm of theta - theta0.")
    relative: Size = Field(description="Euclidean norm of theta - theta0, divided by that of theta0; 0 if theta0 is 0.")


class StateSimilarity(Strict):
    """Similarity of one hidden state of both encoders, over all frames of all utterances."""

    state: int = Field(description="Index of the hidden state: 0 is the input of the first transformer layer, k the output of layer k.")
    cosine: Similarity = Field(description="Mean over frames of the cosine similarity between the two vectors of a frame.")
    cka: Similarity = Field(description="Linear centered kernel alignment over frames; invariant to rotation and scale.")


class AnalysisResult(Strict):
    """Output of `speechft analyse`: a model compared with its theta0."""

    schema_version: Literal[1] = Field(1, alias="schema")
    model: ModelName
    start_sha256: str = Field(description="SHA-256 of the weights of theta0.")
    deviation: Deviation = Field(description="Deviation of all weights.")
    parts: dict[str, Deviation] = Field(description="Deviation by part: extractor, projection, positions, layer_1 ..., rest.")
    states: list[StateSimilarity] = Field(min_length=1)
    utterances: Positive
    frames: Positive
    precision: FeaturePrecision | None = Field(description="Precision of the encoders; null: not recorded.")
    recipe: dict[str, Any]
    cuts_sha256: str
    software: dict[str, str]

    @model_validator(mode="before")
    @classmethod
    def _earlier(cls, content: Any) -> Any:
        return with_precision(content)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if [state.state for state in self.states] != [*range(len(self.states))]:
            raise ValueError("states: are numbered from 0, each once")
        if not math.isclose(self.deviation.norm, math.hypot(*(part.norm for part in self.parts.values())), rel_tol=1e-6):
            raise ValueError(f"deviation.norm: is {self.deviation.norm:g}, which is not the norm of the parts")
        return self

    @property
    def cosine(self) -> float:
        """Cosine similarity, mean over hidden states."""
        return sum(state.cosine for state in self.states) / len(self.states)

    @property
    def cka(self) -> float:
        """CKA, mean over hidden states."""
        return sum(state.cka for state in self.states) / len(self.states)


def read_result(path: str | Path) -> AnalysisResult:
    """Read and check a result; AnalysisError if it is missing, not JSON or not an output of `speechft analyse`."""
    if not Path(path).is_file():
        raise AnalysisError(missing_file(path, "as the result of an analysis", "Run `speechft analyse`."))
    refusal = "This is not an output of `speechft analyse`. Name one, or run it again."
    return load_result(AnalysisResult, path, AnalysisError, refusal)
