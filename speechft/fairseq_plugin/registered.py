"""Importing this module registers the plug-in with fairseq; every process that trains does so.

`speechft_finetune` (task), `speechft_encoder_with_head` (model), `speechft_task_loss` (criterion), `speechft_linear_decay` (learning rate),
`speechft_adam` (optimizer), `speechft_hubert_pretraining` and `speechft_wav2vec2_pretraining` (tasks).
"""

from speechft.fairseq_plugin import criterion, model, optimization, pretraining, task

__all__ = ["criterion", "model", "optimization", "pretraining", "task"]
