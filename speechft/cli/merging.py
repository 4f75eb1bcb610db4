"""The verb of stage 2."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechft.cli.options import Out, Recipe, app


@app.command()
def merge(
    base: Annotated[Path, typer.Argument(help="Encoder directory of the pre-trained encoder.")],
    finetuned: Annotated[list[Path], typer.Argument(help="Encoder directories of fine-tuned encoders.")],
    out: Out,
    alpha: Annotated[float | None, typer.Option(help="Weight of the fine-tuned side; 0.25 unless a recipe says otherwise.")] = None,
    method: Annotated[str | None, typer.Option(help="Merge method; linear unless a recipe says otherwise.")] = None,
    recipe: Recipe = None,
    extrapolate: Annotated[bool, typer.Option(help="Allow alpha outside [0, 1].")] = False,
) -> None:
    """Stage 2: interpolate a pre-trained and fine-tuned encoders in weight space.

    Example: `speechft merge models/hubert_base models/stable_ft --alpha 0.25 --out models/speech_ft`
    """
    from speechft.merge import merge as run
    from speechft.recipes import MergeRecipe, load_recipe

    chosen = load_recipe(MergeRecipe, recipe) if recipe else MergeRecipe()
    parameters = {**chosen.parameters, **({"extrapolate": True} if extrapolate else {})}
    run(base, finetuned, out, method=method or chosen.method, alpha=chosen.alpha if alpha is None else alpha, **parameters)
