"""State of a head training in memory and on disk, from which an interrupted evaluation resumes."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from speechft.evaluate.data.features import FrozenEncoder
from speechft.evaluate.data.folds import Fold
from speechft.evaluate.probes.bank import ProbeBank, Setting, State, under
from speechft.files.atomic import atomic_file
from speechft.files.hashes import sha256_json
from speechft.files.tensor_hash import tensors_sha256

logger = logging.getLogger(__name__)

TRAINING_VERSION = 1
"""Increment when the same arguments give a different training; part of the file name."""


@dataclass
class TrialState:
    """A probe in training, with its best evaluation so far and the parameters at that step."""

    learning_rate: float
    dev: dict[str, float] = field(default_factory=dict)
    best_step: int | None = None
    best_state: State | None = None
    diverged: bool = False
    dropped: int | None = None
    """Step at which the search dropped the probe."""


@dataclass(frozen=True)
class TrainingFile:
    """State file of one training (fold and seed), named by a hash of everything that determines it."""

    path: Path
    encoder: FrozenEncoder

    def save(self, bank: ProbeBank[Any], trials: Sequence[TrialState], step: int) -> None:
        """Write everything that later steps depend on; the order of the data follows from seed and `step`."""
        tensors = {f"bank.{name}": value for name, value in bank.training_state().items()}
        tensors["rng.cpu"] = torch.get_rng_state()
        if self.encoder.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.encoder.device)
        for index, trial in enumerate(trials):
            tensors |= {f"best.{index}.{name}": value for name, value in (trial.best_state or {}).items()}
        values = {
            "step": step,
            "passes": self.encoder.passes,
            "alive": bank.alive,
            "trials": [{"dev": trial.dev, "best_step": trial.best_step, "dropped": trial.dropped} for trial in trials],
        }
        saved, text = {name: value.cpu().contiguous().clone() for name, value in tensors.items()}, json.dumps(values)
        with atomic_file(self.path) as temporary:
            save_file(saved, temporary, {"json": text, "sha256": tensors_sha256(saved, text)})

    def load(self, bank: ProbeBank[Any], trials: Sequence[TrialState]) -> int:
        """Restore bank, trials, the encoder's pass count and torch's global generator; return the saved step, 0 without a file."""
        if not self.path.is_file():
            return 0
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata()
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if tensors_sha256(tensors, metadata["json"]) != metadata["sha256"]:
                raise ValueError("its SHA-256 has changed")
            values = json.loads(metadata["json"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            logger.warning("%s: damaged state of the heads (%s); training restarts", self.path, error)
            return 0
        for index, (trial, saved) in enumerate(zip(trials, values["trials"], strict=True)):
            # Older files have no `dropped`; their trainings dropped nothing.
            trial.dev, trial.best_step, trial.dropped = saved["dev"], saved["best_step"], saved.get("dropped")
            trial.best_state = under(tensors, f"best.{index}.") or None
        bank.keep([index for index, trial in enumerate(trials) if trial.dropped is None])
        bank.load_training_state(under(tensors, "bank."))
        bank.alive = list(values["alive"])
        torch.set_rng_state(tensors["rng.cpu"])
        if "rng.cuda" in tensors and self.encoder.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.encoder.device)
        # The interrupted run's passes count and already include those of features read from disk.
        self.encoder.passes = values["passes"]
        step: int = values["step"]
        logger.info("heads resume after step %d", step)
        return step


def training_file(folder: Path, encoder: FrozenEncoder, setting: Setting, fold: Fold, seed: int) -> TrainingFile:
    """Return the state file of one seed's training on one fold, in the folder of the encoder's features."""
    targets = hashlib.sha256()
    for name, split in fold.splits.items():
        for clip, target in zip(split.first_clip, split.targets, strict=False):
            targets.update(f"{name} {clip} {target.tolist()}\n".encode())
    recipe = setting.recipe.model_dump(mode="json")
    # The recipe does not contain the options of a task given as an object.
    attributes = vars(setting.task).items()
    options = {name: value for name, value in attributes if isinstance(value, str | int | float | tuple | None) and name != "metrics"}
    parts = [TRAINING_VERSION, torch.__version__, recipe, options, setting.labels.to_json(), targets.hexdigest(), fold.name, seed]
    return TrainingFile(folder / f"training-{sha256_json(parts)[:24]}.safetensors", encoder)
