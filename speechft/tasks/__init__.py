"""Tasks: labels, head, loss and metric of each task; the same object serves stage 1 and evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechft.errors import TaskError
from speechft.requirements import explaining, require
from speechft.tasks.catalog import KINDS, TASKS, known_entry

if TYPE_CHECKING:
    from speechft.recipes.evaluation import EvaluationRecipe
    from speechft.recipes.finetuning import JointTask
    from speechft.tasks.base import Task

TASK_NAMES = tuple(TASKS)
"""The built-in tasks."""


def get_task(name: str, /, **options: object) -> Task:
    """The task called `name` ("pr", "ks", "sid"), or one of your own by its kind: `get_task("regression", label="age")`.

    Options are those of the task's class (`speechft.tasks.own` has the kinds).

    Raises:
        TaskError: no such task, or an option that the task does not have.
        MissingPackageError: the task needs packages that are not installed (`pip install 'speechft[asr]'`).
    """
    from importlib import import_module

    entry = known_entry(name)
    require(*entry.packages)
    module, _, class_name = entry.path.partition(":")
    with explaining():
        task_class = getattr(import_module(module), class_name)
    try:
        task: Task = task_class(**options)
        if name in KINDS:
            task.options = {option: value for option, value in options.items() if option != "name"}
    except TypeError as error:
        raise TaskError(f"Task {name!r}: {error}. See the options of {module}.{class_name}.") from error
    return task


def task_of(recipe: EvaluationRecipe | JointTask) -> Task:
    """The task that a recipe names; errors as of `get_task`."""
    if recipe.kind is None:
        return get_task(recipe.task, **recipe.task_options)
    return get_task(recipe.kind, **{**recipe.task_options, "name": recipe.task})
