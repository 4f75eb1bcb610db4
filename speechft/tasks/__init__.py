"""Tasks: labels, head, loss and metric of each SUPERB task; the same object serves stage 1 and evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechft.errors import TaskError, unknown_name
from speechft.requirements import explaining

if TYPE_CHECKING:
    from speechft.tasks.base import Task

# Name -> module and class. The modules import torch, so they are imported on demand.
_TASKS = {
    "pr": ("pr", "PhonemeRecognition"),
    "asr": ("asr", "SpeechRecognition"),
    "ks": ("ks", "KeywordSpotting"),
    "sid": ("sid", "SpeakerIdentification"),
    "er": ("er", "EmotionRecognition"),
    "ic": ("ic", "IntentClassification"),
    "sf": ("sf", "SlotFilling"),
    "pc": ("pc", "PhonemeClassification"),
    "qbe": ("qbe", "QueryByExample"),
    "asv": ("asv", "SpeakerVerification"),
    "sd": ("sd", "SpeakerDiarization"),
    "asr_zh": ("asr", "MandarinRecognition"),
}
TASK_NAMES = tuple(_TASKS)


def get_task(name: str, **options: object) -> Task:
    """The task called `name` ("pr", "ks", "sid"), configured by its options (see the class of the task).

    Raises:
        TaskError: no such task, or an option that the task does not have.
        MissingPackageError: the task needs packages that are not installed (`pip install 'speechft[asr]'`).
    """
    from importlib import import_module

    if name not in _TASKS:
        raise TaskError(unknown_name("task", name, TASK_NAMES))
    module, class_name = _TASKS[name]
    with explaining():
        task_class = getattr(import_module(f"speechft.tasks.{module}"), class_name)
    try:
        task: Task = task_class(**options)
    except TypeError as error:
        raise TaskError(f"Task {name!r}: {error}. See the options of speechft.tasks.{module}.{class_name}.") from error
    return task
