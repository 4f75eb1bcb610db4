"""Additional state of a checkpoint: the training log and the kept encoders.

These are files in the work directory that can be damaged, and without them a resumed training would end with another model. A checkpoint
therefore contains the log and the hash of each kept encoder, and a training resumes only if they are intact.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from speechft.fairseq_plugin.progress import TrainingLog
from speechft.finetune.best import read_kept

LOGGER = logging.getLogger("speechft.finetune")
KEY = "speechft"
"""Key of our state in the `extra_state` of fairseq's checkpoints."""


class Checkpoint(NamedTuple):
    """A readable checkpoint."""

    path: Path
    updates: int
    extra: Mapping[str, Any]
    """`Companions.state` at the time of writing."""


def readable_checkpoints(save_dir: Path) -> list[Checkpoint]:
    """Return the readable checkpoints, those with most updates first.

    fairseq renames the first file of a save into place but copies the others, so a process that dies while copying leaves a damaged one.
    """
    checkpoints = []
    for path in sorted(save_dir.glob("checkpoint*.pt")):
        try:
            state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
            extra = state["extra_state"].get(KEY)
            updates = int(state["optimizer_history"][-1]["num_updates"])
        except Exception as error:  # damage can raise anything
            LOGGER.warning("%s: damaged (%s); using an older checkpoint.", path, type(error).__name__)
            continue
        checkpoints.append(Checkpoint(path, updates, extra if isinstance(extra, dict) else {}))
    return sorted(checkpoints, key=lambda checkpoint: -checkpoint.updates)


def newest_checkpoint(save_dir: Path) -> tuple[Path, int] | None:
    """Return the readable checkpoint with most updates, and their number."""
    return next(((checkpoint.path, checkpoint.updates) for checkpoint in readable_checkpoints(save_dir)), None)


class Companions:
    """Files of a work directory that must agree with a checkpoint.

    Args:
        log: the training log; None in processes that write none.
        kept: encoder files: the best one and the early ones.
    """

    def __init__(self, log: TrainingLog | None, kept: tuple[Path, ...] = ()) -> None:
        self.log = log
        self.kept = kept

    def state(self) -> dict[str, Any]:
        """Return the state to store in a checkpoint."""
        kept = {path.name: read_kept(path, check=False) for path in self.kept}
        encoders = {name: weights._asdict() for name, weights in kept.items() if weights is not None}
        return {"log": "" if self.log is None else self.log.text(), "kept": encoders}

    def problem(self, checkpoint: Checkpoint) -> str | None:
        """Say why training cannot resume from a checkpoint; None if it can.

        A file written after the checkpoint is acceptable, since the resumed training writes it again with the same content.
        """
        recorded = checkpoint.extra.get("kept")
        if not isinstance(recorded, dict) or not isinstance(checkpoint.extra.get("log"), str):
            return f"{checkpoint.path.name} has no record of the log and encoders"
        for path in self.kept:
            wanted, found = recorded.get(path.name), read_kept(path)
            if found is None and wanted is not None:
                return f"{path} is {'damaged' if path.exists() else 'gone'}"
            # An early encoder is written at the start of the update after its checkpoint.
            later = found is not None and found.update >= checkpoint.updates + (wanted is not None)
            if found is not None and not later and found._asdict() != wanted:
                return f"{path} is not the encoder recorded in {checkpoint.path.name}"
        return None

    def resume_from(self, save_dir: Path) -> Checkpoint | None:
        """Return the newest usable checkpoint and restore its log; None if training restarts.

        The process that writes the files removes those that are no longer usable.
        """
        refused = set()
        for checkpoint in readable_checkpoints(save_dir):
            if checkpoint.updates in refused:
                continue
            if (problem := self.problem(checkpoint)) is None:
                if self.log is not None:
                    self.log.begin(str(checkpoint.extra["log"]))
                return checkpoint
            refused.add(checkpoint.updates)
            LOGGER.warning("%s, so the training cannot resume after update %d.", problem, checkpoint.updates)
        if any(save_dir.glob("checkpoint*.pt")):
            LOGGER.warning("%s: no checkpoint is usable; training restarts.", save_dir)
        if self.log is not None:
            # Encoders first: without them no checkpoint is usable, so that all processes reach the same decision.
            for path in (*self.kept, *save_dir.glob("checkpoint*.pt")):
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
            self.log.begin()
        return None

    def attach(self, trainer: Any) -> None:
        """Make fairseq's trainer add `state` to every checkpoint."""
        save = trainer.save_checkpoint

        def save_checkpoint(filename: str, extra_state: dict[str, Any]) -> Any:
            own = {KEY: self.state()} if trainer.should_save_checkpoint_on_current_rank else {}
            return save(filename, {**extra_state, **own})

        trainer.save_checkpoint = save_checkpoint
