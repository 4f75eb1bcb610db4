"""Read result cells for tables, with checks beyond those of `speechft.recipes.cell`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from speechft.errors import TableError, missing_file
from speechft.recipes.cell import Cell, read_cell
from speechft.tables.metrics import task_metrics


def cell_name(cell: Cell) -> str:
    """Name of a cell: encoder/finetuning/method/task."""
    return f"{cell.model.encoder}/{cell.model.finetuning}/{cell.model.method}/{cell.task}"


def existing_cells(paths: Sequence[str | Path]) -> list[Cell]:
    """Read the cells that exist; repeated paths are read once."""
    return read_cells([path for path in dict.fromkeys(map(Path, paths)) if path.exists()])


def read_cells(paths: Sequence[str | Path]) -> list[Cell]:
    """Read cells and check that they can be used in a table.

    Raises:
        TableError: a file is missing or is not a cell, its model has no name, its metrics are not those of its task, or another file has
            the same model and task. The message names the file.
    """
    cells: list[Cell] = []
    origin: dict[str, Path] = {}
    for path in map(Path, paths):
        cell = _read(path)
        name = cell_name(cell)
        if name in origin:
            raise TableError(f"{path} and {origin[name]} are both the cell {name}. Give only one of them.")
        origin[name] = path
        cells.append(cell)
    return cells


def _read(path: Path) -> Cell:
    if not path.is_file():
        raise TableError(missing_file(path, "as a result cell", "Run its evaluation."))
    try:
        cell = read_cell(path)
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror}).") from None
    if None in (cell.model.encoder, cell.model.finetuning, cell.model.method):
        raise TableError(f"{path}: has no model name. Evaluate with --name encoder/finetuning/method.")
    try:
        metrics = {metric.key: metric for metric in cell.described or task_metrics([cell.task])}
    except TableError as error:
        raise TableError(f"{path}: {error}") from None
    expected = set(metrics)
    if set(cell.metrics) != expected or set(cell.values) != expected:
        given = ", ".join(sorted(set(cell.metrics) | set(cell.values))) or "nothing"
        raise TableError(f"{path}: task {cell.task!r} needs {', '.join(sorted(expected))}, found {given}. Run the evaluation again.")
    for key, values in cell.values.items():
        tests = [chosen.test[key] for chosen in cell.selected if key in chosen.test]
        devs = [trial.dev[key] for trial in cell.trials if key in trial.dev]
        for name, numbers in ((f"values.{key}", values), (f"selected.test.{key}", tests), (f"trials.dev.{key}", devs)):
            if bad := [value for value in numbers if not metrics[key].can_be(value)]:
                raise TableError(f"{path}: {name} is {bad[0]:g}; allowed: {metrics[key].range}. Run the evaluation again.")
    return cell
