"""Recipes of tables, curves and analyses. No torch here: Snakemake imports this."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from speechft.recipes.values import FeaturePrecision, Positive, Strict
from speechft.tasks.metric import Metric


class TableRow(Strict):
    """One model of a table."""

    encoder: str
    finetuning: str
    method: str
    label: str = Field(description="Name of the method as shown, e.g. Stable-FT.")
    only_published: str | None = Field(None, description="Table of published numbers that this row repeats; it has no cells.")


class ScoreRecipe(Strict):
    """A score on a scale that the table itself gives: 0 is the row `floor`, 1000 the best row of every metric."""

    label: str
    floor: TableRow
    tasks: tuple[str, ...] = Field(min_length=1)


class TableRecipe(Strict):
    """What a table shows; made from the experiment's layout of the same name."""

    title: str
    note: str = ""
    rows: tuple[TableRow, ...] = Field(min_length=1)
    tasks: tuple[str, ...] = Field(min_length=1)
    metrics: dict[str, tuple[Metric, ...]] = Field(default_factory=dict, description="Task -> its columns; of others those of its entry.")
    published: str | None = Field(None, description="Name of the table of published numbers to show next to ours.")
    beside: tuple[str, ...] = Field((), description="Tables of published numbers whose rows stand below ours.")
    score: ScoreRecipe | None = None
    differences: tuple[tuple[int, int], ...] = Field((), description="Rows to compare, from 0: the second is taken from the first.")
    protocols: dict[str, Literal["superb", "quick"]] = Field(
        default_factory=dict, description="Task -> protocol that its pending cells are going to have."
    )
    command: str | None = Field(
        None, description="Makes a cell when encoder/finetuning/method/task.json is appended; shown for pending ones."
    )


class CurvePoint(TableRow):
    """One model of a curve."""

    alpha: float


class CurveRecipe(Strict):
    """Metrics against alpha; made from the experiment's layout of the same name."""

    title: str
    note: str = ""
    points: tuple[CurvePoint, ...] = Field(min_length=2, description="In ascending order of alpha.")
    tasks: tuple[str, ...] = Field(min_length=1)
    metrics: dict[str, tuple[Metric, ...]] = Field(default_factory=dict, description="As in TableRecipe.")
    start: str = Field(description="Name of the model at alpha 0, e.g. Pre-trained.")
    end: str = Field(description="Name of the model at alpha 1, e.g. Stable-FT.")
    command: str | None = Field(None, description="As in TableRecipe.")


class ConnectionRecipe(Strict):
    """What the table and the figure of a connection show; made from the experiment's layout of the same name."""

    title: str
    note: str = ""
    start: TableRow = Field(description="The model at alpha 0, e.g. Pre-trained.")
    end: TableRow = Field(description="The model at alpha 1, e.g. Stable-FT.")
    alphas: tuple[float, ...] = Field(min_length=2)
    split: Literal["dev", "test"] = "dev"
    commands: tuple[str, ...] = Field((), description="What makes the result; shown while it is pending.")


class AnalysisRecipe(Strict):
    """Speech and precision for the comparison of hidden states. The paper does not publish its own; the defaults are ours."""

    split: Literal["train", "dev", "test"] = "dev"
    utterances: Positive = Field(200, description="So many, evenly from the whole split; all if it has fewer.")
    precision: FeaturePrecision = Field("fp32", description="Of both encoders' passes, on every device; tables mark bf16.")


class AnalysisTableRecipe(Strict):
    """What the table and the figure of an analysis show."""

    title: str
    note: str = ""
    rows: tuple[TableRow, ...] = Field(min_length=1)


class Comparison(Strict):
    """A merged model among the rows of a table, beside the models that it lies between."""

    row: int = Field(description="Place in the table's rows, from 0.")
    ends: tuple[int, ...] = Field(min_length=1, description="Places of the pre-trained and fine-tuned models, if in the table.")


class ReportRecipe(Strict):
    """What the report of an experiment shows; made from the experiment."""

    title: str
    note: str = ""
    tables: dict[str, TableRecipe] = Field(default_factory=dict)
    comparisons: dict[str, tuple[Comparison, ...]] = Field(default_factory=dict, description="By table.")
    curves: dict[str, CurveRecipe] = Field(default_factory=dict)
    connections: dict[str, ConnectionRecipe] = Field(default_factory=dict)
    analyses: dict[str, AnalysisTableRecipe] = Field(default_factory=dict)
