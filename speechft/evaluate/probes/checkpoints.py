"""The state of a training of heads on disk, so that an evaluation that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from speechft.evaluate.data.features import FrozenEncoder
from speechft.files.atomic import atomic_file
from speechft.files.hashes import sha256_json
from speechft.files.tensor_hash import tensors_sha256

if TYPE_CHECKING:
    from speechft.evaluate.data.folds import Fold
    from speechft.evaluate.probes.bank import ProbeBank, Setting
    from speechft.evaluate.probes.training import TrialState

logger = logging.getLogger(__name__)

TRAINING_VERSION = 1
"""Part of the name of a training's file; to be raised when the same arguments give another training."""
PREFIX = "training-"


@dataclass(frozen=True)
class TrainingFile:
    """Where the state of one training (a fold and a seed) is kept; the name says everything that decides the training."""

    path: Path
    encoder: FrozenEncoder

    def save(self, bank: ProbeBank[Any], trials: Sequence[TrialState], step: int) -> None:
        """Keep everything that the steps after `step` depend on. The order of the data is a function of the seed and of `step`."""
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
            "trials": [{"dev": trial.dev, "best_step": trial.best_step} for trial in trials],
        }
        saved, text = {name: value.cpu().contiguous().clone() for name, value in tensors.items()}, json.dumps(values)
        with atomic_file(self.path) as temporary:
            save_file(saved, temporary, {"json": text, "sha256": tensors_sha256(saved, text)})

    def load(self, bank: ProbeBank[Any], trials: Sequence[TrialState]) -> int:
        """Bring bank, trials, encoder count and torch's global generator to the saved state; the step it was saved at, 0 without one."""
        if not self.path.is_file():
            return 0
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata()
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if tensors_sha256(tensors, metadata["json"]) != metadata["sha256"]:
                raise ValueError("its SHA-256 is not the one that it was written with")
            values = json.loads(metadata["json"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            logger.warning("%s: damaged state of the heads (%s), training starts again", self.path, error)
            return 0
        bank.load_training_state(_under(tensors, "bank."))
        bank.alive = list(values["alive"])
        for index, (trial, saved) in enumerate(zip(trials, values["trials"], strict=True)):
            trial.dev, trial.best_step = saved["dev"], saved["best_step"]
            trial.best_state = _under(tensors, f"best.{index}.") or None
        torch.set_rng_state(tensors["rng.cpu"])
        if "rng.cuda" in tensors and self.encoder.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.encoder.device)
        # What the interrupted part sent through the encoder counts, its features that are read back are counted already.
        self.encoder.passes = values["passes"]
        step: int = values["step"]
        logger.info("heads go on after step %d", step)
        return step


def training_file(folder: Path, encoder: FrozenEncoder, setting: Setting, fold: Fold, seed: int) -> TrainingFile:
    """The file in `folder` (which stands for the encoder and its features) of the training of one seed on one fold."""
    targets = hashlib.sha256()
    for name, split in fold.splits.items():
        for clip, target in zip(split.first_clip, split.targets, strict=False):
            targets.update(f"{name} {clip} {target.tolist()}\n".encode())
    recipe = setting.recipe.model_dump(mode="json")
    # A task that came as an object has options that the recipe does not know.
    options = {name: value for name, value in vars(setting.task).items() if isinstance(value, str | int | float | tuple | None)}
    parts = [TRAINING_VERSION, torch.__version__, recipe, options, setting.labels.to_json(), targets.hexdigest(), fold.name, seed]
    return TrainingFile(folder / f"{PREFIX}{sha256_json(parts)[:24]}.safetensors", encoder)


def training_bytes(parameters: int, learning_rates: int) -> int:
    """About the size of a file: of every learning rate the parameters, two moments and the best parameters so far, in float32."""
    return 4 * 4 * parameters * learning_rates


def remove_training_files(folder: Path) -> None:
    """Delete what is of no use once a cell is written."""
    for path in folder.glob(f"{PREFIX}*.safetensors"):
        path.unlink()


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
