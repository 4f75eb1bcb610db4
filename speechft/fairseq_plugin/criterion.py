"""The loss of stage 1: the task's loss, one per batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from torch import Tensor

from speechft.fairseq_plugin.model import unwrapped

STATISTIC = "statistic_"


@dataclass
class TaskLossConfig(FairseqDataclass):  # type: ignore[misc]
    """Options of `speechft_task_loss`: none."""


@register_criterion("speechft_task_loss", dataclass=TaskLossConfig)
class TaskLoss(FairseqCriterion):  # type: ignore[misc]
    """`task.loss` of a batch plus, in training, any penalty on the encoder's distance, with sample size 1.

    fairseq divides summed gradients by summed sample sizes. With size 1 per batch, an update over several batches uses the mean of their
    losses, as in s3prl, which divides each loss by the number of batches.
    """

    def forward(self, model: Any, sample: dict[str, Any], reduce: bool = True) -> tuple[Tensor, int, dict[str, float | Tensor]]:  # noqa: ARG002
        """Compute loss (scalar), sample size 1, and values to log.

        Values stay on the device, to avoid synchronizing a GPU in each batch. Therefore training only records the loss for the task, which
        refuses NaN before the update.

        Raises:
            TrainingError: the loss of a dev batch is NaN or infinite; names the update and the utterances.
        """
        task, part = self.task, sample["part"]
        speech_task = task.parts.tasks[part]
        logits, lengths = model(sample["speech"], part)
        with torch.autocast(logits.device.type, enabled=False):
            loss = speech_task.loss(logits, lengths, sample["targets"])
        value = loss.detach().double()
        task.losses.append((sample["ids"], value))
        logged: dict[str, float | Tensor] = {"loss": value, "weight": 1, "nsentences": sample["nsentences"]}
        if not model.training:
            task.refuse_nan()
            logged |= {"loss": float(value) * sample["nsentences"], "weight": sample["nsentences"]}
            statistics = speech_task.statistics(logits, lengths, sample["targets"], task.labels[part])
            logged.update({f"{STATISTIC}{part}/{key}": float(count) for key, count in statistics.items()})
        elif (penalty := unwrapped(model).penalty) is not None:
            distance = penalty()
            logged["penalty"] = distance.detach().double()
            loss = loss + distance
        return loss, 1, logged

    @staticmethod
    def reduce_metrics(logging_outputs: Sequence[dict[str, float]]) -> None:
        """Log the mean loss, over batches in training and utterances in validation, and the sum of every statistic."""
        weight = sum(float(output.get("weight", 0)) for output in logging_outputs)
        for key in ("loss", "penalty"):
            if weight and any(key in output for output in logging_outputs):
                metrics.log_scalar(key, sum(float(output.get(key, 0.0)) for output in logging_outputs) / weight, weight)
        for key in sorted({key for output in logging_outputs for key in output if key.startswith(STATISTIC)}):
            metrics.log_scalar_sum(key, sum(float(output.get(key, 0.0)) for output in logging_outputs))

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Return true: all values are counts or sums."""
        return True


def nan_message(what: str, completed_updates: int, utterances: Sequence[str]) -> str:
    """Format the error for a training with NaN or Inf."""
    return (
        f"Update {completed_updates + 1}: {what}. Utterances of the batch: {', '.join(utterances)}. "
        "Listen to them, lower peak_lr, or use precision fp32."
    )
