"""Recipes of tables, curves and analyses. No torch here: Snakemake imports this."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from speechft.recipes.values import FeaturePrecision, Positive, Strict
from speechft.tasks.metric import Metric


class TableRow(Strict):
    """One row of a table: a model and its label."""

    encoder: str
    finetuning: str
    method: str
    label: str = Field(description="Name of the method in the table, e.g. Stable-FT.")
    only_published: str | None = Field(None, description="Table of published numbers that this row comes from; it has no cells.")


class ScoreRecipe(Strict):
    """A score normalized by the table's rows: 0 is the row `floor`, 1000 the best row in every metric."""

    label: str
    floor: TableRow
    tasks: tuple[str, ...] = Field(min_length=1)


class TableRecipe(Strict):
    """Rows and columns of a table, built from the experiment's layout of the same name."""

    title: str
    note: str = ""
    rows: tuple[TableRow, ...] = Field(min_length=1)
    tasks: tuple[str, ...] = Field(min_length=1)
    metrics: dict[str, tuple[Metric, ...]] = Field(default_factory=dict, description="Task -> its columns; default: those of its entry.")
    published: str | None = Field(None, description="Name of the table of published numbers to show next to ours.")
    beside: tuple[str, ...] = Field((), description="Tables of published numbers whose rows are listed below ours.")
    score: ScoreRecipe | None = None
    differences: tuple[tuple[int, int], ...] = Field(
        (), description="Pairs of rows to compare, counted from 0: the second is subtracted from the first."
    )
    protocols: dict[str, Literal["superb", "quick"]] = Field(default_factory=dict, description="Task -> protocol of its pending cells.")
    command: str | None = Field(
        None, description="Command that computes a cell when encoder/finetuning/method/task.json is appended; shown for pending cells."
    )


class CurvePoint(TableRow):
    """One point of a curve: a model and its alpha."""

    alpha: float


class CurveRecipe(Strict):
    """Metrics against alpha, built from the experiment's curve of the same name."""

    title: str
    note: str = ""
    points: tuple[CurvePoint, ...] = Field(min_length=2, description="Points in ascending order of alpha.")
    tasks: tuple[str, ...] = Field(min_length=1)
    metrics: dict[str, tuple[Metric, ...]] = Field(default_factory=dict, description="As in TableRecipe.")
    start: str = Field(description="Label of the model at alpha 0, e.g. Pre-trained.")
    end: str = Field(description="Label of the model at alpha 1, e.g. Stable-FT.")
    command: str | None = Field(None, description="As in TableRecipe.")


class ConnectionRecipe(Strict):
    """Table and figure of a connection, built from the experiment's curve of the same name."""

    title: str
    note: str = ""
    start: TableRow = Field(description="Model at alpha 0, e.g. Pre-trained.")
    end: TableRow = Field(description="Model at alpha 1, e.g. Stable-FT.")
    alphas: tuple[float, ...] = Field(min_length=2)
    split: Literal["dev", "test"] = "dev"
    commands: tuple[str, ...] = Field((), description="Commands that compute the result; shown while it is pending.")


class AnalysisRecipe(Strict):
    """Utterances and precision for the comparison of hidden states. The defaults are ours: the paper does not publish its own."""

    split: Literal["train", "dev", "test"] = "dev"
    utterances: Positive = Field(200, description="Number of utterances, spread evenly over the split; all if it has fewer.")
    precision: FeaturePrecision = Field("fp32", description="Precision of both encoders, on every device; tables mark bf16.")


class AnalysisTableRecipe(Strict):
    """Table and figure of an analysis."""

    title: str
    note: str = ""
    rows: tuple[TableRow, ...] = Field(min_length=1)


class Comparison(Strict):
    """A merged model in a table, to be compared with the models it interpolates."""

    row: int = Field(description="Row of the merged model, counted from 0.")
    ends: tuple[int, ...] = Field(min_length=1, description="Rows of the pre-trained and fine-tuned models that are in the table.")


class ReportRecipe(Strict):
    """Contents of an experiment's report."""

    title: str
    note: str = ""
    tables: dict[str, TableRecipe] = Field(default_factory=dict)
    comparisons: dict[str, tuple[Comparison, ...]] = Field(default_factory=dict, description="Table -> its comparisons.")
    curves: dict[str, CurveRecipe] = Field(default_factory=dict)
    connections: dict[str, ConnectionRecipe] = Field(default_factory=dict)
    analyses: dict[str, AnalysisTableRecipe] = Field(default_factory=dict)
