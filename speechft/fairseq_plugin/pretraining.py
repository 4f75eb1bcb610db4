"""fairseq's HuBERT and wav2vec 2.0 pre-training, made reproducible and with an optional initial encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fairseq.data import BaseWrapperDataset, data_utils
from fairseq.data.data_utils import compute_mask_indices
from fairseq.logging import metrics
from fairseq.models.hubert.hubert import HubertModel
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Model
from fairseq.tasks import register_task
from fairseq.tasks.audio_pretraining import AudioPretrainingConfig, AudioPretrainingTask
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig, HubertPretrainingTask
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from speechft.encoders.families import get_family
from speechft.encoders.grouped_convolutions import keep_grouped_convolutions_exact
from speechft.errors import TrainingError
from speechft.finetune.method import freeze, frozen_parameters
from speechft.pretrain.augmentation import augment
from speechft.recipes.pretraining import Augmentation

EXTRACTOR = "feature_extractor."
MASK_EMBEDDING = "mask_emb"
VALIDATION = -1


class RepeatableDataset(BaseWrapperDataset):  # type: ignore[misc]
    """Data set whose batches and random crops depend only on seed, epoch and utterances.

    fairseq draws them from NumPy's global generator and keeps the batches of a process's first epoch, so a resumed run would get others.
    """

    can_reuse_epoch_itr_across_epochs = False
    supports_fetch_outside_dataloader = False

    def __init__(self, dataset: Any, seed: int, conditions: Augmentation | None = None) -> None:
        super().__init__(dataset)
        self.seed = seed
        self.conditions = conditions
        self.epoch = 1

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch number."""
        super().set_epoch(epoch)
        self.epoch = epoch

    def collater(self, samples: list[dict[str, Any]]) -> Any:
        """Augment if configured, crop and stack."""
        if self.conditions is not None:
            rng = np.random.default_rng([self.seed, self.epoch, *(sample["id"] for sample in samples)])
            waveforms = augment([sample["source"] for sample in samples], self.conditions, rng)
            samples = [{**sample, "source": waveform} for sample, waveform in zip(samples, waveforms, strict=True)]
        with data_utils.numpy_seed(self.seed, self.epoch, *(sample["id"] for sample in samples)):
            return super().collater(samples)


def _crop(waveform: Tensor, size: int) -> Tensor:
    """Crop `size` samples of a waveform (N,) at a random position."""
    start = np.random.randint(0, len(waveform) - size + 1)
    return waveform[start : start + size]


class _Repeatable(nn.Module):
    """Mixin for a fairseq model, with equal tensors and configuration, whose masks depend only on `mask_key` and the utterance.

    The forward pass, except projections and scores, runs in bf16 if the task requests it.
    """

    mask_key: tuple[int, int, Any] = (0, 0, None)
    """Seed, update and utterances, from which masks are seeded; fairseq's models would seed them from the operating system's entropy."""
    bf16 = False
    final_proj: nn.Module

    def forward(self, source: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run fairseq's forward pass, in bf16 if requested."""
        with torch.autocast(source.device.type, torch.bfloat16, enabled=self.bf16):
            return super().forward(source, *args, **kwargs)

    def apply_mask(self, x: Tensor, padding_mask: Tensor | None, *_others: Any, **_options: Any) -> tuple[Tensor, Tensor]:
        """Replace masked frames of x (B, T, D) by the mask embedding, and return x and the mask, bool (B, T)."""
        model: Any = self
        seed, update, utterances = self.mask_key
        mask = compute_mask_indices(
            (x.shape[0], x.shape[1]),
            padding_mask,
            model.mask_prob,
            model.mask_length,
            model.mask_selection,
            model.mask_other,
            min_masks=2,
            no_overlap=model.no_mask_overlap,
            min_space=model.mask_min_space,
            seed=seed,
            epoch=update,
            indices=utterances,
        )
        masked = torch.from_numpy(mask).to(x.device)
        x[masked] = model.mask_emb.to(x.dtype)
        return x, masked

    def use_bf16(self) -> None:
        """Use bf16 in the forward pass; predictions are still compared in float32."""
        self.bf16 = True
        keep_grouped_convolutions_exact(self)
        self.final_proj.register_forward_hook(lambda _module, _inputs, output: output.float())


class RepeatableHubert(_Repeatable, HubertModel):  # type: ignore[misc]
    """fairseq's HuBERT with reproducible masks."""

    logit_temp: float

    def compute_nce(self, x: Tensor, pos: Tensor, negs: Tensor) -> Tensor:
        """Compute logits (S, 1 + C), the cosine similarities over the temperature of x (S, D) with pos (S, D) and with all negs (C, S, D).

        fairseq compares every frame with its own copy of the embeddings. These are the same for all frames, so one matrix product suffices.
        """
        with torch.autocast(x.device.type, enabled=False):
            embeddings = negs[:, 0].float()
            scores = F.normalize(x.float(), dim=-1) @ F.normalize(embeddings, dim=-1).T / self.logit_temp
            right = (pos[:, None] == embeddings).all(-1)
            first = right.int().argmax(dim=-1, keepdim=True)
            return torch.cat([scores.gather(1, first), scores.masked_fill(right, float("-inf"))], dim=1)


class RepeatableWav2Vec2(_Repeatable, Wav2Vec2Model):  # type: ignore[misc]
    """fairseq's wav2vec 2.0 with reproducible masks."""


@dataclass
class _Continuation:
    """Options added to fairseq's tasks.

    `start`: safetensors file of the initial tensors. `fresh_head`: do not use the cluster head of that file. `head_only`: number of updates
    that train only the pre-training head. `freeze_extractor`: never train the convolutional extractor. `precision`: fp32 or bf16, of the
    forward pass. `augmentation`: JSON of the recipe's `augmentation`.
    """

    seed: int = 1337
    precision: str = "fp32"
    start: str | None = None
    fresh_head: bool = False
    head_only: int = 0
    freeze_extractor: bool = False
    augmentation: str | None = None


class _RepeatableTask:
    """Mixin for a pre-training task whose masks, crops, batches and dropped layers depend only on seed and update."""

    cfg: Any
    datasets: dict[str, Any]
    family: str

    def load_dataset(self, split: str, **kwargs: Any) -> None:
        """Load fairseq's data set and wrap it in a `RepeatableDataset`."""
        super().load_dataset(split, **kwargs)  # type: ignore[misc]
        conditions = Augmentation.model_validate_json(self.cfg.augmentation) if self.cfg.augmentation and split == "train" else None
        self.datasets[split] = RepeatableDataset(self.datasets[split], self.cfg.seed, conditions)

    def begin(self, model: _Repeatable) -> None:
        """Load the start's tensors into a new model, and unfreeze everything that will ever be trained, for the optimizer."""
        if self.cfg.precision == "bf16":
            model.use_bf16()
        if self.cfg.start:
            load_start(model, self.cfg.start, get_family(self.family).pretraining_only, fresh_head=self.cfg.fresh_head)
        self._freeze_for(model, completed_updates=0, head_only=0)
        if self.cfg.freeze_extractor:
            model.feature_grad_mult = 0.0  # type: ignore[assignment]  # fairseq then computes the features without gradient

    def _freeze_for(self, model: nn.Module, completed_updates: int, head_only: int) -> None:
        if not head_only and not self.cfg.freeze_extractor:
            return
        head = get_family(self.family).pretraining_only
        names = [name for name, _ in model.named_parameters() if not name.startswith(head)]
        extractor = [name for name in names if name.startswith(EXTRACTOR)]
        freeze(model, frozen_parameters(names, extractor, completed_updates, head_only, self.cfg.freeze_extractor))

    def train_step(
        self, sample: dict[str, Any], model: Any, criterion: Any, optimizer: Any, update_num: int, ignore_grad: bool = False
    ) -> Any:
        """Run fairseq's training step with all random draws seeded by the update."""
        metrics.log_scalar("used_lr", optimizer.get_lr(), weight=0)
        self._freeze_for(model, update_num, self.cfg.head_only)
        model.mask_key = (self.cfg.seed, update_num, sample["id"])
        with data_utils.numpy_seed(self.cfg.seed, update_num):  # numbers of masks, dropped layers
            return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)  # type: ignore[misc]

    def valid_step(self, sample: dict[str, Any], model: Any, criterion: Any) -> Any:
        """Run fairseq's validation step with the same masks and negatives in every validation."""
        model.mask_key = (self.cfg.seed, VALIDATION, sample["id"])
        with torch.random.fork_rng(), data_utils.numpy_seed(self.cfg.seed):
            torch.manual_seed(self.cfg.seed)
            return super().valid_step(sample, model, criterion)  # type: ignore[misc]


