"""Tasks: labels, head, loss and metric of each SUPERB task; the same object serves stage 1 and evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechft.errors import TaskError, unknown_name
from speechft.requirements import explaining, require
from speechft.tasks.catalog import TASKS

if TYPE_CHECKING:
    from speechft.tasks.base import Task

TASK_NAMES = tuple(TASKS)


def get_task(name: str, **options: object) -> Task:
    """The task called `name` ("pr", "ks", "sid"), configured by its options (see the class of the task).

    Raises:
        TaskError: no such task, or an option that the task does not have.
        MissingPackageError: the task needs packages that are not installed (`pip install 'speechft[asr]'`).
    """
    from importlib import import_module

    if name not in TASKS:
        raise TaskError(unknown_name("task", name, TASK_NAMES))
    require(*TASKS[name].packages)
    module, _, class_name = TASKS[name].path.partition(":")
    with explaining():
        task_class = getattr(import_module(module), class_name)
    try:
        task: Task = task_class(**options)
    except TypeError as error:
        raise TaskError(f"Task {name!r}: {error}. See the options of {module}.{class_name}.") from error
    return task
