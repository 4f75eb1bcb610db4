"""Choose the alpha of a merge by dev scores of cells along it. Test scores are not used."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from speechft.errors import TableError
from speechft.files.output_kinds import CHOICE
from speechft.files.outputs import check_file
from speechft.files.structured import write_json
from speechft.recipes.cell import Cell
from speechft.recipes.choice import Choice, ChoicePoint, ChoiceRecipe, Rule, choose_place
from speechft.recipes.values import validate
from speechft.tables.canvas import LEGEND, dress, looks, panel_page, short
from speechft.tables.cells import cell_name, read_cells
from speechft.tables.folder import cell_files, folder_curves, one_curve
from speechft.tables.table import model_name
from speechft.tasks.metric import Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ON_DEV = {"SD_ACC": Metric("SD_ACC", "frame accuracy", higher_is_better=True)}
"""Metrics computed on dev only."""
Errors = Mapping[str, Sequence[Sequence[float]]]
"""Task -> for each alpha, the dev error of every seed."""


def choose(recipe: ChoiceRecipe, cells: Sequence[str | Path], out: str | Path | None = None) -> Choice:
    """Choose one of the recipe's points, and write the choice to `out`.

    The error e of a task is its error rate on dev, or the maximum minus the value for an accuracy or score. The gain of a task is
    1 - e(alpha) / e(0); if alpha 0 has no errors, -e(alpha) divided by the largest error of any alpha. The mean gain over tasks decides:
    `best` takes its maximum, `one_se` the smallest alpha within one standard error of it. The standard error is over seeds of the
    heads, for tasks with several.

    Args:
        recipe: points, tasks and rule.
        cells: cell files for all of the recipe's points and tasks; others are ignored.
        out: a JSON file, `speechft.recipes.choice.Choice`.

    Raises:
        TableError: a cell is missing, its heads were selected on test (ASV without dev trials), or it has no dev score.
        OutputError: `out` exists and is not a choice, or is an input.
    """
    if out is not None:
        check_file(out, CHOICE, cells)
    known = {cell_name(cell): cell for cell in read_cells(cells)}
    wanted = [f"{model_name(point)}/{task}" for point in recipe.points for task in recipe.tasks]
    if missing := [name for name in wanted if name not in known]:
        raise TableError(f"{len(missing)} missing cell(s): {', '.join(missing[:5])}. Evaluate them first, or choose by fewer tasks.")
    errors = {task: [dev_errors(known[f"{model_name(point)}/{task}"]) for point in recipe.points] for task in recipe.tasks}
    place = _place(errors, recipe.rule)
    points = []
    for number, point in enumerate(recipe.points):
        gains = {task: _gain(of_points, number) for task, of_points in errors.items()}
        mean, deviation = _mean_gain(errors, number)
        points.append(ChoicePoint(alpha=point.alpha, model=model_name(point), gain=mean, standard_error=deviation, gains=gains))
    others = {task: {other: values for other, values in errors.items() if other != task} for task in errors} if len(errors) > 1 else {}
    choice = Choice(
        schema=1,
        alpha=recipe.points[place].alpha,
        best=recipe.points[_place(errors, "best")].alpha,
        rule=recipe.rule,
        tasks=recipe.tasks,
        points=tuple(points),
        without={task: recipe.points[_place(rest, recipe.rule)].alpha for task, rest in others.items()},
    )
    if out is not None:
        write_json(out, choice.model_dump(mode="json", by_alias=True))
    return choice


def folder_choice(folder: Path, tasks: Sequence[str] | None, curve: str | None, rule: Rule) -> tuple[ChoiceRecipe, list[Path]]:
    """Build the recipe of a choice from a folder of cells, and list its cell files.

    Args:
        folder: folder of cells.
        tasks: tasks whose dev scores count; default: those with cells at every alpha.
        curve: ENCODER_FINETUNING_METHOD; required if the folder has several merges.
        rule: rule of the choice.

    Raises:
        ConfigError: a task is named twice.
        TableError: no merge with cells at several alphas, several merges and none named, no cells of alpha 0, or no task with cells at
            every alpha.
    """
    files = cell_files(folder)
    recipe = one_curve(folder_curves(files), curve)
    if recipe.points[0].alpha != 0:
        raise TableError(f"{folder}: has no cells of alpha 0, the reference for gains. Evaluate the pre-trained encoder.")
    there = {cell_name(cell) for cell in read_cells(files)}
    whole = [task for task in recipe.tasks if all(f"{model_name(point)}/{task}" in there for point in recipe.points)]
    if not (tasks or whole):
        alphas = ", ".join(f"{point.alpha:g}" for point in recipe.points)
        raise TableError(f"{folder}: no task has cells at every alpha ({alphas}). Evaluate one at all of them.")
    return validate(ChoiceRecipe, {"points": recipe.points, "tasks": tuple(tasks or whole), "rule": rule}, f"A choice in {folder}"), files


def draw_choice(choice: Choice, title: str) -> Figure:
    """Draw dev gains against alpha: the mean with its standard error, each task, and the chosen alpha."""
    alphas = [point.alpha for point in choice.points]
    means = [100 * point.gain for point in choice.points]
    errors = [100 * (point.standard_error or 0.0) for point in choice.points]
    rule = "smallest alpha within one standard error of the best" if choice.rule == "one_se" else "best mean gain"
    band = "; band: one standard error over the seeds of the heads" if any(errors) else ""
    notes = [f"Gain: share of the errors of alpha 0 on dev that are gone{band}.", f"Chosen: the {rule}."]
    figure, (panel,) = panel_page(title, notes, 1, across=1, size=(5.6, 3.6), margin=0)
    for task in choice.tasks:
        look, gains = looks(choice.tasks)[task], [100 * point.gains[task] for point in choice.points]
        panel.plot(alphas, gains, label=short(task), linewidth=0.9, color=look.color, marker=look.marker, markersize=3)
    panel.plot(alphas, means, label="mean", linewidth=2.0, color="#000000")
    low, high = ([mean + sign * error for mean, error in zip(means, errors, strict=True)] for sign in (-1, 1))
    panel.fill_between(alphas, low, high, color="#000000", alpha=0.15, linewidth=0)
    panel.axvline(choice.alpha, color="#2166ac", linestyle="--", linewidth=1.2, label=f"chosen: {choice.alpha:g}")
    panel.axhline(0, color="0.5", linewidth=0.8)
    panel.set_xlabel("alpha", fontsize=7.5)
    dress(panel, "gain on dev, %", grid="both")
    panel.legend(**LEGEND)
    return figure


def dev_errors(cell: Cell) -> list[float]:
    """Dev error of the selected head of each seed; in cross-validation the mean over folds."""
    if cell.selected_on == "test":
        raise TableError(f"{cell_name(cell)}: its heads were selected on test, so it has no dev scores. Choose alpha by other tasks.")
    chosen = [trial for trial in cell.trials if trial.selected and trial.dev]
    of_seeds: dict[int | None, list[float]] = {}
    for trial in chosen:
        key, value = next(iter(trial.dev.items()))
        metric = {metric.key: metric for metric in cell.described}.get(key) or _ON_DEV.get(key)
        if metric is None:
            raise TableError(f"{cell_name(cell)}: does not describe its metric {key}. Run its evaluation again.")
        of_seeds.setdefault(trial.seed, []).append(metric.error(value))
    if not of_seeds:
        raise TableError(f"{cell_name(cell)}: has no dev score of a selected head. Run its evaluation again.")
    return [statistics.fmean(values) for values in of_seeds.values()]


def _gain(of_points: Sequence[Sequence[float]], place: int) -> float:
    start, here = (statistics.fmean(of_points[number]) for number in (0, place))
    return (start - here) / _scale(of_points)


def _scale(of_points: Sequence[Sequence[float]]) -> float:
    """Mean error of alpha 0; if it is 0, the largest of any point; if that is 0, 1."""
    means = [statistics.fmean(errors) for errors in of_points]
    return means[0] or max(means) or 1.0


def _mean_gain(errors: Errors, place: int) -> tuple[float, float | None]:
    """Mean gain at a point, and its standard error with alpha 0 held fixed."""
    mean = statistics.fmean(_gain(of_points, place) for of_points in errors.values())
    variances = [
        statistics.variance(of_points[place]) / len(of_points[place]) / _scale(of_points) ** 2
        for of_points in errors.values()
        if len(of_points[place]) > 1
    ]
    return mean, math.sqrt(math.fsum(variances)) / len(errors) if variances else None


def _place(errors: Errors, rule: Rule) -> int:
    """Index of the chosen point."""
    return choose_place([_mean_gain(errors, place) for place in range(len(next(iter(errors.values()))))], rule)
