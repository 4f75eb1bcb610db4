"""Analyses in an experiment, and the recipes of their jobs. No torch here: Snakemake imports this."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from speechft.layouts import Name, RowLayout
from speechft.recipes import TableRow
from speechft.validation import FeaturePrecision, Positive, Strict


class AnalysisRecipe(Strict):
    """The speech on which hidden states are compared, and in which precision. The paper's are not public; the defaults are ours."""

    split: Literal["train", "dev", "test"] = "dev"
    utterances: Positive = Field(200, description="So many, evenly from the whole split; all if it has fewer.")
    precision: FeaturePrecision = Field("fp32", description="Of both encoders' passes, on every device; tables mark bf16.")


class AnalysisLayout(Strict):
    """Models of one encoder, each compared with the pre-trained one: weight deviation against feature similarity."""

    title: str = ""
    encoder: Name
    rows: tuple[RowLayout, ...] = Field(min_length=1, description="Models; labels default to those of their methods.")
    corpus: Name = Field(description="Whose recordings are heard; labels are not needed.")
    recipe: AnalysisRecipe = AnalysisRecipe()


class AnalysisTableRecipe(Strict):
    """What the table and the figure of an analysis show."""

    title: str
    note: str = ""
    rows: tuple[TableRow, ...] = Field(min_length=1)
