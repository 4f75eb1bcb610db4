"""Learning rate and optimizer of stage 1, registered with fairseq."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer, register_optimizer
from fairseq.optim.lr_scheduler import FairseqLRScheduler, register_lr_scheduler

from speechft.finetune.method import multiplier


@dataclass
class LinearDecayConfig(FairseqDataclass):  # type: ignore[misc]
    """Options of `speechft_linear_decay`."""

    peak_lr: float = 1e-4
    total_updates: int = 1
    warmup: float = 0.1
    hold: float = 0.4


@register_lr_scheduler("speechft_linear_decay", dataclass=LinearDecayConfig)
class LinearDecay(FairseqLRScheduler):  # type: ignore[misc]
    """Learning rate schedule with warm-up, hold and linear decay.

    fairseq's own tri-stage schedule decays exponentially. fairseq calls `step_update` with the number of completed updates before the first
    update and after each one, so the value set here applies to the next update.
    """

    def step_update(self, num_updates: int) -> float:
        """Set and return the learning rate of the next update."""
        config = self.cfg
        rate: float = config.peak_lr * multiplier(num_updates, config.total_updates, config.warmup, config.hold)
        self.optimizer.set_lr(rate)
        return rate


@dataclass
class TorchAdamConfig(FairseqDataclass):  # type: ignore[misc]
    """Options of `speechft_adam`: none."""


@register_optimizer("speechft_adam", dataclass=TorchAdamConfig)
class TorchAdam(FairseqOptimizer):  # type: ignore[misc]
    """torch.optim.Adam without weight decay, as in s3prl.

    fairseq's own `adam` adds eps before the bias correction instead of after, so its first steps differ. A parameter without a gradient is
    skipped: its moments and step count start with its first gradient. On the CPU, the fused implementation is much faster.
    """

    def __init__(self, cfg: TorchAdamConfig, params: Any) -> None:
        super().__init__(cfg)
        parameters = list(params)
        fused = all(parameter.device.type == "cpu" for parameter in parameters)
        self._optimizer = torch.optim.Adam(parameters, lr=0.0, fused=fused, **self.optimizer_config)

    @property
    def optimizer_config(self) -> dict[str, Any]:
        """Settings that override those stored in a checkpoint."""
        return {"betas": (0.9, 0.999), "eps": 1e-8}

    def multiply_grads(self, c: float | torch.Tensor) -> None:
        """Multiply all gradients by `c`; skipped for 1, as without accumulation."""
        if torch.is_tensor(c) or c != 1:
            super().multiply_grads(c)
