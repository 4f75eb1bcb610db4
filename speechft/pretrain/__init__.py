"""Pre-train HuBERT and wav2vec 2.0 with fairseq, from random weights (`pretrain`) or from an encoder (`continue_pretraining`)."""

from typing import TYPE_CHECKING

from speechft.lazy import lazy_names

if TYPE_CHECKING:
    from speechft.pretrain.pretraining import continue_pretraining, pretrain

__all__ = ["continue_pretraining", "pretrain"]

__getattr__ = lazy_names(__name__, {"continue_pretraining": "pretraining", "pretrain": "pretraining"})
