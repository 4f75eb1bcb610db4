"""`evaluate`: one model on one task, from an encoder directory and manifests to a cell.

Frozen features make SUPERB cheap: heads that pool see each clip as one mean vector for each layer, computed once; frame-level heads of
all learning rates share each pass of the encoder.
"""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import speechft
from speechft.encoders import load_encoder
from speechft.errors import ConfigError
from speechft.evaluate.cell import Cell, Counts, Hashes, ModelName, Seconds, Selected, SplitCounts, Trial, write_cell
from speechft.evaluate.features import FrameFeatures, FrozenEncoder, mean_vectors
from speechft.evaluate.probes import Probe, ProbeBank, Setting, isolated_rng, new_head
from speechft.evaluate.separate import SeparateProbes
from speechft.evaluate.splits import SPLITS, Split, load_splits
from speechft.evaluate.stacked import StackedProbes
from speechft.evaluate.training import TrialState, all_rows, scoring_batches, select, train_probes
from speechft.files import exclusive_lock, sha256_file, sha256_json
from speechft.recipes import EvaluationRecipe, evaluation_recipe
from speechft.tasks import get_task
from speechft.tasks.base import Task
from speechft.tasks.heads import PooledHead

FEATURES_VERSION = 1
"""Part of the key of cached features; to be raised when the same encoder and clips give other vectors."""


def evaluate(
    model_dir: str | Path,
    task: str | Task,
    manifests: str | Path | Mapping[str, str | Path],
    out_json: str | Path,
    recipe: EvaluationRecipe | Mapping[str, Any] | None = None,
    *,
    model_name: str | None = None,
    work_dir: str | Path | None = None,
    keep_features: bool = False,
    device: str | None = None,
) -> dict[str, Any]:
    """Train heads on the frozen encoder, choose step and learning rate of each seed on dev, score test once, write the cell.

    The encoder runs in bf16 on a GPU and in fp32 on the CPU, heads in fp32. On the CPU the same arguments give the same cell, times apart,
    whether or not an earlier run was interrupted. torch's global random state is left as it was.

    Args:
        model_dir: encoder directory.
        task: name of a task, or a task object (whose options are then its own; `recipe.task_options` stays empty).
        manifests: folder with train, dev and test manifests, or split -> file.
        out_json: the cell; appears when everything is done.
        recipe: the recipe, keys that change SUPERB's, or None for SUPERB's.
        model_name: "encoder/finetuning/method", written into the cell.
        work_dir: folder for cached features, by default `.work` beside `out_json`; a restarted evaluation reuses what it finds there.
        keep_features: keep cached features after success, for another recipe on the same data.
        device: "cpu" or "cuda"; by default a GPU where there is one.

    Returns:
        The cell, as in the file (see `speechft.evaluate.cell.Cell`).

    Raises:
        ConfigError: a recipe of another task, a model name that is not three names.
        CheckpointError: the encoder can not be loaded or gives NaN.
        CorpusError, AudioError: manifests or recordings are missing or damaged.
        TaskError: labels, transcripts or words are missing, or a class of dev or test is not in train.
        TrainingError: no learning rate reached its first evaluation.
        SpeechFTError: another process computes the same features in `work_dir`.
    """
    started = time.monotonic()
    name = _model_name(model_name)
    found_recipe = _recipe(task, recipe)
    found_task = get_task(task, **found_recipe.task_options) if isinstance(task, str) else task
    model_dir = Path(model_dir)
    chosen_device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with torch.random.fork_rng(devices=[]):  # building a model draws initial weights before the saved ones replace them
        encoder = FrozenEncoder(load_encoder(model_dir), chosen_device, found_task.gain)
    labels, splits = load_splits(found_task, manifests, encoder.encoder, found_recipe.crop_draws)
    setting = Setting(found_task, labels, found_recipe, chosen_device)
    weights_hash = sha256_file(model_dir / "model.safetensors")
    model_hash = sha256_json({"config": sha256_file(model_dir / "config.json"), "weights": weights_hash})
    work = Path(work_dir) if work_dir is not None else Path(out_json).parent / ".work"
    key = _features_key(encoder, model_hash, splits)
    with exclusive_lock(work / f"{key}.lock", "computing the same features"):
        run = _run(setting, encoder, splits, work / key)
        cell = Cell(
            schema=1,
            model=ModelName(**name, sha256=weights_hash),
            task=found_task.name,
            protocol=found_recipe.protocol,
            metrics={metric: sum(values) / len(values) for metric, values in run.values.items()},
            values=run.values,
            trials=run.trials,
            selected=run.selected,
            counts=Counts(
                **{split: _split_counts(splits[split]) for split in SPLITS},
                labels=len(labels),
                trainable_parameters=run.trainable_parameters,
                encoder_passes=encoder.passes,
            ),
            hashes=Hashes(
                model=model_hash,
                recipe=sha256_json(found_recipe.model_dump(mode="json")),
                labels=sha256_json(labels.to_json()),
                manifests={split: splits[split].sha256 for split in SPLITS},
            ),
            recipe=found_recipe.model_dump(mode="json"),
            seconds=Seconds(features=run.feature_seconds, training=run.training_seconds, total=time.monotonic() - started),
            software=_software(encoder),
        )
        value = write_cell(cell, out_json)
        if not keep_features:
            shutil.rmtree(work / key, ignore_errors=True)
    return value


