"""Commands that train an encoder: pretrain, continue (without labels), finetune and early (stage 1)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechft.cli.options import TRAINING, Gpus, Out, Recipe, Threads, WorkDir, app, use_gpus, use_threads, with_plugins
from speechft.recipes.finetuning import CACHE_GB, FinetuneRecipe
from speechft.recipes.pretraining import ContinuedPretrainRecipe, PretrainRecipe
from speechft.recipes.values import load_recipe, validate

Corpora = Annotated[list[Path], typer.Argument(help="Folders of manifests; their train splits are used.")]
TargetsFrom = Annotated[
    Path | None,
    typer.Option("--targets-from", help="Encoder directory whose layer is clustered, for `targets: {layer: ...}` in the recipe."),
]


@app.command(rich_help_panel=TRAINING)
def pretrain(
    manifests: Corpora,
    out: Out,
    recipe: Recipe = None,
    start: Annotated[Path | None, typer.Option(help="Encoder directory to start from; default: random weights.")] = None,
    targets_from: TargetsFrom = None,
    work_dir: WorkDir = None,
    threads: Threads = None,
    gpus: Gpus = 0,
) -> None:
    """Pre-train a small HuBERT or wav2vec 2.0 with fairseq.

    Example: `speechft pretrain manifests/speech --recipe pretrain.json --out models/my_hubert`
    """
    chosen = load_recipe(PretrainRecipe, recipe) if recipe else PretrainRecipe()
    use_gpus(gpus)
    use_threads(threads)
    from speechft.pretrain import pretrain as run

    run(chosen, manifests, out, work_dir, start=start, targets_from=targets_from)


@app.command("continue", rich_help_panel=TRAINING)
def continue_(
    model: Annotated[Path, typer.Argument(help="Encoder directory of a HuBERT or wav2vec 2.0.")],
    manifests: Corpora,
    out: Out,
    recipe: Recipe = None,
    targets_from: TargetsFrom = None,
    work_dir: WorkDir = None,
    threads: Threads = None,
    gpus: Gpus = 0,
) -> None:
    """Continue pre-training an encoder on other audio, such as another language: stage 1 without labels.

    Example: `speechft continue models/hubert_base manifests/aishell3 --recipe continue.json --out models/hubert_mandarin`
    """
    chosen = load_recipe(ContinuedPretrainRecipe, recipe) if recipe else ContinuedPretrainRecipe()
    use_gpus(gpus)
    use_threads(threads)
    from speechft.pretrain import continue_pretraining as run

    run(model, chosen, manifests, out, work_dir, targets_from=targets_from)


@app.command(rich_help_panel=TRAINING)
@with_plugins
def finetune(
    model: Annotated[Path, typer.Argument(help="Encoder directory of the pre-trained encoder.")],
    manifests: Annotated[Path, typer.Argument(help="Folder of manifests with train and dev.")],
    out: Out,
    recipe: Recipe = None,
    like: Annotated[
        str | None, typer.Option(help="Preset instead of a recipe file: asr_tedlium, er_iemocap, sid, ... (docs/finetuning.md).")
    ] = None,
    jointly: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER: manifests of another task of the recipe; repeatable.")] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard logs.")] = None,
    work_dir: WorkDir = None,
    cache_gb: Annotated[
        float, typer.Option(min=0, help="Disk cache, in GB, for the output of the frozen extractor; affects only speed.")
    ] = CACHE_GB,
    threads: Threads = None,
    gpus: Gpus = 0,
) -> None:
    """Stage 1: fine-tune encoder and head on a task with fairseq's trainer, and keep the encoder that is best on dev.

    With `--gpus 2` or more, one process per GPU runs.

    Example: `speechft finetune models/hubert_base manifests/voxceleb1 --like sid --out models/stable_ft`
    """
    if like and recipe:
        raise typer.BadParameter('give either --recipe or --like; a recipe file can contain "like" too')
    if not like and not recipe:
        raise typer.BadParameter("`speechft finetune` needs --recipe FILE.json or --like NAME")
    chosen = load_recipe(FinetuneRecipe, recipe) if recipe else validate(FinetuneRecipe, {"like": like}, "--like")
    further = dict(_named(entry) for entry in jointly or [])
    use_gpus(gpus, processes=True)
    use_threads(threads)
    from speechft.finetune import finetune as run

    run(model, chosen, manifests, out, work_dir, jointly=further, tensorboard=tensorboard, cache_gb=cache_gb)


def _named(entry: str) -> tuple[str, Path]:
    name, separator, folder = entry.partition("=")
    if not separator or not folder:
        raise typer.BadParameter(f"--jointly {entry}: write NAME=FOLDER")
    return name, Path(folder)


@app.command(rich_help_panel=TRAINING)
def early(
    model: Annotated[Path, typer.Argument(help="Output of `speechft finetune`.")],
    out: Out,
    share: Annotated[float, typer.Option(help="Share of the updates; one of `early` in the recipe.")] = 0.2,
) -> None:
    """Extract an early checkpoint of a fine-tuning, such as the one at 20 % of the updates.

    Example: `speechft early models/stable_ft --share 0.2 --out models/early20`
    """
    from speechft.finetune.early import take_early

    take_early(model, share, out)
