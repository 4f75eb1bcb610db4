"""The verb of stage 3."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from speechft.cli.options import AsJson, Gpus, Recipe, Threads, WorkDir, app, use_gpus, use_threads
from speechft.errors import ConfigError


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="Encoder directory; it stays frozen.")],
    task: Annotated[str, typer.Argument(help="Task, e.g. ks.")],
    manifests: Annotated[Path, typer.Argument(help="Folder of manifests with train, dev and test.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The cell (JSON); it appears when it is complete.")] = None,
    recipe: Recipe = None,
    name: Annotated[str | None, typer.Option(help="encoder/finetuning/method, written into the cell.")] = None,
    work_dir: WorkDir = None,
    threads: Threads = None,
    gpus: Gpus = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only estimate the cost: encoder passes, memory, disk.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stage 3: train a task's head on the frozen encoder, choose the learning rate on dev, score test; write a cell.

    Example: `speechft evaluate models/speech_ft ks manifests/speech_commands --out ks.json`
    """
    if out is None and not dry_run:
        raise typer.BadParameter("`speechft evaluate` needs --out FILE.json, or --dry-run")
    from speechft.recipes.evaluation import EvaluationRecipe
    from speechft.recipes.values import load_recipe

    chosen = load_recipe(EvaluationRecipe, recipe) if recipe else None
    if chosen and chosen.task != task:
        raise ConfigError(f"{recipe}: is a recipe of task {chosen.task!r}, not {task!r}.")
    if not dry_run:
        use_gpus(gpus)
    use_threads(threads)
    if dry_run:
        from speechft.evaluate import plan_evaluation

        plan = plan_evaluation(model, task, manifests, recipe=chosen)
        print(json.dumps(asdict(plan)) if as_json else plan)
        return
    assert out is not None
    from speechft.evaluate import evaluate as run

    cell = run(model, task, manifests, out, recipe=chosen, model_name=name, work_dir=work_dir)
    # Percent, but for QbE's value, which is far below 1.
    shown = (f"{key} {value:.4f}" if key == "QbE" else f"{key} {value:.2f}" for key, value in cell["metrics"].items())
    print(json.dumps(cell) if as_json else "  ".join(shown))
