"""Build the recipes of an experiment's tables, curves and analyses."""

from __future__ import annotations

from collections.abc import Iterable

from speechft.experiment.encoders import ONLY_EVALUATED
from speechft.experiment.layouts import PRETRAINED, rows_to_compare
from speechft.experiment.methods import MergedMethod
from speechft.experiment.schema import Experiment
from speechft.recipes.choice import ChoiceRecipe
from speechft.recipes.tables import (
    AnalysisTableRecipe,
    Comparison,
    ConnectionRecipe,
    CurvePoint,
    CurveRecipe,
    ReportRecipe,
    ScoreRecipe,
    TableRecipe,
    TableRow,
)
from speechft.tasks.metric import Metric


def table_recipe(experiment: Experiment, name: str, command: str | None) -> TableRecipe:
    """Build the recipe of table `name`. `command` computes a result when its path in the results folder is appended."""
    layout = experiment.tables[name]
    score = layout.score and ScoreRecipe(
        label=layout.score.label, floor=_row(experiment, layout.score.floor, *PRETRAINED), tasks=layout.score.tasks or layout.tasks
    )
    return TableRecipe(
        title=layout.title,
        note=experiment.note,
        rows=tuple(_row(experiment, *model, label=label) for model, label in experiment.table_rows(name)),
        tasks=layout.tasks,
        published=layout.published,
        beside=layout.beside,
        score=score,
        differences=tuple(rows_to_compare(experiment.table_models(name), layout.differences)),
        metrics=_metrics(experiment, layout.tasks),
        protocols={task: experiment.evaluation_recipe(task).protocol for task in layout.tasks},
        command=_cell_command(command),
    )


def _cell_command(command: str | None) -> str | None:
    return command and f"{command}cells/"


def choice_recipe(experiment: Experiment, encoder: str, finetuning: str, method: str) -> ChoiceRecipe:
    """Build the recipe for choosing the alpha of a merge."""
    merged = experiment.method(method)
    assert isinstance(merged, MergedMethod)
    assert merged.choose is not None
    points = [
        CurvePoint(alpha=alpha, encoder=model[0], finetuning=model[1], method=model[2], label=_label(experiment, model[0], model[2]))
        for alpha, model in experiment.choice_models(encoder, finetuning, method)
    ]
    return ChoiceRecipe(points=tuple(points), tasks=merged.choose.tasks, rule=merged.choose.rule)


def curve_recipe(experiment: Experiment, name: str, command: str | None) -> CurveRecipe:
    """Build the recipe of curve `name`; `command` as in `table_recipe`."""
    layout = experiment.alpha_curves[name]
    merged = experiment.method(layout.method)
    assert isinstance(merged, MergedMethod)
    before, method = experiment.merge_start(layout.finetuning)
    start = _label(experiment, layout.encoder, method) + ("" if method == "pretrained" else f" of {before}")
    ends = ("pretrained", experiment.tuned_method(layout.finetuning, merged.of))
    end = _label(experiment, layout.encoder, ends[1])
    if layout.finetuning in experiment.combinations:
        end = f"{merged.label}, full step"
    points = [
        CurvePoint(
            alpha=alpha, encoder=encoder, finetuning=finetuning, method=method,
            label=_label(experiment, encoder, method if method in ends else layout.method),
        )
        for alpha, (encoder, finetuning, method) in experiment.curve_models(name)
    ]  # fmt: skip
    title = layout.title or f"{merged.label} of {layout.encoder} and {layout.finetuning} at every alpha"
    return CurveRecipe(
        title=title, note=experiment.note, points=tuple(points), tasks=layout.tasks, metrics=_metrics(experiment, layout.tasks),
        start=start, end=end, command=_cell_command(command),
    )  # fmt: skip


def connection_recipe(experiment: Experiment, name: str, command: str | None) -> ConnectionRecipe:
    """Build the recipe of connection `name`; `command` as in `table_recipe`."""
    layout, ends = experiment.connections[name], experiment.connection_ends(name)
    several = ends[0] != PRETRAINED
    labels = [_label(experiment, layout.encoder, method) + (f" of {finetuning}" if several else "") for finetuning, method in ends]
    start, end = (_row(experiment, layout.encoder, *model, label=label) for model, label in zip(ends, labels, strict=True))
    return ConnectionRecipe(
        title=layout.title or f"{layout.encoder}: {layout.finetuning}'s own task from {labels[0]} to {labels[1]}",
        note=experiment.note, start=start, end=end, alphas=layout.alphas, split=layout.split,
        commands=(f"{command}connections/{name}.json",) if command else (),
    )  # fmt: skip


def analysis_table_recipe(experiment: Experiment, name: str) -> AnalysisTableRecipe:
    """Build the recipe of the table of analysis `name`."""
    layout = experiment.analyses[name]
    return AnalysisTableRecipe(
        title=layout.title or f"What fine-tuning did to {layout.encoder}",
        note=experiment.note,
        rows=tuple(_row(experiment, layout.encoder, *row.names, label=row.label) for row in layout.rows),
    )


def _metrics(experiment: Experiment, tasks: Iterable[str]) -> dict[str, tuple[Metric, ...]]:
    """Columns of the tasks; needed while cells are pending."""
    return {task: experiment.evaluation_recipe(task).metrics for task in tasks}


def report_recipe(experiment: Experiment, command: str | None) -> ReportRecipe:
    """Build the recipe of the experiment's report; `command` as in `table_recipe`."""
    return ReportRecipe(
        title=experiment.title or experiment.name,
        note=experiment.note,
        tables={name: table_recipe(experiment, name, command) for name in experiment.tables},
        comparisons={name: _comparisons(experiment, name) for name in experiment.tables},
        curves={name: curve_recipe(experiment, name, command) for name in experiment.alpha_curves},
        connections={name: connection_recipe(experiment, name, command) for name in experiment.connections},
        analyses={name: analysis_table_recipe(experiment, name) for name in experiment.analyses},
    )


def _comparisons(experiment: Experiment, table: str) -> tuple[Comparison, ...]:
    """List merged rows of a table whose pre-trained or fine-tuned model also has a row."""
    models = experiment.table_models(table)
    comparisons = []
    for row, (encoder, finetuning, name) in enumerate(models):
        if finetuning == "none" or not isinstance(method := experiment.method(name), MergedMethod):
            continue
        tunings = experiment.merged_finetunings(finetuning)
        ends = [(encoder, *experiment.merge_start(finetuning))]
        ends += [(encoder, tuning, experiment.tuned_method(tuning, method.of)) for tuning in tunings]
        if places := tuple(models.index(end) for end in ends if end in models):
            comparisons.append(Comparison(row=row, ends=places))
    return tuple(comparisons)


def _row(experiment: Experiment, encoder: str, finetuning: str, method: str, label: str | None = None) -> TableRow:
    return TableRow(encoder=encoder, finetuning=finetuning, method=method, label=label or _label(experiment, encoder, method))


def _label(experiment: Experiment, encoder: str, method: str) -> str:
    if method != "pretrained":
        return experiment.method(method).label
    entry = experiment.encoders[encoder]
    return entry.label if isinstance(entry, ONLY_EVALUATED) else "Pre-trained"
