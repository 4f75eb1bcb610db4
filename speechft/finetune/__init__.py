"""Stage 1: fine-tune an encoder with a task head on fairseq's trainer, and keep the best encoder on dev.

`method` contains the paper's method, `stage1` the run: `finetune` writes a job into a work directory and runs fairseq's training program in
this process (or in each process of torchrun) with the plug-in `speechft.fairseq_plugin`. The data are lhotse cuts (`batches`). Every
`validate_every` updates, fairseq validates on dev, the encoder with the best score is kept (`best`), and a checkpoint is saved. An
interrupted run resumes from it and ends with the same weights.
"""

from typing import TYPE_CHECKING

from speechft.lazy import lazy_names

if TYPE_CHECKING:
    from speechft.finetune.stage1 import finetune

__all__ = ["finetune"]

__getattr__ = lazy_names(__name__, {"finetune": "stage1"})
