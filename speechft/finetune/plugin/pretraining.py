"""fairseq's HuBERT pre-training, made repeatable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from fairseq.data import BaseWrapperDataset, data_utils
from fairseq.data.data_utils import compute_mask_indices
from fairseq.logging import metrics
from fairseq.models.hubert.hubert import HubertModel
from fairseq.tasks import register_task
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig, HubertPretrainingTask
from torch import Tensor


class RepeatableDataset(BaseWrapperDataset):  # type: ignore[misc]
    """Batches and random crops that depend on seed, epoch and utterances only.

    fairseq draws them from numpy's global generator and keeps the batches of the first epoch that a process sees, so that a restarted run
    would go on with others.
    """

    can_reuse_epoch_itr_across_epochs = False
    supports_fetch_outside_dataloader = False

    def __init__(self, dataset: Any, seed: int) -> None:
        super().__init__(dataset)
        self.seed = seed
        self.epoch = 1

    def set_epoch(self, epoch: int) -> None:
        """Receive the epoch number."""
        super().set_epoch(epoch)
        self.epoch = epoch

    def collater(self, samples: list[dict[str, Any]]) -> Any:
        """Crop and stack."""
        with data_utils.numpy_seed(self.seed, self.epoch, *(sample["id"] for sample in samples)):
            return super().collater(samples)


class RepeatableHubert(HubertModel):  # type: ignore[misc]
    """HuBERT of fairseq, of the same tensors and configuration, with masks that depend on `mask_key` and the utterance.

    fairseq seeds masks from the operating system's entropy unless it is given seed, epoch and utterances, and its HuBERT gives none.
    """

    mask_key: tuple[int, int, Any] = (0, 0, None)

    def apply_mask(self, x: Tensor, padding_mask: Tensor | None, target_list: Any) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Replace masked frames of x (B, T, D) by the mask embedding; returns x and the mask, bool (B, T)."""
        seed, update, utterances = self.mask_key
        mask = compute_mask_indices(
            (x.shape[0], x.shape[1]),
            padding_mask,
            self.mask_prob,
            self.mask_length,
            self.mask_selection,
            self.mask_other,
            min_masks=2,
            no_overlap=self.no_mask_overlap,
            min_space=self.mask_min_space,
            seed=seed,
            epoch=update,
            indices=utterances,
        )
        masked = torch.from_numpy(mask).to(x.device)
        x[masked] = self.mask_emb
        return x, masked


@dataclass
class RepeatablePretrainingConfig(HubertPretrainingConfig):  # type: ignore[misc]
    """Options of `speechft_hubert_pretraining`."""

    seed: int = 1337


@register_task("speechft_hubert_pretraining", dataclass=RepeatablePretrainingConfig)
class RepeatablePretrainingTask(HubertPretrainingTask):  # type: ignore[misc]
    """`hubert_pretraining` whose masks, crops and batches depend on the seed and the update alone."""

    def load_dataset(self, split: str, **kwargs: Any) -> None:
        """Load as fairseq does, then wrap."""
        super().load_dataset(split, **kwargs)
        self.datasets[split] = RepeatableDataset(self.datasets[split], self.cfg.seed)

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> RepeatableHubert:  # noqa: ARG002
        """The model of fairseq's configuration `hubert`."""
        return RepeatableHubert(cfg, self.cfg, self.dictionaries)

    def train_step(
        self, sample: dict[str, Any], model: Any, criterion: Any, optimizer: Any, update_num: int, ignore_grad: bool = False
    ) -> Any:
        """As fairseq, with masks seeded by the update."""
        metrics.log_scalar("used_lr", optimizer.get_lr(), weight=0)
        model.mask_key = (self.cfg.seed, update_num, sample["id"])
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def valid_step(self, sample: dict[str, Any], model: Any, criterion: Any) -> Any:
        """As fairseq, with the same masks in every validation."""
        model.mask_key = (self.cfg.seed, -1, sample["id"])
        return super().valid_step(sample, model, criterion)
