"""State that belongs to a checkpoint besides fairseq's own: the log so far, and the encoders kept so far.

They are files of the work directory that any accident can damage, and without them a resumed training would end with another model. So
a checkpoint holds the log itself, and of each kept encoder the hash; a training resumes only where those are intact.
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
"""In the `extra_state` of fairseq's checkpoints."""


class Checkpoint(NamedTuple):
    """A readable checkpoint."""

    path: Path
    updates: int
    extra: Mapping[str, Any]
    """What `Companions.state` gave when it was written."""


def readable_checkpoints(save_dir: Path) -> list[Checkpoint]:
    """The readable checkpoints, those with most updates first.

    fairseq renames the first file of a save into place, but copies the others, so a process that dies while copying leaves a torn one.
    """
    checkpoints = []
    for path in sorted(save_dir.glob("checkpoint*.pt")):
        try:
            state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
            extra = state["extra_state"].get(KEY)
            updates = int(state["optimizer_history"][-1]["num_updates"])
        except Exception as error:  # any damage shows in its own way
            LOGGER.warning("%s: is damaged (%s) and left aside; an older checkpoint is used.", path, type(error).__name__)
            continue
        checkpoints.append(Checkpoint(path, updates, extra if isinstance(extra, dict) else {}))
    return sorted(checkpoints, key=lambda checkpoint: -checkpoint.updates)


def newest_checkpoint(save_dir: Path) -> tuple[Path, int] | None:
    """The readable checkpoint with most updates, and their number."""
    return next(((checkpoint.path, checkpoint.updates) for checkpoint in readable_checkpoints(save_dir)), None)


class Companions:
    """The files of a work directory that must agree with a checkpoint.

    Args:
        log: the training's log; None in processes that write none.
        kept: files of encoders: the best one and the early ones.
    """

    def __init__(self, log: TrainingLog | None, kept: tuple[Path, ...] = ()) -> None:
        self.log = log
        self.kept = kept

    def state(self) -> dict[str, Any]:
        """For a checkpoint that is being written."""
        kept = {path.name: read_kept(path, check=False) for path in self.kept}
        encoders = {name: weights._asdict() for name, weights in kept.items() if weights is not None}
        return {"log": "" if self.log is None else self.log.text(), "kept": encoders}

    def problem(self, checkpoint: Checkpoint) -> str | None:
        """Why training cannot resume from a checkpoint; None if it can.

        A file that was written after the checkpoint is met again, and written again with the same content.
        """
        recorded = checkpoint.extra.get("kept")
        if not isinstance(recorded, dict) or not isinstance(checkpoint.extra.get("log"), str):
            return f"{checkpoint.path.name} does not say what belongs to it"
        for path in self.kept:
            wanted, found = recorded.get(path.name), read_kept(path)
            if found is None and wanted is not None:
                return f"{path} is {'damaged' if path.exists() else 'gone'}"
            # An early encoder is written when the update after its checkpoint begins.
            later = found is not None and found.update >= checkpoint.updates + (wanted is not None)
            if found is not None and not later and found._asdict() != wanted:
                return f"{path} is not the encoder that {checkpoint.path.name} was written with"
        return None

    def resume_from(self, save_dir: Path) -> Checkpoint | None:
        """Return the newest usable checkpoint and restore its log; None if training starts over.

        Files that are of no use any more are removed, if this process is the one that writes them.
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
            LOGGER.warning("%s: no checkpoint is usable; training starts over.", save_dir)
        if self.log is not None:
            # The encoders first: without them no checkpoint is usable, so all processes of a training decide alike.
            for path in (*self.kept, *save_dir.glob("checkpoint*.pt")):
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
            self.log.begin()
        return None

    def attach(self, trainer: Any) -> None:
        """Let fairseq's trainer add `state` to every checkpoint that it writes."""
        save = trainer.save_checkpoint

        def save_checkpoint(filename: str, extra_state: dict[str, Any]) -> Any:
            own = {KEY: self.state()} if trainer.should_save_checkpoint_on_current_rank else {}
            return save(filename, {**extra_state, **own})

        trainer.save_checkpoint = save_checkpoint
