"""fairseq plug-in of stage 1: importing it registers everything below with fairseq, in every process that trains.

`speechft_finetune` (task), `speechft_encoder_with_head` (model), `speechft_task_loss` (criterion), `speechft_linear_decay` (learning rate),
`speechft_adam` (optimizer), `speechft_hubert_pretraining` and `speechft_wav2vec2_pretraining` (tasks).
"""

from __future__ import annotations

from speechft.finetune.plugin import criterion, model, optimization, pretraining, task

__all__ = ["criterion", "model", "optimization", "pretraining", "task"]
