"""The fairseq task of stage 1: data, freezing, the best encoder on dev."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask, register_task

from speechft.corpora import load_split
from speechft.finetune.batches import CutDataset
from speechft.finetune.best import BestEncoder
from speechft.finetune.freezing import head_only_updates
from speechft.finetune.jobs import FinetuneJob
from speechft.finetune.plugin.criterion import STATISTIC, nan_message
from speechft.finetune.plugin.model import EncoderWithHead
from speechft.tasks import get_task


def unwrapped(model: Any) -> EncoderWithHead:
    """The model itself, out of the wrappers that fairseq puts around it when several processes train."""
    while not isinstance(model, EncoderWithHead):
        model = model.module
    return model


@dataclass
class FinetuneTaskConfig(FairseqDataclass):  # type: ignore[misc]
    """Options of `speechft_finetune`."""

    job: str = field(default="", metadata={"help": "the job's file in its work directory"})


@register_task("speechft_finetune", dataclass=FinetuneTaskConfig)
class FinetuneTask(FairseqTask):  # type: ignore[misc]
    """One of our tasks, trained by fairseq.

    `completed_updates` and `utterances` tell which update is in progress and what it has heard so far.
    """

    running: ClassVar[FinetuneTask | None] = None
    """The task of this process: what fairseq raises says nothing of the batch."""

    def __init__(self, cfg: FinetuneTaskConfig) -> None:
        super().__init__(cfg)
        self.job = FinetuneJob.load(Path(cfg.job))
        recipe = self.job.recipe
        self.speech_task = get_task(recipe.task, **recipe.task_options)
        self.train_cuts = load_split(self.job.manifests, "train")
        self.labels = self.speech_task.label_set(self.train_cuts)
        self.head_only = head_only_updates(recipe.updates, recipe.head_only)
        self.best = BestEncoder(self.job.best_path, self.speech_task.selection_metric.higher_is_better)
        self.completed_updates = 0
        self.utterances: list[str] = []
        FinetuneTask.running = self

    def load_dataset(self, split: str, **kwargs: Any) -> None:  # noqa: ARG002
        """Make the data set of "train" (the planned run) or "dev" (each utterance once)."""
        recipe = self.job.recipe
        limits: dict[str, Any] = {"batch_size": recipe.batch_size, "max_batch_seconds": recipe.max_batch_seconds}
        if split == "train":
            world_size = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
            num_batches = recipe.updates * recipe.accumulate * world_size
            self.datasets[split] = CutDataset(
                self.train_cuts, split, self.speech_task, self.labels, num_batches=num_batches, seed=recipe.seed, **limits
            )
        else:
            self.datasets[split] = CutDataset(load_split(self.job.manifests, split), split, self.speech_task, self.labels, **limits)

    def train_step(
        self, sample: dict[str, Any], model: Any, criterion: Any, optimizer: Any, update_num: int, ignore_grad: bool = False
    ) -> Any:
        """Forward and backward of one batch, with the parts frozen that this update must not change."""
        if update_num != self.completed_updates:
            self.utterances = []
        self.completed_updates = update_num
        self.utterances += sample["ids"]
        # Here and not in `set_num_updates`: fairseq calls that on a restart before it collects the parameters of the optimizer.
        unwrapped(model).freeze_for(update_num, self.head_only)
        metrics.log_scalar("used_lr", optimizer.get_lr(), weight=0)
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    @classmethod
    def explain(cls, problem: str) -> str:
        """A message about `problem` in the update in progress."""
        task = cls.running
        return problem if task is None else nan_message(problem, task.completed_updates, list(dict.fromkeys(task.utterances)))

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]], criterion: Any) -> None:
        """Log what the criterion reports; fairseq's own adds words per second, and warns that there are none."""
        criterion.__class__.reduce_metrics(logging_outputs)

    def post_validate(self, model: Any, stats: dict[str, Any], agg: Any) -> None:  # noqa: ARG002
        """Turn the summed statistics of dev into scores and keep the encoder if it is the best so far."""
        statistics = {key.removeprefix(STATISTIC): float(stats.pop(key)) for key in list(stats) if key.startswith(STATISTIC)}
        scores = self.speech_task.scores(statistics)
        stats.update(scores)
        if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            update = int(stats["num_updates"])
            self.best.consider(model.encoder.backbone, update, scores[self.speech_task.selection_metric.key])

    def max_positions(self) -> None:
        """Any length."""
        return

    @property
    def source_dictionary(self) -> None:
        """Not used: inputs are waveforms."""
        return

    @property
    def target_dictionary(self) -> None:
        """Not used: see `labels`."""
        return
