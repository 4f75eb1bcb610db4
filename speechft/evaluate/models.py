"""The encoder of an evaluation: an encoder directory or a user's model."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from speechft.conventions import SAMPLE_RATE
from speechft.encoders import FeatureEncoder, load_encoder
from speechft.encoders.checkpoints.on_the_fly import encoder_directory
from speechft.encoders.directory.layout import CONFIG, WEIGHTS
from speechft.encoders.own_module import BATCH_TOLERANCE, ModuleEncoder, load_module
from speechft.errors import ConfigError, TaskError
from speechft.evaluate.data.clips import Clip
from speechft.evaluate.data.features import FrozenEncoder
from speechft.evaluate.data.folds import Fold
from speechft.files.hashes import sha256_file, sha256_json
from speechft.recipes.modules import ModuleRecord, is_class_name, source_file
from speechft.tasks.base import Task
from speechft.tasks.pc import PhonemeClassification
from speechft.tasks.sd import FRAME_SHIFT

logger = logging.getLogger(__name__)

CHECKED_CLIPS = 4
CHECKED_SECONDS = 5.0
"""Most seconds of each utterance in the test whether features depend on the batch."""

Model = str | Path | nn.Module
"""An encoder directory; `my_module:MyEncoder` or `path/to/file.py:MyEncoder`; or an object of such a class."""


@dataclass(frozen=True)
class LoadedModel:
    """A loaded encoder with the hash of its weights and the hash of everything that determines its features."""

    encoder: FeatureEncoder
    weights_sha256: str
    sha256: str


def load_model(model: Model, options: Mapping[str, Any] | None = None) -> LoadedModel:
    """Load an encoder without changing torch's global random state.

    Raises:
        ConfigError: the class does not exist, or options are given without the name of a class.
        CheckpointError: the encoder cannot be loaded.
    """
    # Building a model draws initial weights before loading the saved ones.
    with torch.random.fork_rng(devices=[]):
        if is_class_name(model) or isinstance(model, nn.Module):
            module = load_module(model, options)
            return LoadedModel(module, module.sha256, module.sha256)
        if not isinstance(model, str | Path):
            raise ConfigError(
                f"model_dir is a {type(model).__name__}; give an encoder directory, the name of a class, or a torch.nn.Module."
            )
        if options:
            raise ConfigError(f"{model}: encoder options are for the name of a class, such as my_module:MyEncoder.")
        with encoder_directory(model) as directory:
            encoder = load_encoder(directory)  # reports what is wrong with the directory
            weights = sha256_file(directory / WEIGHTS)
            whole = sha256_json({"config": sha256_file(directory / CONFIG), "weights": weights})
            return LoadedModel(encoder, weights, whole)


def model_inputs(model: Model) -> list[str | Path]:
    """Return the files and folders of a model, which outputs must not replace."""
    if is_class_name(model):
        return [source_file(str(model))]
    return [model] if isinstance(model, str | Path) else []


def check_frame_rate(task: Task, encoder: FeatureEncoder) -> None:
    """Raise TaskError if a task with labels at a fixed rate cannot use the encoder's frame rate."""
    shift = encoder.frame_shift
    if (isinstance(task, PhonemeClassification) and shift != FRAME_SHIFT) or (task.name == "sd" and shift % FRAME_SHIFT):
        wanted = f"{FRAME_SHIFT} samples" + (", or a multiple of that" if task.name == "sd" else "")
        raise TaskError(
            f"Task {task.name!r} needs one frame per {wanted}; this encoder has one per {shift:g}. Average or repeat its frames."
        )


def settle_batches(encoder: FrozenEncoder, folds: Sequence[Fold]) -> ModuleRecord | None:
    """Decide whether a user's model can be batched, and return its record for the cell; None for other encoders.

    A few utterances of mixed lengths are encoded alone and in one batch. If features differ, all utterances are encoded one at a time.

    Raises:
        CheckpointError: the model fails or is not deterministic.
    """
    module = encoder.encoder
    if not isinstance(module, ModuleEncoder):
        return None
    splits = next(fold.splits for fold in folds)
    clips = next(clips for split in splits.values() if (clips := _whole(split.clips)))
    longest = round(CHECKED_SECONDS * SAMPLE_RATE)
    shares = [1 - 0.2 * number for number in range(CHECKED_CLIPS)]  # without mixed lengths, nothing would be padded
    chosen = [clips[number * len(clips) // CHECKED_CLIPS] for number in range(CHECKED_CLIPS)]
    parts = [
        replace(clip, num_samples=max(module.min_samples, round(min(clip.num_samples, longest) * share)))
        for clip, share in zip(chosen, shares, strict=True)
    ]
    with torch.inference_mode():
        difference = module.batch_difference([part.load() * encoder.gain for part in parts])
    module.one_by_one = difference > BATCH_TOLERANCE
    if module.one_by_one:
        what = f"features differ by {difference:.2g}" if math.isfinite(difference) else "the number of frames differs"
        logger.warning("%s: features depend on the batch (%s); encoding one utterance at a time", module.title, what)
    return module.record.model_copy(update={"depends_on_batch": module.one_by_one})


def _whole(clips: Sequence[Clip]) -> Sequence[Clip]:
    """Return the clips of utterances before cropping."""
    whole: Sequence[Clip] = getattr(clips, "utterances", clips)
    return whole
