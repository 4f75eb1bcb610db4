"""`evaluate`: evaluate one model on one task, from an encoder directory and manifests to a cell."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import speechft
from speechft.conventions import SPLITS, Manifests
from speechft.errors import ConfigError
from speechft.evaluate.data.features import FrozenEncoder, exact_fp32
from speechft.evaluate.data.folds import Fold, pooled_clips
from speechft.evaluate.models import Model, check_frame_rate, load_model, model_inputs, settle_batches
from speechft.evaluate.probes.batches import never_drawn
from speechft.evaluate.probes.outcome import Run
from speechft.evaluate.protocols import protocol_of
from speechft.files.hashes import sha256_json
from speechft.files.locks import exclusive_lock
from speechft.files.output_kinds import CELL
from speechft.files.outputs import check_file, check_work_folder, remove_made
from speechft.recipes.cell import Cell, Counts, FoldCounts, Hashes, ModelName, Seconds, SplitCounts, model_names, write_cell
from speechft.recipes.evaluation import EvaluationRecipe, evaluation_recipe
from speechft.runtime.devices import device_name, resolve_device
from speechft.tasks import task_of
from speechft.tasks.base import Task
from speechft.tasks.unknown import unknown_share

FEATURES_VERSION = 3
"""Increment when the computed features change; part of the key of cached features."""


@exact_fp32()
def evaluate(
    model_dir: Model,
    task: str | Task,
    manifests: Manifests,
    out_json: str | Path,
    recipe: EvaluationRecipe | Mapping[str, Any] | None = None,
    *,
    encoder_options: Mapping[str, Any] | None = None,
    model_name: str | None = None,
    work_dir: str | Path | None = None,
    keep_features: bool = False,
    device: str | None = None,
) -> dict[str, Any]:
    """Train heads on the frozen encoder, choose step and learning rate per seed on dev, score test once, write the cell.

    The encoder runs in the precision of the recipe and heads in fp32 (without TF32) on every device. On the CPU, equal arguments give equal
    cells, except for times, whether or not an earlier run was interrupted. torch's global state is not changed.
    A corpus with folds (see the task, for example ER) is cross-validated: heads are trained and chosen per fold, each clip is encoded once
    for all folds, and the score of a seed is the mean over its folds. ASV, QbE and SD have their own data and scores: see
    `speechft.evaluate.protocols`.

    Args:
        model_dir: encoder directory or transformers directory; or your own frozen model (docs/encoders.md), given as an object or as the
            name of its class, `my_module:MyEncoder` or `path/to/file.py:MyEncoder`, whose file is then run. An object is moved to the
            device and stays in eval mode, without gradients.
        task: name of a task, or a task object with its own options (`recipe.task_options` must then be empty). Your own task is an object,
            `get_task("regression", name="age", label="age")`, or a name with `kind` and `task_options` in the recipe.
        manifests: folder with train, dev and test manifests, or split -> file.
        out_json: the cell, written at the end.
        recipe: a recipe, or keys that change the task's default recipe (docs/configuration.md), including `like`, or None for the default,
            which is SUPERB's for SUPERB tasks.
        encoder_options: keyword arguments of the class named by `model_dir`.
        model_name: "encoder/finetuning/method", written to the cell.
        work_dir: folder for cached features, by default `.work` next to `out_json`; a restarted evaluation reuses them.
        keep_features: keep cached features after success, for another recipe on the same data.
        device: "cpu" or "cuda"; by default a GPU if available.

    Returns:
        The cell, as in the file (see `speechft.recipes.cell.Cell`).

    Raises:
        ConfigError: the recipe is for another task, or the model name does not have three parts.
        CheckpointError: the encoder cannot be loaded or returns NaN, or your own model fails or returns outputs of a wrong form.
        CorpusError, AudioError: manifests or recordings are missing or damaged.
        TaskError: labels, transcripts or words are missing, a class of dev or test is not in train, or the task needs another frame rate.
        TrainingError: no learning rate reached its first evaluation.
        OutputError: `out_json` is not a cell, or is an input.
        SpeechFTError: another process is computing the same features in `work_dir`.
    """
    started = time.monotonic()
    names = model_names(model_name)
    inputs = [*model_inputs(model_dir), *([manifests] if isinstance(manifests, str | Path) else manifests.values())]
    check_file(out_json, CELL, inputs)
    if work_dir is not None:
        check_work_folder(work_dir, None, inputs, out_json)
    recipe = resolve_recipe(task, recipe)
    task = task_of(recipe) if isinstance(task, str) else task
    model = load_model(model_dir, encoder_options)
    encoder = FrozenEncoder(model.encoder, resolve_device(device), task.gain, recipe.precision)
    check_frame_rate(task, encoder.encoder)
    work = Path(work_dir) if work_dir is not None else Path(out_json).parent / ".work"
    protocol = protocol_of(task)
    folds = protocol.load(task, manifests, encoder.encoder, recipe, work)
    recipe = recipe.resolved(max(len(fold.splits["train"]) for fold in folds))
    module = settle_batches(encoder, folds)
    key = _features_key(task.name, encoder, model.sha256, folds)
    with exclusive_lock(work / f"{key}.lock", "computing the same features"):
        run = protocol.run(task, recipe, encoder, folds, work / key)
        cell = Cell(
            schema=1,
            model=ModelName(**names, sha256=model.weights_sha256),
            task=task.name,
            described=task.metrics,
            protocol=recipe.protocol,
            precision=encoder.precision,
            metrics={metric: sum(values) / len(values) for metric, values in run.values.items()},
            values=run.values,
            selected_on=run.selected_on,
            trials=run.trials,
            selected=run.selected,
            counts=_counts(task, recipe, encoder, folds, run),
            hashes=Hashes(
                model=model.sha256,
                recipe=sha256_json(recipe.model_dump(mode="json")),
                labels=sha256_json(folds[0].labels.to_json()),
                manifests=_manifest_hashes(folds[0]),
            ),
            recipe=recipe.model_dump(mode="json"),
            module=module,
            seconds=Seconds(features=run.feature_seconds, training=run.training_seconds, total=time.monotonic() - started),
            software=_software(encoder),
            items=run.items,
        )
        value = write_cell(cell, out_json)
        # Other recipes can reuse features, but not the state of heads or the scores of searches.
        remove_made(work / key, ["training-*.safetensors", "scores-*.safetensors"] if keep_features else ["*.safetensors", ".*.tmp"])
    return value


def resolve_recipe(task: str | Task, recipe: EvaluationRecipe | Mapping[str, Any] | None) -> EvaluationRecipe:
    """Resolve the recipe of an evaluation; raise ConfigError if it is for another task, or if it and a task object both have options."""
    name = task if isinstance(task, str) else task.name
    if not isinstance(recipe, EvaluationRecipe):
        own = {} if isinstance(task, str) or task.kind is None else {"kind": task.kind}
        recipe = evaluation_recipe(name, {**(recipe or {}), **own})
    if recipe.task != name:
        raise ConfigError(f"The recipe is for task {recipe.task!r}, not {name!r}.")
    if isinstance(task, str):
        return recipe
    if recipe.task_options:
        raise ConfigError(f"Task {name!r} is an object with its own options. Remove task_options from the recipe.")
    return recipe.model_copy(update={"task_options": dict(task.options)})


def _features_key(task: str, encoder: FrozenEncoder, model_hash: str, folds: Sequence[Fold]) -> str:
    """Name the folder of cached features by everything that determines them, and by the task.

    The task is included because two tasks on one corpus (PR and ASR) run concurrently without sharing locks or files.
    """
    clips = {name: [[clip.cut.id, clip.start, clip.num_samples] for clip in pool] for name, pool in pooled_clips(folds).items()}
    manifests = {name: split.sha256 for name, split in folds[0].splits.items()}
    parts = [FEATURES_VERSION, task, model_hash, encoder.device.type, encoder.precision, encoder.gain, manifests, clips]
    return sha256_json(parts)[:24]


def _counts(task: Task, recipe: EvaluationRecipe, encoder: FrozenEncoder, folds: Sequence[Fold], run: Run) -> Counts:
    return Counts(
        **{name: _split_counts(folds, name, task, recipe) for name in SPLITS},
        folds={fold.name: FoldCounts(**{name: len(fold.splits[name]) for name in SPLITS}) for fold in folds if fold.name is not None},
        labels=len(folds[0].labels),
        trainable_parameters=run.trainable_parameters,
        encoder_passes=encoder.passes,
    )


def _split_counts(folds: Sequence[Fold], name: str, task: Task, recipe: EvaluationRecipe) -> SplitCounts:
    splits = [fold.splits[name] for fold in folds]
    dropped: Counter[str] = sum((Counter(split.dropped) for split in splits), Counter())
    for split in splits:
        dropped += Counter(never_drawn(task, split, recipe.batch_size) if split.name == "train" else {})
    return SplitCounts(
        utterances=sum(map(len, splits)),
        hours=sum(split.hours for split in splits),
        dropped=dict(dropped),
        unknown=unknown_share([target for split in splits for target in split.targets], folds[0].labels),
    )


def _manifest_hashes(fold: Fold) -> dict[str, str]:
    """Return the hash of each manifest; in cross-validation only that of train."""
    names = SPLITS if fold.name is None else ("train",)
    return {name: fold.splits[name].sha256 for name in names if fold.splits[name].sha256}


def _software(encoder: FrozenEncoder) -> dict[str, str]:
    packages = {package: version(package) for package in ("torch", "transformers")}
    return {"speechft": speechft.__version__, **packages, "python": platform.python_version(), "device": device_name(encoder.device)}
