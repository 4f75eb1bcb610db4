"""Derive tables and curves from a folder of cells, without experiment or recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from speechft.errors import TableError, missing_file, unknown_name
from speechft.experiment.layouts import PRETRAINED
from speechft.recipes.alphas import split_method
from speechft.recipes.cell import Cell
from speechft.recipes.tables import CurvePoint, CurveRecipe, TableRecipe, TableRow
from speechft.tables.cells import cell_name, read_cells
from speechft.tables.metrics import task_metrics
from speechft.tables.table import model_name
from speechft.tasks.catalog import TASKS
from speechft.tasks.metric import Metric

_TRAINED = ("finetuned", "stable_ft")
"""Methods used as the fine-tuned end of a curve if a fine-tuning has several methods that do not merge."""


def cell_files(folder: str | Path) -> list[Path]:
    """List the JSON files in a folder, except in hidden folders.

    Raises:
        TableError: the folder is missing or has no JSON files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise TableError(missing_file(folder, "as the folder of cells", "Name the folder that contains the cells (JSON)."))
    files = [path for path in sorted(folder.rglob("*.json")) if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not files:
        raise TableError(f"{folder}: contains no cells (JSON). Name the folder that `speechft evaluate --out` wrote to.")
    return files


def folder_table(files: Sequence[str | Path], title: str) -> TableRecipe:
    """Build the recipe of a table of all cells: one row per model, pre-trained ones first, and the columns of each task.

    Raises:
        TableError: a file is not a cell, or cells of one task have different metrics.
    """
    cells = read_cells(files)
    models = sorted({(str(cell.model.encoder), str(cell.model.finetuning), str(cell.model.method)) for cell in cells}, key=_row_order)
    rows = tuple(TableRow(encoder=model[0], finetuning=model[1], method=model[2], label=_label(model)) for model in models)
    metrics = _metrics(cells)
    return TableRecipe(title=title, rows=rows, tasks=tuple(metrics), metrics=metrics)


def folder_differences(files: Sequence[str | Path], title: str, against: str) -> TableRecipe:
    """Build the recipe of `folder_table`, comparing each model with the model `finetuning/method` of its encoder, such as none/pretrained.

    Raises:
        TableError: no encoder has cells of that model and of another one, or as for `folder_table`.
    """
    recipe = folder_table(files, title)
    place = {model_name(row): number for number, row in enumerate(recipe.rows)}
    others = [place.get(f"{row.encoder}/{against}") for row in recipe.rows]
    pairs = tuple((number, other) for number, other in enumerate(others) if other is not None and other != number)
    if not pairs:
        models = dict.fromkeys(name.partition("/")[2] for name in place)
        raise TableError(f"No model can be compared with {against!r}. Name one of these with --against: {', '.join(models)}.")
    return recipe.model_copy(update={"differences": pairs})


def folder_curves(files: Sequence[str | Path]) -> dict[str, CurveRecipe]:
    """Build a curve for each merge with cells at several alphas (methods `NAME@ALPHA`), keyed by ENCODER_FINETUNING_NAME.

    Alpha 0 is the pre-trained encoder. Alpha 1 is a model of the same fine-tuning that is not this merge: `finetuned`, `stable_ft`, or
    the only one.

    Raises:
        TableError: a file is not a cell, cells of one task have different metrics, no merge has two alphas, or two share a name of files.
    """
    cells = read_cells(files)
    models = {(str(cell.model.encoder), str(cell.model.finetuning), str(cell.model.method)) for cell in cells}
    curves = {}
    for encoder, finetuning, name in sorted({(*model[:2], _split(model[2])[0]) for model in models if _split(model[2])[1] is not None}):
        tuned = {method for other, tuning, method in models if (other, tuning) == (encoder, finetuning)}
        points = {alpha: (finetuning, method) for method in tuned if (alpha := _split(method)[1]) is not None and _split(method)[0] == name}
        if (encoder, *PRETRAINED) in models:
            points.setdefault(0.0, PRETRAINED)
        others = sorted(method for method in tuned if _split(method)[1] is None and method != name)
        ends = [method for method in _TRAINED if method in others] or (others if len(others) == 1 else [])
        if ends:
            points.setdefault(1.0, (finetuning, ends[0]))
        if len(points) < 2:
            continue
        shown = [
            CurvePoint(alpha=alpha, encoder=encoder, finetuning=tuning, method=method, label=_label((encoder, tuning, method)))
            for alpha, (tuning, method) in sorted(points.items())
        ]
        names = {f"{encoder}/{tuning}/{method}" for tuning, method in points.values()}
        metrics = _metrics([cell for cell in cells if cell_name(cell).rpartition("/")[0] in names])
        curve = f"{encoder}_{finetuning}_{name}"
        if curve in curves:
            raise TableError(f"{encoder}/{finetuning}/{name}: another merge would have the same files {curve}.*. Rename one in its cells.")
        curves[curve] = CurveRecipe(
            title=f"{name} of {encoder} and {finetuning}", points=tuple(shown), tasks=tuple(metrics), metrics=metrics,
            start=shown[0].label, end=shown[-1].label,
        )  # fmt: skip
    if not curves:
        raise TableError("No merge has cells at two alphas. Evaluate models under --name ENCODER/FINETUNING/METHOD@ALPHA.")
    return curves


def one_curve(curves: Mapping[str, CurveRecipe], name: str | None) -> CurveRecipe:
    """Return the curve of that name, or the only one; TableError for an unknown name, or several curves without a name."""
    if name is None and len(curves) > 1:
        raise TableError(f"The cells form {len(curves)} curves. Name one of {', '.join(curves)}.")
    if name is not None and name not in curves:
        raise TableError(unknown_name("curve", name, curves))
    return curves[name or next(iter(curves))]


def _metrics(cells: Sequence[Cell]) -> dict[str, tuple[Metric, ...]]:
    """Columns of each task, built-in tasks first."""
    by_task: dict[str, tuple[Metric, ...]] = {}
    for cell in cells:
        metrics = cell.described or tuple(task_metrics([cell.task]))
        if by_task.setdefault(cell.task, metrics) != metrics:
            shown = " and ".join(", ".join(metric.key for metric in one) for one in (by_task[cell.task], metrics))
            raise TableError(
                f"{cell_name(cell)}: other cells of task {cell.task!r} have different metrics ({shown}). Run the outdated evaluation again."
            )
    order = [*TASKS, *sorted(by_task.keys() - TASKS.keys())]
    return {task: by_task[task] for task in order if task in by_task}


def _row_order(model: tuple[str, str, str]) -> tuple[str, bool, str, str, float]:
    encoder, finetuning, method = model
    name, alpha = _split(method)
    return encoder, (finetuning, method) != PRETRAINED, finetuning, name, -1.0 if alpha is None else alpha


def _split(method: str) -> tuple[str, float | None]:
    """Method and alpha; a name without a valid alpha is returned unchanged."""
    try:
        return split_method(method)
    except ValueError:
        return method, None


def _label(model: tuple[str, str, str]) -> str:
    return "Pre-trained" if model[1:] == PRETRAINED else model[2]
