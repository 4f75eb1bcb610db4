"""Stage 1 on fairseq's trainer, and pre-training.

`finetune` writes the job into a work directory and runs fairseq's training program in this process (or in each process that torchrun
started). Our plug-in (`plugin`) gives it: a task whose data are lhotse cuts (`batches`), a model of encoder + head, the loss of the task,
the linear-decay schedule (`schedule`), and Adam. Before each batch the task freezes what the coming update must not change (`freezing`):
at first the whole encoder, always its convolutional extractor. Every `validate_every` updates fairseq validates on dev; the encoder with
the best score is kept (`best`), then fairseq saves a checkpoint. A job that died goes on from the newest readable checkpoint (`trainer`)
and ends with the same weights. At the end the best encoder becomes an encoder directory; the head and the work directory are thrown away.
`pretrain` does the same with fairseq's own HuBERT and wav2vec 2.0 (`pretraining`), on targets of `kmeans_labels` and `layer_labels`;
`continue_pretraining` goes on from an encoder, with the schedule of stage 1 and without labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechft.finetune.pretraining import continue_pretraining, pretrain
    from speechft.finetune.stage1 import finetune

__all__ = ["continue_pretraining", "finetune", "pretrain"]

# fairseq, torch and transformers take seconds to import, so each name is imported when it is first used.
_MODULES = {
    "continue_pretraining": "speechft.finetune.pretraining",
    "finetune": "speechft.finetune.stage1",
    "pretrain": "speechft.finetune.pretraining",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
