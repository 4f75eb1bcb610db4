"""Layouts of an experiment's tables, scores, curves and analyses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator
from typing_extensions import Self

from speechft.recipes.alphas import parse_alphas
from speechft.recipes.tables import AnalysisRecipe
from speechft.recipes.values import Fraction, Name, Strict

ModelOfEncoder = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+-]+/[A-Za-z0-9_@.+-]+$")]
"""A fine-tuning and a method, e.g. pr/speech_ft."""

PRETRAINED = ("none", "pretrained")
"""Fine-tuning and method of the pre-trained encoder."""


class ScoreLayout(Strict):
    """A score over tasks normalized by the table's rows: 0 at the floor, 1000 at the best row in every metric."""

    floor: Name = Field(description="Encoder whose pre-trained row scores 0, e.g. one of kind fbank.")
    tasks: tuple[str, ...] = Field((), description="Tasks that count; default: all tasks of the table.")
    label: str = Field("mini SUPERB score", min_length=1, description="Heading of the column.")


class RowLayout(Strict):
    """One row of a table, repeated for each of its encoders."""

    model: ModelOfEncoder = Field(description="finetuning/method, or none/pretrained.")
    label: str | None = Field(None, min_length=1, description="Name in the table; default: the label of the method.")

    @property
    def names(self) -> tuple[str, str]:
        """Fine-tuning and method."""
        finetuning, _, method = self.model.partition("/")
        return finetuning, method


class TableLayout(Strict):
    """Rows and columns of a table.

    Rows are every method for each encoder and fine-tuning named here, or the models listed in `rows`. An encoder that is only evaluated,
    such as fbank, has one row.
    """

    title: str
    encoders: tuple[Name, ...] = Field(min_length=1)
    finetunings: tuple[Name, ...] = ()
    methods: tuple[Name, ...] = Field(
        ("pretrained", "stable_ft", "speech_ft"),
        description="Methods to show. `speech_ft@0.50` is speech_ft with another alpha and need not be defined.",
    )
    rows: tuple[RowLayout, ...] = Field((), description="Instead of finetunings and methods: the rows one by one.")
    tasks: tuple[str, ...] = Field(min_length=1)
    published: str | None = Field(None, description="Name of the table in config/published.csv whose numbers are shown next to ours.")
    beside: tuple[str, ...] = Field(
        (),
        description="Tables in config/published.csv or config/superb_rows.csv whose rows are listed below ours, such as superb (known "
        "encoders).",
    )
    score: ScoreLayout | None = Field(None, description="A score normalized by this table's rows, in the last column.")
    differences: tuple[Name, ...] = Field(
        (),
        description="Reference rows for a table of differences. A method is the row of that method for the same encoder and fine-tuning; "
        "an encoder is its pre-trained row.",
    )

    @model_validator(mode="after")
    def _rows_or_products(self) -> Self:
        if bool(self.rows) == bool(self.finetunings):
            raise ValueError("give either `finetunings` or `rows`")
        if self.rows and "methods" in self.model_fields_set:
            raise ValueError("methods: `rows` already name the method of each row; omit one of the two")
        models = [row.model for row in self.rows]
        if twice := sorted({model for model in models if models.count(model) > 1}):
            raise ValueError(f"rows: {', '.join(twice)} appears twice")
        return self

    @property
    def layout_rows(self) -> tuple[RowLayout, ...]:
        """Rows of one encoder; the pre-trained row comes first if `methods` includes it."""
        if self.rows:
            return self.rows
        names = ["/".join(PRETRAINED)] if "pretrained" in self.methods else []
        names += [f"{tuning}/{method}" for tuning in self.finetunings for method in self.methods if method != "pretrained"]
        return tuple(RowLayout(model=name) for name in names)


def rows_to_compare(models: Sequence[tuple[str, str, str]], names: Sequence[str]) -> list[tuple[int, int]]:
    """Find the pairs of rows to compare, as `TableLayout.differences` names them.

    Args:
        models: (encoder, finetuning, method) of each row.
        names: methods (rows of the same encoder, and the same fine-tuning or none), and encoders (their pre-trained rows).

    Returns:
        Pairs of indices into `models`, ordered by row, then as `names`.
    """
    pairs = []
    for row, (encoder, finetuning, _) in enumerate(models):
        for name in names:
            possible = [(encoder, finetuning, name), (encoder, "none", name), (name, *PRETRAINED)]
            other = next((models.index(model) for model in possible if model in models), row)
            if other != row and (other, row) not in pairs:
                pairs.append((row, other))
    return pairs


def _range(value: Any) -> Any:
    return parse_alphas(value) if isinstance(value, str) else value


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(values)) != len(values):
        raise ValueError("an alpha appears twice")
    return tuple(sorted(values))


Alphas = Annotated[
    tuple[Fraction, ...],
    Field(min_length=2),
    AfterValidator(_ascending),
    BeforeValidator(_range, json_schema_input_type=tuple[Fraction, ...] | str),
]
"""Values of alpha in an experiment: a list, or text start:stop:step."""


class CurveLayout(Strict):
    """Metrics against alpha for the merge of one fine-tuning."""

    kind: Literal["alpha"] = "alpha"
    title: str = ""
    encoder: Name
    finetuning: Name
    method: Name = Field("speech_ft", description="A method that merges.")
    alphas: Alphas = Field(
        parse_alphas("0:1:0.1"),
        description="A list, or text start:stop:step, end included. The method's own alpha is added.",
    )
    tasks: tuple[str, ...] = Field(min_length=1)


def _both_ends(values: tuple[float, ...]) -> tuple[float, ...]:
    if (values[0], values[-1]) != (0.0, 1.0):
        raise ValueError("must include 0 and 1")
    return values


class ConnectionLayout(Strict):
    """Loss and error of a fine-tuning's own task on the line between two models, with the head of stage 1."""

    kind: Literal["connection"]
    title: str = ""
    encoder: Name
    finetuning: Name = Field(description="Fine-tuning of the model at alpha 1, on a single task other than ASV, SD and QbE.")
    method: Name = Field("stable_ft", description="Method of the model at alpha 1.")
    start: ModelOfEncoder | None = Field(
        None,
        description="Model at alpha 0 as finetuning/method, such as another seed; default: the model that the fine-tuning started from.",
    )
    alphas: Annotated[Alphas, AfterValidator(_both_ends)] = Field(
        parse_alphas("0:1:0.1"), description="A list, or text start:stop:step; includes 0 and 1."
    )
    split: Literal["dev", "test"] = Field("dev", description="Split of the fine-tuning's corpus to score.")

    @property
    def end(self) -> tuple[str, str]:
        """Fine-tuning and method at alpha 1."""
        return self.finetuning, self.method


def _with_kind(value: Any) -> Any:
    return {"kind": "alpha", **value} if isinstance(value, dict) else value


Curve = Annotated[Annotated[CurveLayout | ConnectionLayout, Field(discriminator="kind")], BeforeValidator(_with_kind)]
"""A curve of an experiment; the default kind is metrics against alpha."""


class AnalysisLayout(Strict):
    """Feature similarity against weight deviation: models of one encoder, each compared with the pre-trained encoder."""

    title: str = ""
    encoder: Name
    rows: tuple[RowLayout, ...] = Field(min_length=1, description="Models to compare.")
    corpus: Name = Field(description="Corpus whose audio is encoded; labels are not needed.")
    recipe: AnalysisRecipe = AnalysisRecipe()
