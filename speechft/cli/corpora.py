"""Verbs about corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechft.cli.options import Out, Recipe, app


@app.command()
def prepare(
    out: Out, recipe: Recipe = None, csv: Annotated[Path | None, typer.Option(help="A CSV corpus with our column names.")] = None
) -> None:
    """Check a corpus and write its manifests (lhotse), one file a split.

    Example: `speechft prepare --csv my_corpus.csv --out manifests/my_corpus`
    """
    from speechft.corpora import prepare_corpus
    from speechft.recipes import CorpusRecipe, load_recipe

    if (recipe is None) == (csv is None):
        raise typer.BadParameter("give either --recipe FILE.json or --csv FILE.csv")
    corpus = load_recipe(CorpusRecipe, recipe) if recipe else CorpusRecipe(kind="csv", path=csv)
    summary = prepare_corpus(corpus, out)
    for split, found in summary["splits"].items():
        print(f"{split}: {found['utterances']} utterances, {found['hours']:.3f} h, {found['speakers']} speakers")


@app.command()
def unite(corpora: Annotated[list[Path], typer.Argument(help="Folders that `speechft prepare` made.")], out: Out) -> None:
    """Put prepared corpora together as one.

    Example: `speechft unite manifests/digits manifests/keywords --out manifests/words`
    """
    from speechft.corpora import unite_corpora

    unite_corpora(corpora, out)
