"""Tasks: labels, head, loss and metrics of each task, for stage 1 and evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from speechft.errors import TaskError
from speechft.plugins import class_of, files_of
from speechft.requirements import explaining, require
from speechft.tasks.catalog import KINDS, TASKS, TaskEntry, known_entry

if TYPE_CHECKING:
    from speechft.recipes.evaluation import EvaluationRecipe
    from speechft.recipes.finetuning import JointTask
    from speechft.tasks.base import Task

TASK_NAMES = tuple(TASKS)
"""Names of the built-in tasks."""


def get_task(name: str, /, **options: object) -> Task:
    """Create the task `name` ("pr", "ks", "sid"), or your own task by its kind: `get_task("regression", label="age")`.

    Options are those of the task's class (for kinds, see `speechft.tasks.own`).

    Raises:
        TaskError: the task or an option does not exist.
        MissingPackageError: the task needs packages that are not installed (`pip install 'speechft[asr]'`).
    """
    entry = known_entry(name)
    require(*entry.packages)
    with explaining():
        task_class = class_of("task", name, entry.path)
    try:
        task: Task = task_class(**options)
        if name in KINDS:
            task.options = {option: value for option, value in options.items() if option != "name"}
    except TypeError as error:
        raise TaskError(f"Task {name!r}: {error}. See the options of {entry.path.replace(':', '.')}.") from error
    if name in TASKS and files_of("task", name):
        return _of_plugin(task, name, entry)
    return task


def _of_plugin(task: Any, name: str, entry: TaskEntry) -> Task:
    """Set the registered name and metrics on a plug-in's task; raise TaskError if it is not a task or already has others."""
    from speechft.tasks.base import Task

    if not isinstance(task, Task):
        raise TaskError(f"Task {name!r}: {entry.path} returns a {type(task).__name__}, which is not derived from speechft.tasks.base.Task.")
    own = getattr(task, "name", name), [metric.key for metric in getattr(task, "metrics", entry.metrics)]
    if own != (name, [metric.key for metric in entry.metrics]):
        keys = ", ".join(own[1])
        raise TaskError(f"Task {name!r}: {entry.path} has the name {own[0]!r} and the metrics {keys}. Leave both to its registration.")
    task.name, task.metrics = name, entry.metrics
    return task


def task_of(recipe: EvaluationRecipe | JointTask) -> Task:
    """Create the task of a recipe; errors as for `get_task`."""
    if recipe.kind is None:
        return get_task(recipe.task, **recipe.task_options)
    return get_task(recipe.kind, **{**recipe.task_options, "name": recipe.task})
