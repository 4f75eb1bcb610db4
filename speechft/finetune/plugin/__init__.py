"""fairseq plug-in of stage 1: importing it registers everything below with fairseq, in every process that trains.

`speechft_finetune` (task), `speechft_encoder_with_head` (model), `speechft_task_loss` (criterion), `speechft_linear_decay` (learning rate),
`speechft_adam` (optimizer) and `speechft_hubert_pretraining` (task).
"""

from __future__ import annotations

from speechft.finetune.plugin import criterion, model, optimization, pretraining, task
from speechft.finetune.plugin.safe_globals import allow_fairseq_checkpoints

allow_fairseq_checkpoints()

__all__ = ["criterion", "model", "optimization", "pretraining", "task"]
