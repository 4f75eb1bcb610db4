"""Run fairseq's trainer in this process: configuration, log, checkpoints, and errors."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from speechft.errors import SpeechFTError, StoppedTrainingError, TrainingError
from speechft.fairseq_plugin.resuming import Companions
from speechft.fairseq_plugin.stopping import StopRequest
from speechft.files.atomic import explain_unwritable
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.pretraining import ContinuedPretrainRecipe, PretrainRecipe

LOGGER = logging.getLogger("speechft.finetune")
FAIRSEQ_LOGGERS = (logging.getLogger("fairseq"), logging.getLogger("fairseq_cli"))
NEVER = 2**31 - 1


def stable_schedule(recipe: FinetuneRecipe | ContinuedPretrainRecipe) -> dict[str, dict[str, Any]]:
    """Return the configuration groups of Stable-FT's updates: optimizer, learning rate, clipping."""
    schedule = {"peak_lr": recipe.peak_lr, "total_updates": recipe.updates, "warmup": recipe.warmup, "hold": recipe.hold}
    return {
        "optimizer": {"_name": "speechft_adam"},
        "lr_scheduler": {"_name": "speechft_linear_decay", **schedule},
        "optimization": {"clip_norm": recipe.clip_norm, "lr": [recipe.peak_lr]},
    }


def fairseq_config(
    groups: Mapping[str, Mapping[str, Any]],
    save_dir: Path,
    recipe: FinetuneRecipe | PretrainRecipe | ContinuedPretrainRecipe,
    valid_subset: str,
) -> Any:
    """Build fairseq's configuration (omegaconf) for a run that validates and saves every `validate_every` updates and after the last one.

    Args:
        groups: `task`, `model`, `criterion`, `optimizer`, `lr_scheduler`, each with its `_name`; `common`, `dataset`, `optimization`,
            `checkpoint`, `distributed_training` override the settings here.
        save_dir: folder for checkpoints.
        recipe: has the number of updates, the validation interval, and the seed of weights, dropout and data order.
        valid_subset: name of the validation split.
    """
    import_fairseq()
    from fairseq.dataclass.configs import FairseqConfig
    from omegaconf import OmegaConf

    config = OmegaConf.structured(FairseqConfig())
    OmegaConf.set_struct(config, False)
    on_gpu = torch.cuda.is_available()
    defaults: dict[str, dict[str, Any]] = {
        "common": {"seed": recipe.seed, "cpu": not on_gpu, "log_format": "json", "log_interval": 1, "no_progress_bar": True},
        "dataset": {
            "train_subset": "train",
            "valid_subset": valid_subset,
            "ignore_unused_valid_subsets": True,
            "validate_interval": NEVER,
            "validate_interval_updates": recipe.validate_every,
            # Worker processes help only if the CPU is idle while a GPU computes.
            "num_workers": min(4, os.cpu_count() or 1) if on_gpu else 0,
            # Number of batches read ahead; more would not help.
            "data_buffer_size": 2,
        },
        "optimization": {"max_update": recipe.updates, "update_freq": [1], "stop_min_lr": -1.0},
        "checkpoint": {
            "save_dir": str(save_dir),
            "save_interval": NEVER,
            "save_interval_updates": recipe.validate_every,
            # One more than needed, in case the newest is damaged.
            "keep_interval_updates": 2,
            "no_epoch_checkpoints": True,
            "best_checkpoint_metric": "loss",
        },
        "distributed_training": _distributed(),
    }
    for name in ("task", "model", "criterion", "optimizer", "lr_scheduler"):
        config[name] = OmegaConf.create(dict(groups[name]))
    for name, options in defaults.items():
        config[name] = OmegaConf.merge(config[name], dict(options), dict(groups.get(name, {})))
    return config


def _distributed() -> dict[str, Any]:
    """Return settings for one process, or for several started by torchrun; processes spawned by fairseq would not import the plug-in."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    # legacy_ddp reduces gradients after the backward pass, which allows temporarily frozen parameters.
    options: dict[str, Any] = {"distributed_world_size": world_size, "distributed_no_spawn": True, "ddp_backend": "legacy_ddp"}
    if world_size > 1:
        options |= {
            "distributed_rank": int(os.environ["RANK"]),
            "device_id": int(os.environ.get("LOCAL_RANK", "0")),
            "distributed_init_method": "env://",
            "distributed_backend": "nccl" if torch.cuda.is_available() else "gloo",
        }
    return options


def _drop_torn(save_dir: Path) -> None:
    """Remove unreadable checkpoints, which on a full disk take the space for the next one."""
    for path in save_dir.glob("checkpoint*.pt"):
        try:
            torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        except Exception:  # damage can raise anything
            path.unlink()


class _QuietFile(logging.FileHandler):
    """Log file handler that ignores write errors, which the training itself reports."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Ignore the error."""


