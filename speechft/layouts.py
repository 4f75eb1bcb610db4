"""What an experiment shows: tables, their own scores, and curves over alpha."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator

from speechft.alphas import parse_alphas
from speechft.validation import Fraction, Strict

# Names become folders and wildcards, so they hold no slash and no dot; speech_ft@0.50 is allowed.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_@+-]*$|^[A-Za-z0-9][A-Za-z0-9_+-]*@[0-9.]+$")]


class ScoreLayout(Strict):
    """A score over tasks that is normalised by rows of the table itself: 0 at the floor, 1000 at the best row of every metric."""

    floor: Name = Field(description="Encoder whose pre-trained row is 0, e.g. one of kind fbank.")
    tasks: tuple[str, ...] = Field((), description="Tasks that count; default: all of the table.")
    label: str = Field("mini SUPERB score", min_length=1, description="Heading of the column.")


class TableLayout(Strict):
    """A fixed arrangement of cells. Rows are all methods of each encoder and fine-tuning named here; an encoder of kind fbank has one."""

    title: str
    encoders: tuple[Name, ...] = Field(min_length=1)
    finetunings: tuple[Name, ...] = Field(min_length=1)
    methods: tuple[Name, ...] = Field(
        ("pretrained", "stable_ft", "speech_ft"), description="`speech_ft@0.50` is speech_ft with another alpha; it need not be defined."
    )
    tasks: tuple[str, ...] = Field(min_length=1)
    published: str | None = Field(None, description="Name of the table in config/published.csv whose numbers stand beside ours.")
    score: ScoreLayout | None = Field(None, description="A score of this table's own, in a last column.")


class CurveLayout(Strict):
    """Metrics against alpha: a merge of one fine-tuning, at several alphas."""

    title: str = ""
    encoder: Name
    finetuning: Name
    method: Name = Field("speech_ft", description="A method that merges.")
    alphas: tuple[Fraction, ...] = Field(
        parse_alphas("0:1:0.1"), min_length=2, description="A list, or start:stop:step as text, the end included."
    )
    tasks: tuple[str, ...] = Field(min_length=1)

    @field_validator("alphas", mode="before", json_schema_input_type=tuple[Fraction, ...] | str)
    @classmethod
    def _range(cls, value: Any) -> Any:
        return parse_alphas(value) if isinstance(value, str) else value

    @field_validator("alphas")
    @classmethod
    def _ascend(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(values)) != len(values):
            raise ValueError("an alpha is there twice")
        return tuple(sorted(values))
