"""What an experiment shows: tables, their scores, curves, and analyses."""

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
    """A score over tasks that is normalized by rows of the table itself: 0 at the floor, 1000 at the best row of every metric."""

    floor: Name = Field(description="Encoder whose pre-trained row is 0, e.g. one of kind fbank.")
    tasks: tuple[str, ...] = Field((), description="Tasks that count; default: all of the table.")
    label: str = Field("mini SUPERB score", min_length=1, description="Heading of the column.")


class RowLayout(Strict):
    """One row of a table, for each of its encoders."""

    model: ModelOfEncoder = Field(description="finetuning/method, or none/pretrained.")
    label: str | None = Field(None, min_length=1, description="Name in the table; default: the label of the method.")

    @property
    def names(self) -> tuple[str, str]:
        """Fine-tuning and method."""
        finetuning, _, method = self.model.partition("/")
        return finetuning, method


class TableLayout(Strict):
    """A fixed arrangement of cells; an encoder of kind fbank has one row.

    Rows are all methods of each encoder and fine-tuning named here; or, where not every method applies to every fine-tuning, the models
    that `rows` lists.
    """

    title: str
    encoders: tuple[Name, ...] = Field(min_length=1)
    finetunings: tuple[Name, ...] = ()
    methods: tuple[Name, ...] = Field(
        ("pretrained", "stable_ft", "speech_ft"), description="`speech_ft@0.50` is speech_ft with another alpha; it need not be defined."
    )
    rows: tuple[RowLayout, ...] = Field((), description="Instead of finetunings and methods: the rows one by one.")
    tasks: tuple[str, ...] = Field(min_length=1)
    published: str | None = Field(None, description="Name of the table in config/published.csv whose numbers are shown next to ours.")
    beside: tuple[str, ...] = Field(
        (),
        description="Tables in config/published.csv or config/superb_rows.csv whose rows stand below ours, such as superb: known encoders.",
    )
    score: ScoreLayout | None = Field(None, description="A score of this table's own, in a last column.")
    differences: tuple[Name, ...] = Field(
        (),
        description="For a table of differences: from which rows. A method stands for that row of the same encoder and fine-tuning, an "
        "encoder for its pre-trained row.",
    )

    @model_validator(mode="after")
    def _rows_or_products(self) -> Self:
        if bool(self.rows) == bool(self.finetunings):
            raise ValueError("needs `finetunings`, or `rows`, and not both")
        if self.rows and "methods" in self.model_fields_set:
            raise ValueError("methods: `rows` name the method of each row; leave one of both out")
        models = [row.model for row in self.rows]
        if twice := sorted({model for model in models if models.count(model) > 1}):
            raise ValueError(f"rows: {', '.join(twice)} appears twice")
        return self

    @property
    def layout_rows(self) -> tuple[RowLayout, ...]:
        """The rows of one encoder, the pre-trained one first where `methods` has it."""
        if self.rows:
            return self.rows
        names = ["/".join(PRETRAINED)] if "pretrained" in self.methods else []
        names += [f"{tuning}/{method}" for tuning in self.finetunings for method in self.methods if method != "pretrained"]
        return tuple(RowLayout(model=name) for name in names)


def rows_to_compare(models: Sequence[tuple[str, str, str]], names: Sequence[str]) -> list[tuple[int, int]]:
    """Find the pairs of rows to compare, as `TableLayout.differences` names them.

    Args:
        models: (encoder, finetuning, method) of each row.
        names: methods, which stand for the row of the same encoder and fine-tuning (or of none), and encoders.

    Returns:
        Pairs of places in `models`, by row, then in the order of `names`.
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
"""Values of alpha in an experiment: a list, or start:stop:step as text."""


class CurveLayout(Strict):
    """Metrics against alpha: a merge of one fine-tuning, at several alphas."""

    kind: Literal["alpha"] = "alpha"
    title: str = ""
    encoder: Name
    finetuning: Name
    method: Name = Field("speech_ft", description="A method that merges.")
    alphas: Alphas = Field(
        parse_alphas("0:1:0.1"),
        description="A list, or start:stop:step as text, the end included. The method's own alpha is added.",
    )
    tasks: tuple[str, ...] = Field(min_length=1)


def _both_ends(values: tuple[float, ...]) -> tuple[float, ...]:
    if (values[0], values[-1]) != (0.0, 1.0):
        raise ValueError("the line goes from alpha 0 to alpha 1; name both")
    return values


class ConnectionLayout(Strict):
    """Loss and error of a fine-tuning's own task between another model and the fine-tuned one, with the head of stage 1."""

    kind: Literal["connection"]
    title: str = ""
    encoder: Name
    finetuning: Name = Field(description="At alpha 1: one that trains on a single task, not ASV, SD or QbE.")
    method: Name = Field("stable_ft", description="The method that trained it.")
    start: ModelOfEncoder | None = Field(
        None,
        description="At alpha 0: finetuning/method, such as another seed; default: the model that the fine-tuning started from.",
    )
    alphas: Annotated[Alphas, AfterValidator(_both_ends)] = Field(
        parse_alphas("0:1:0.1"), description="A list, or start:stop:step as text; 0 and 1 among them."
    )
    split: Literal["dev", "test"] = Field("dev", description="Which split of the fine-tuning's corpus is scored.")

    @property
    def end(self) -> tuple[str, str]:
        """Fine-tuning and method at alpha 1."""
        return self.finetuning, self.method


def _with_kind(value: Any) -> Any:
    return {"kind": "alpha", **value} if isinstance(value, dict) else value


Curve = Annotated[Annotated[CurveLayout | ConnectionLayout, Field(discriminator="kind")], BeforeValidator(_with_kind)]
"""A curve of an experiment; without a kind, metrics against alpha."""


class AnalysisLayout(Strict):
    """Models of one encoder, each compared with the pre-trained one: weight deviation against feature similarity."""

    title: str = ""
    encoder: Name
    rows: tuple[RowLayout, ...] = Field(min_length=1, description="Models; labels default to those of their methods.")
    corpus: Name = Field(description="Corpus whose recordings are compared; labels are not needed.")
    recipe: AnalysisRecipe = AnalysisRecipe()