def run_fairseq(
    config: Any, log_file: Path, records: logging.Handler | None, companions: Companions, explain: Callable[[str], str] = str
) -> None:
    """Train until the last update, resuming from the newest usable checkpoint in the save directory.

    Args:
        config: from `fairseq_config`.
        log_file: file for fairseq's log.
        records: handler for the records of fairseq's progress bar.
        companions: files that must agree with a checkpoint.
        explain: formats the message about a numerical failure, whose location fairseq does not report.

    Raises:
        TrainingError: the loss became NaN, or a checkpoint does not fit.
        StoppedTrainingError: out of memory, full disk, or SIGTERM (after writing a checkpoint).
        SpeechFTError: errors of our own data, tasks and encoders.
    """
    save_dir = Path(config.checkpoint.save_dir)
    train = import_fairseq()
    from fairseq import checkpoint_utils
    from fairseq.distributed import utils as distributed_utils

    stop = StopRequest(config, train, companions.attach)
    with _logged_to(log_file, [stop] if records is None else [stop, records]):
        # fairseq keeps the best validation loss on the function object, across runs in one process.
        if hasattr(checkpoint_utils.save_checkpoint, "best"):
            del checkpoint_utils.save_checkpoint.best
        start = companions.resume_from(save_dir)
        if start is not None and start.updates >= config.optimization.max_update:
            return  # already complete; fairseq would add one more update
        if start is not None:
            config.checkpoint.restore_file = str(start.path)
        with stop.on_sigterm():
            try:
                distributed_utils.call_main(config, train.main)
                if torch.distributed.is_initialized():
                    # Otherwise its threads can abort the exit of a process whose training is complete.
                    torch.distributed.destroy_process_group()
            except SpeechFTError:
                raise
            except torch.OutOfMemoryError as error:
                raise StoppedTrainingError(
                    f"Out of memory: {error}. Lower batch_size or max_batch_seconds, and raise accumulate."
                ) from None
            except FloatingPointError as error:
                raise TrainingError(explain(str(error))) from error
            except Exception as error:
                if (unwritable := explain_unwritable(error, save_dir)) is None:
                    raise
                _drop_torn(save_dir)
                raise StoppedTrainingError(f"{unwritable} The last good checkpoint is kept; run the command again.") from error
            finally:
                # fairseq's checkpoint after an exception, which contains no more than the regular ones.
                (save_dir / "crash.pt").unlink(missing_ok=True)
                for unfinished in save_dir.glob("*.tmp"):
                    unfinished.unlink(missing_ok=True)
        if stop.requested:
            raise StoppedTrainingError("Stopped by SIGTERM after writing a checkpoint. Run the same command again to resume.")


def import_fairseq() -> Any:
    """Import fairseq's training program and our plug-in silently, and return the program's module."""
    root = logging.getLogger()
    placeholder = logging.NullHandler()
    # On import, fairseq configures the root logger for stdout, unless it has a handler.
    root.addHandler(placeholder)
    for logger in FAIRSEQ_LOGGERS:
        logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from fairseq_cli import train  # type: ignore[import-untyped]

            # These imports register our tasks, model, criterion, schedule and optimizer.
            from speechft.fairseq_plugin import criterion, model, optimization, pretraining, task  # noqa: F401
            from speechft.fairseq_plugin.safe_globals import allow_fairseq_checkpoints
    finally:
        root.removeHandler(placeholder)
        for logger in FAIRSEQ_LOGGERS:
            logger.propagate = True
    # Every time, since other code in the process may have changed torch's list.
    allow_fairseq_checkpoints()
    return train


@contextlib.contextmanager
def _logged_to(log_file: Path, listeners: Sequence[logging.Handler]) -> Iterator[None]:
    """Send fairseq's log only to `log_file` and `listeners`."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    handler = _QuietFile(log_file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handlers = [handler, *listeners]
    root_level = logging.getLogger().level
    for logger in FAIRSEQ_LOGGERS:
        logger.propagate = False
        logger.setLevel(logging.INFO)
        for item in handlers:
            logger.addHandler(item)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*pin_memory.*")
            warnings.filterwarnings("ignore", category=FutureWarning)
            yield
    finally:
        logging.getLogger().setLevel(root_level)
        for logger in FAIRSEQ_LOGGERS:
            logger.propagate = True
            for item in handlers:
                logger.removeHandler(item)
        handler.close()
