"""Verbs that measure an encoder: evaluate (stage 3) and analyse."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from speechft.cli.options import (
    EVALUATION,
    AsJson,
    EncoderOption,
    Gpus,
    Out,
    Recipe,
    Threads,
    WorkDir,
    app,
    use_gpus,
    use_threads,
    with_plugins,
)
from speechft.cli.terminal import say
from speechft.errors import ConfigError
from speechft.recipes.evaluation import EvaluationRecipe
from speechft.recipes.modules import parse_options
from speechft.recipes.tables import AnalysisRecipe
from speechft.recipes.values import load_recipe


@app.command(rich_help_panel=EVALUATION)
@with_plugins
def evaluate(
    model: Annotated[Path, typer.Argument(help="Encoder directory, or my_module:MyEncoder (docs/encoders.md); it stays frozen.")],
    task: Annotated[str, typer.Argument(help="Task: pr, asr, ks, qbe, sid, asv, sd, er, ic, sf, pc or asr_zh.")],
    manifests: Annotated[Path, typer.Argument(help="Folder of manifests with train, dev and test.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The cell (JSON); it appears when it is complete.")] = None,
    recipe: Recipe = None,
    encoder_option: EncoderOption = None,
    name: Annotated[str | None, typer.Option(help="encoder/finetuning/method, written into the cell.")] = None,
    work_dir: WorkDir = None,
    threads: Threads = None,
    gpus: Gpus = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only estimate the cost: encoder passes, memory, disk.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stage 3: train a task's head on the frozen encoder, choose the learning rate on dev, score test; write a cell.

    Example: `speechft evaluate models/speech_ft ks manifests/speech_commands --out ks.json`

    Example: `speechft evaluate my_encoder.py:MyEncoder ks manifests/speech_commands --encoder-option layers=12 --out ks.json`
    """
    if out is None and not dry_run:
        raise typer.BadParameter("`speechft evaluate` needs --out FILE.json, or --dry-run")

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

    options = parse_options(encoder_option or ())
    cell = run(model, task, manifests, out, recipe=chosen, encoder_options=options, model_name=name, work_dir=work_dir)
    # Percent, but for QbE's value, which is far below 1.
    shown = (f"{key} {value:.4f}" if key == "QbE" else f"{key} {value:.2f}" for key, value in cell["metrics"].items())
    print(json.dumps(cell) if as_json else "  ".join(shown))


@app.command(rich_help_panel=EVALUATION)
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

    value = run(start, model, manifests, out, load_recipe(AnalysisRecipe, recipe) if recipe else None, name)
    if as_json:
        print(json.dumps(value))
        return
    result = AnalysisResult.model_validate(value)
    say(f"weights moved by {100 * result.deviation.relative:.2f} % of their norm; cosine {result.cosine:.4f}, CKA {result.cka:.4f}")