@dataclass
class _Run:
    """What the seeds gave."""

    trials: list[Trial]
    selected: list[Selected]
    values: dict[str, list[float]]
    trainable_parameters: int
    feature_seconds: float
    training_seconds: float


def _run(setting: Setting, encoder: FrozenEncoder, splits: Mapping[str, Split], folder: Path) -> _Run:
    started = time.monotonic()
    heads = {seed: new_head(setting.task, encoder.encoder.hidden_size, setting.labels, seed) for seed in setting.recipe.seeds}
    first = next(iter(heads.values()))
    num_states = encoder.encoder.num_states
    features: dict[str, Any]
    if isinstance(first, PooledHead):
        features = {name: mean_vectors(encoder, split.clips, folder, name) for name, split in splits.items()}
    else:
        features = _frame_features(encoder, splits, setting.recipe.cache_gb)
    extracted = time.monotonic()
    run = _Run([], [], {metric.key: [] for metric in setting.task.metrics}, 0, extracted - started, 0.0)
    run.trainable_parameters = sum(value.numel() for value in Probe(num_states, first).parameters())
    for seed, head in heads.items():
        bank: ProbeBank[Any]
        bank = StackedProbes(setting, num_states, head) if isinstance(head, PooledHead) else SeparateProbes(setting, num_states, head)
        # Dropout in a head draws from the global generator.
        with isolated_rng(seed, setting.device):
            trials = train_probes(bank, splits["train"], features["train"], splits["dev"], features["dev"], seed)
        _score_test(run, bank, trials, splits["test"], features["test"], seed)
    run.training_seconds = time.monotonic() - extracted
    return run


def _score_test(run: _Run, bank: ProbeBank[Any], trials: list[TrialState], test: Split, features: Any, seed: int) -> None:
    task = bank.setting.task
    chosen = select(trials, task.selection_metric, seed)
    best = trials[chosen]
    assert best.best_state is not None
    assert best.best_step is not None
    bank.load_state(chosen, best.best_state)
    scores = bank.scores(features, scoring_batches(test, all_rows(test), bank.frame_level), [chosen])[0]
    shown = _shown(task, scores)
    run.selected.append(Selected(seed=seed, learning_rate=best.learning_rate, best_step=best.best_step, test=shown))
    for metric, value in shown.items():
        run.values[metric].append(value)
    for index, trial in enumerate(trials):
        run.trials.append(
            Trial(
                seed=seed,
                learning_rate=trial.learning_rate,
                dev=_shown(task, trial.dev),
                best_step=trial.best_step,
                diverged=trial.diverged,
                selected=index == chosen,
            )
        )


def _frame_features(encoder: FrozenEncoder, splits: Mapping[str, Split], cache_gb: float) -> dict[str, FrameFeatures]:
    """Train and dev are used over and over and are kept as far as the budget goes; test is used once."""
    features = {name: FrameFeatures(encoder, split.clips) for name, split in splits.items()}
    budget = cache_gb * 1e9
    for name in ("train", "dev"):
        budget = features[name].keep(budget, name)
    return features


def _shown(task: Task, scores: Mapping[str, float]) -> dict[str, float]:
    return {metric.key: metric.shown(scores[metric.key]) for metric in task.metrics if metric.key in scores}


def _recipe(task: str | Task, recipe: EvaluationRecipe | Mapping[str, Any] | None) -> EvaluationRecipe:
    name = task if isinstance(task, str) else task.name
    if not isinstance(recipe, EvaluationRecipe):
        recipe = evaluation_recipe(name, dict(recipe or {}))
    if recipe.task != name:
        raise ConfigError(f"The recipe is of task {recipe.task!r}, not {name!r}.")
    if recipe.task_options and not isinstance(task, str):
        raise ConfigError(f"Task {name!r} was given as an object and brings its options; the recipe's task_options must be empty.")
    return recipe


def _model_name(name: str | None) -> dict[str, str]:
    if name is None:
        return {}
    parts = name.split("/")
    if len(parts) != 3 or not all(parts):
        raise ConfigError(f"model_name={name!r} is not encoder/finetuning/method, e.g. hubert_base/none/pretrained.")
    return dict(zip(("encoder", "finetuning", "method"), parts, strict=True))


def _features_key(encoder: FrozenEncoder, model_hash: str, splits: Mapping[str, Split]) -> str:
    """Names the folder of cached features by everything that decides them."""
    clips = {name: [[clip.cut.id, clip.start, clip.num_samples] for clip in split.clips] for name, split in splits.items()}
    manifests = {name: split.sha256 for name, split in splits.items()}
    parts = [FEATURES_VERSION, model_hash, encoder.precision, encoder.gain, manifests, clips]
    return sha256_json(parts)[:24]


def _split_counts(split: Split) -> SplitCounts:
    return SplitCounts(utterances=len(split), hours=split.hours, dropped=dict(split.dropped))


def _software(encoder: FrozenEncoder) -> dict[str, str]:
    device = torch.cuda.get_device_name(encoder.device) if encoder.device.type == "cuda" else "cpu"
    packages = {package: version(package) for package in ("torch", "transformers")}
    return {
        "speechft": speechft.__version__,
        **packages,
        "python": platform.python_version(),
        "device": device,
        "encoder_precision": encoder.precision,
    }
