"""Verbs that train an encoder: pretrain, and finetune (stage 1)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechft.cli.options import Out, Recipe, Threads, WorkDir, app, need, use_threads


@app.command()
def pretrain(
    manifests: Annotated[list[Path], typer.Argument(help="Folders of manifests; their train splits are listened to.")],
    out: Out,
    recipe: Recipe = None,
    work_dir: WorkDir = None,
    threads: Threads = None,
) -> None:
    """Pre-train a small HuBERT from random weights with fairseq.

    Example: `speechft pretrain manifests/speech --recipe pretrain.json --out models/my_hubert`
    """
    from speechft.recipes import PretrainRecipe, load_recipe

    chosen = load_recipe(PretrainRecipe, recipe) if recipe else PretrainRecipe()
    use_threads(threads)
    from speechft.finetune import pretrain as run

    run(chosen, manifests, out, work_dir)


@app.command()
def finetune(
    model: Annotated[Path, typer.Argument(help="Encoder directory of the pre-trained encoder.")],
    manifests: Annotated[Path, typer.Argument(help="Folder of manifests with train and dev.")],
    out: Out,
    recipe: Recipe = None,
    work_dir: WorkDir = None,
    threads: Threads = None,
) -> None:
    """Stage 1: fine-tune encoder and head on a task with fairseq's trainer; keep the encoder that is best on dev.

    Example: `speechft finetune models/hubert_base manifests/voxceleb1 --recipe sid.json --out models/stable_ft`
    """
    from speechft.recipes import FinetuneRecipe, load_recipe

    chosen = load_recipe(FinetuneRecipe, need(recipe, "finetune"))
    use_threads(threads)
    from speechft.finetune import finetune as run

    run(model, chosen, manifests, out, work_dir)
