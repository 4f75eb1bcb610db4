"""Commands that measure an encoder: evaluate (stage 3), analyse, connect."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

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
from speechft.cli.terminal import console, rich_table, say
from speechft.errors import ConfigError
from speechft.files.structured import read_mapping
from speechft.recipes.evaluation import evaluation_recipe
from speechft.recipes.modules import parse_options
from speechft.recipes.tables import AnalysisRecipe, ConnectionRecipe, TableRow
from speechft.recipes.values import load_recipe, read_recipe


@app.command(rich_help_panel=EVALUATION)
@with_plugins
def evaluate(
    model: Annotated[Path, typer.Argument(help="Encoder directory, or my_module:MyEncoder (docs/encoders.md); it stays frozen.")],
    task: Annotated[
        str,
        typer.Argument(help="Task: pr, asr, ks, qbe, sid, asv, sd, er, ic, sf, pc or asr_zh; with --kind, a name for your own task."),
    ],
    manifests: Annotated[Path, typer.Argument(help="Folder of manifests with train, dev and test.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Output cell (JSON); it appears only when complete.")] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="Keys that change the task's recipe (JSON or YAML); see docs/tasks.md.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="Kind of your own task: classification, regression, multilabel, ctc, frame_classification or verification."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="With --kind: the corpus column to predict.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="With --kind: the metric; repeatable, the first one selects on dev.")] = None,
    encoder_option: EncoderOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the model in the cell: encoder/finetuning/method.")] = None,
    work_dir: WorkDir = None,
    threads: Threads = None,
    gpus: Gpus = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only estimate the cost: encoder passes, memory, disk.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stage 3: train a task's head on the frozen encoder, select the learning rate on dev, score test, and write a cell.

    Example: `speechft evaluate models/speech_ft ks manifests/speech_commands --out ks.json`

    Example: `speechft evaluate models/speech_ft accent manifests/mine --kind classification --label accent --metric uar --out accent.json`

    Example: `speechft evaluate my_encoder.py:MyEncoder ks manifests/speech_commands --encoder-option layers=12 --out ks.json`
    """
    if out is None and not dry_run:
        raise typer.BadParameter("`speechft evaluate` needs --out FILE.json, or --dry-run")

    if kind is None and (label or metric):
        raise typer.BadParameter("--label and --metric belong to a task of your own: give its --kind")
    changes = read_recipe(recipe, read_mapping) if recipe else {}
    if kind is not None:
        given = {"label": label, "metric": metric}
        options = {key: value for key, value in given.items() if value}
        changes |= {"kind": kind, "task_options": {**changes.get("task_options", {}), **options}}
    try:
        chosen = evaluation_recipe(task, changes)
    except ConfigError as error:
        raise ConfigError(f"{recipe}: {error}" if recipe else str(error)) from None
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
    shown = (f"{metric.key} {metric.shown(cell['metrics'][metric.key])}" for metric in chosen.metrics)
    print(json.dumps(cell) if as_json else "  ".join(shown))


@app.command(rich_help_panel=EVALUATION)
def analyse(
    start: Annotated[Path, typer.Argument(help="Encoder directory of the pre-trained encoder, theta0.")],
    model: Annotated[Path, typer.Argument(help="Encoder directory of a model derived from it.")],
    manifests: Annotated[Path, typer.Argument(help="Folder of manifests; labels are not needed.")],
    out: Out,
    recipe: Recipe = None,
    name: Annotated[str | None, typer.Option(help="Name of the model in the result: encoder/finetuning/method.")] = None,
    threads: Threads = None,
    gpus: Gpus = 0,
    as_json: AsJson = False,
) -> None:
    """Compare a model with the pre-trained encoder: weight deviation and feature similarity, as a JSON file.

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


@app.command(rich_help_panel=EVALUATION)
def connect(
    start: Annotated[Path, typer.Argument(help="Encoder directory: the pre-trained encoder, or another fine-tuned one.")],
    end: Annotated[Path, typer.Argument(help="Output of `speechft finetune`; its task and head are used.")],
    manifests: Annotated[Path, typer.Argument(help="Folder of manifests, normally those that END was fine-tuned on.")],
    out: Out,
    alpha: Annotated[str, typer.Option(help="Alphas, including 0 and 1: a range such as 0:1:0.1, or a list such as 0,0.5,1.")] = "0:1:0.1",
    split: Annotated[Literal["dev", "test"], typer.Option(help="Split to score.")] = "dev",
    figure: Annotated[Path | None, typer.Option(help="Draw the curves to this PNG, with an SVG next to it.")] = None,
    start_name: Annotated[str | None, typer.Option(help="Name of START in the result: encoder/finetuning/method.")] = None,
    end_name: Annotated[str | None, typer.Option(help="Name of END in the result: encoder/finetuning/method.")] = None,
    threads: Threads = None,
    gpus: Gpus = 0,
) -> None:
    """Measure loss and error of a fine-tuning's own task along the line between two encoders, with the head of stage 1.

    The barrier is how far they rise above the straight line between both ends; nothing is trained.

    Example: `speechft connect models/hubert_base models/stable_ft manifests/librispeech --out line.json --figure line.png`
    """
    use_threads(threads)
    use_gpus(gpus)
    from speechft.analysis.connection import connect as run
    from speechft.analysis.connection_report import connection_grid, draw_connection
    from speechft.files.outputs import check_figure
    from speechft.recipes.alphas import alphas_of
    from speechft.tables.canvas import save_figure

    try:
        alphas = alphas_of(alpha)
    except ValueError as error:
        raise typer.BadParameter(f"--alpha {error}") from None
    if figure is not None:
        check_figure(figure, [start, end, manifests, out])
    connection = run(start, end, manifests, out, alphas, split, (start_name, end_name))
    first, last = (TableRow(encoder="", finetuning="", method="", label=folder.name) for folder in (start, end))
    recipe = ConnectionRecipe(title="Between two encoders", start=first, end=last, alphas=tuple(alphas), split=split)
    if figure is not None:
        save_figure(lambda: draw_connection(recipe, connection), figure)
    metric = connection.metrics[0]
    headings, *lines = connection_grid(recipe, connection)
    console(80).print(rich_table(headings, lines, headings))
    say(f"loss barrier {connection.loss_barrier:.4g}, error barrier {metric.shown(connection.error_barrier)} (errors of {metric.name})")