def load_start(model: nn.Module, path: str, head: tuple[str, ...], *, fresh_head: bool) -> None:
    """Load the tensors of a start into fairseq's model; pre-training-only tensors may be missing and then stay random.

    Raises:
        TrainingError: other tensors are missing, or tensors are unexpected or have wrong shapes.
    """
    tensors = {name: tensor for name, tensor in load_file(path).items() if not (fresh_head and name.startswith(head))}
    own = model.state_dict()
    missing = [name for name in own if name not in tensors and not name.startswith(head) and name != MASK_EMBEDDING]
    wrong = [name for name, tensor in tensors.items() if name not in own or own[name].shape != tensor.shape]
    if missing or wrong:
        shown = ", ".join([*missing, *wrong][:5])
        raise TrainingError(f"{path}: its tensors do not fit fairseq's model ({shown}). Import the checkpoint again and start from that.")
    model.load_state_dict({**own, **tensors})


@dataclass
class RepeatableHubertConfig(_Continuation, HubertPretrainingConfig):  # type: ignore[misc]
    """Options of `speechft_hubert_pretraining`."""


@register_task("speechft_hubert_pretraining", dataclass=RepeatableHubertConfig)
class RepeatableHubertTask(_RepeatableTask, HubertPretrainingTask):  # type: ignore[misc]
    """Reproducible version of fairseq's task `hubert_pretraining`."""

    family = "hubert"

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> RepeatableHubert:  # noqa: ARG002
        """Build the model of fairseq's configuration `hubert`."""
        model = RepeatableHubert(cfg, self.cfg, self.dictionaries)
        self.begin(model)
        return model


@dataclass
class RepeatableWav2Vec2Config(_Continuation, AudioPretrainingConfig):  # type: ignore[misc]
    """Options of `speechft_wav2vec2_pretraining`."""


@register_task("speechft_wav2vec2_pretraining", dataclass=RepeatableWav2Vec2Config)
class RepeatableWav2Vec2Task(_RepeatableTask, AudioPretrainingTask):  # type: ignore[misc]
    """Reproducible version of fairseq's task `audio_pretraining`."""

    family = "wav2vec2"

    def load_dataset(self, split: str, **kwargs: Any) -> None:
        """Load and crop as fairseq does, without code that torch has deprecated."""
        super().load_dataset(split, **kwargs)
        self.datasets[split].dataset.crop_to_max_size = _crop

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> RepeatableWav2Vec2:  # noqa: ARG002
        """Build the model of fairseq's configuration `wav2vec2`."""
        model = RepeatableWav2Vec2(cfg)
        self.begin(model)
        return model
