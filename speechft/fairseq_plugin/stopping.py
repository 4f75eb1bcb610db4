"""Handle SIGTERM: end a training within seconds, with a checkpoint from which it resumes without a difference."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from speechft.files.atomic import write_text

GRACE_SECONDS = 4.0
"""Seconds after which an update is abandoned; it is repeated after a restart, from its first batch and with the same random numbers."""
_RETRY_SECONDS = 0.1
UNVALIDATED = "unvalidated.txt"
"""File in the folder of checkpoints with the update whose validation is still due."""


class StopNow(BaseException):
    """Ends the current step. Not an `Exception`, because fairseq would write another checkpoint."""


class StopRequest(logging.Handler):
    """Records SIGTERM and ends the training after the current update, or during it if it takes long.

    As a log handler it is notified of updates: fairseq reports each one before deciding whether to validate, save or stop. The last update
    is validated only if it would have been anyway, so that the resumed run ends like an uninterrupted one.
    Under torchrun, the processes agree after every update, and all end after the same one; none abandons an update.

    Args:
        config: fairseq's configuration.
        train_module: fairseq's training program, whose function `train` is wrapped to access the trainer.
        on_start: called with the trainer before training.
    """

    def __init__(self, config: Any, train_module: Any, on_start: Callable[[Any], None]) -> None:
        super().__init__(logging.INFO)
        self.config = config
        self.requested = False
        self._alone = True
        self._module = train_module
        self._on_start = on_start
        self._trainer: Any = None
        self._deadline: float | None = None
        self._step: str | None = None
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Handle a record of fairseq's log."""
        if self.requested and self._alone and record.name == "train_inner":
            self._end_after(int(float(json.loads(record.getMessage())["num_updates"])))

    def _end_after(self, update: int) -> None:
        self.config.optimization.stop_time_hours = 1e-9  # past this limit, fairseq saves and ends
        self.config.dataset.disable_validation = update % self.config.dataset.validate_interval_updates != 0

    @contextlib.contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """Handle SIGTERM for the duration of the block; outside the main thread, the caller handles signals."""
        try:
            previous = signal.signal(signal.SIGTERM, self._request)
        except ValueError:
            yield
            return
        train = self._module.train
        self._module.train = self._watched(train)
        try:
            yield
        except StopNow:
            self._save()
        finally:
            self._module.train = train
            if self._timer is not None:
                self._timer.cancel()
            signal.signal(signal.SIGTERM, previous)

    def _request(self, _signum: int, _frame: Any) -> None:
        now = time.monotonic()
        if not self._alone:
            self.requested = True
        elif self._deadline is None:
            self.requested, self._deadline = True, now + GRACE_SECONDS
            self._remind(GRACE_SECONDS)
        elif now >= self._deadline:
            if self._step is not None:
                raise StopNow
            self._remind(_RETRY_SECONDS)

    def _remind(self, seconds: float) -> None:
        """Send the signal again later, since only a signal can interrupt the main thread anywhere."""
        self._timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
        self._timer.daemon = True
        self._timer.start()

    def _watched(self, train: Any) -> Any:
        """Wrap `train` with steps that can be abandoned without changing parameters or optimizer."""

        def watched(cfg: Any, trainer: Any, task: Any, epoch_itr: Any) -> Any:
            self._trainer = trainer
            self._on_start(trainer)
            if trainer.data_parallel_world_size > 1:
                self._alone = False
                trainer.train_step = self._in_agreement(trainer.train_step)
            for name in ("train_step", "valid_step"):
                setattr(task, name, self._interruptible(name, getattr(task, name)))
            self._validate_what_was_not(cfg, trainer, task, epoch_itr)
            return train(cfg, trainer, task, epoch_itr)

        return watched

    def _in_agreement(self, train_step: Any) -> Any:
        """Wrap fairseq's `train_step` so that afterwards all processes know whether one received SIGTERM."""

        def agreed(*arguments: Any, **options: Any) -> Any:
            result = train_step(*arguments, **options)
            asked = torch.tensor([int(self.requested)], device=self._trainer.device)
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
            if asked.item():
                self.requested = True
                self._end_after(self._trainer.get_num_updates())
            return result

        return agreed

    def _interruptible(self, name: str, step: Any) -> Any:
        def interruptible(*arguments: Any, **options: Any) -> Any:
            self._step = name
            result = step(*arguments, **options)
            self._step = None  # kept after StopNow: it names the abandoned step
            return result

        return interruptible

    @property
    def _marker(self) -> Path:
        return Path(self.config.checkpoint.save_dir) / UNVALIDATED

    def _save(self) -> None:
        """Save a checkpoint of the completed updates under fairseq's name."""
        trainer = self._trainer
        completed = trainer.get_num_updates()
        if not completed or not trainer.should_save_checkpoint_on_current_rank:
            return
        if self._step == "valid_step":
            write_text(self._marker, str(completed))
        batches = completed * self.config.optimization.update_freq[0]
        position = {"version": 2, "epoch": 1, "iterations_in_epoch": batches, "shuffle": False}
        trainer.consolidate_optimizer()
        path = f"{self.config.checkpoint.save_dir}/checkpoint_1_{completed}.pt"
        trainer.save_checkpoint(path, {"train_iterator": position, "val_loss": None})

    def _validate_what_was_not(self, cfg: Any, trainer: Any, task: Any, epoch_itr: Any) -> None:
        """Run a validation that the end of the previous training interrupted."""
        if not self._marker.is_file():
            return
        if self._marker.read_text(encoding="utf-8", errors="replace") == str(trainer.get_num_updates()):
            self._module.validate(cfg, trainer, task, epoch_itr, cfg.dataset.valid_subset.split(","))
        self._marker.unlink()
