"""Verbs of the analysis: what fine-tuning did to an encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from speechft.cli.options import AsJson, Gpus, Out, Recipe, Threads, app, use_gpus, use_threads
from speechft.cli.terminal import say


@app.command()
def analyse(
    start: Annotated[Path, typer.Argument(help="Encoder directory of the pre-trained encoder, theta0.")],
    model: Annotated[Path, typer.Argument(help="Encoder directory of a model that was made from it.")],
    manifests: Annotated[Path, typer.Argument(help="Folder of manifests; their labels are not needed.")],
    out: Out,
    recipe: Recipe = None,
    name: Annotated[str | None, typer.Option(help="encoder/finetuning/method, written into the result.")] = None,
    threads: Threads = None,
    gpus: Gpus = 0,
    as_json: AsJson = False,
) -> None:
    """Compare a model with the pre-trained encoder: how far its weights moved, how alike its features are; write a JSON file.

    Example: `speechft analyse models/hubert_base models/speech_ft manifests/librispeech --out speech_ft.json`
    """
    use_threads(threads)
    use_gpus(gpus)
    from speechft.analysis.engine import analyse as run
    from speechft.analysis.result import AnalysisResult
    from speechft.recipes.tables import AnalysisRecipe
    from speechft.recipes.values import load_recipe

    value = run(start, model, manifests, out, load_recipe(AnalysisRecipe, recipe) if recipe else None, name)
    if as_json:
        print(json.dumps(value))
        return
    result = AnalysisResult.model_validate(value)
    say(f"weights moved by {100 * result.deviation.relative:.2f} % of their norm; cosine {result.cosine:.4f}, CKA {result.cka:.4f}")


@app.command()
def similarity(
    recipe: Annotated[Path, typer.Argument(help="Recipe of the table (JSON).")],
    results: Annotated[list[Path], typer.Argument(help="Files of `speechft analyse`; those that are missing show as pending.")],
    out: Out,
    figures: Annotated[Path | None, typer.Option(help="Folder of the figure; default: OUT.")] = None,
) -> None:
    """Show weight deviation beside feature similarity: NAME.csv and .md in the folder OUT, NAME.png and .svg in the folder of figures.

    Example: `speechft similarity results/recipes/analysis_tables/features.json results/analysis/features/*/*/*.json --out tables`
    """
    from speechft.analysis.report import build_analysis
    from speechft.recipes.tables import AnalysisTableRecipe
    from speechft.recipes.values import load_recipe

    build_analysis(load_recipe(AnalysisTableRecipe, recipe), results, out, figures or out, recipe.stem)
    say((out / f"{recipe.stem}.md").read_text(encoding="utf-8"))
