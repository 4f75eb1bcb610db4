"""fairseq's configuration for pre-training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from speechft.conventions import SAMPLE_RATE
from speechft.fairseq_plugin.trainer import fairseq_config, stable_schedule
from speechft.finetune.method import head_only_updates
from speechft.pretrain.data import LABELS
from speechft.pretrain.start import Start, quantizer_options
from speechft.recipes.pretraining import ContinuedPretrainRecipe, PretrainRecipe

ANNEALING = 0.7  # share of the updates during which the quantizer's temperature decreases, as published
_PUBLISHED_MASKS = {"hubert": (0.8, 10), "wav2vec2": (0.65, 10)}


@dataclass(frozen=True)
class PretrainingJob:
    """A pre-training job. `directory` contains data, start weights and checkpoints; `start` is None for random weights.

    For HuBERT: `label_rate` is labels per second; `fresh_head` is true if the labels differ from those of the start, whose cluster head is
    then not used.
    """

    directory: Path
    recipe: PretrainRecipe | ContinuedPretrainRecipe
    start: Start | None = None
    label_rate: float = 0.0
    fresh_head: bool = False

    @property
    def family(self) -> str:
        """Name of the encoder family."""
        if self.start is not None:
            return self.start.family
        assert isinstance(self.recipe, PretrainRecipe)
        return self.recipe.family

    @property
    def start_file(self) -> Path:
        """File with the start's tensors."""
        return self.directory / "start.safetensors"

    @property
    def head_only(self) -> int:
        """Number of updates that train only the pre-training head."""
        recipe = self.recipe
        return head_only_updates(recipe.updates, recipe.head_only) if isinstance(recipe, ContinuedPretrainRecipe) else 0


def pretraining_config(job: PretrainingJob) -> Any:
    """Build the configuration (omegaconf) for `run_fairseq`."""
    groups: dict[str, Any] = {"task": _task(job), "model": _model(job), "criterion": _criterion(job), **_training(job.recipe)}
    groups["dataset"] = {"max_tokens": int(job.recipe.batch_seconds * SAMPLE_RATE), "required_batch_size_multiple": 1}
    if not torch.cuda.is_available():
        # Without worker processes, fairseq reads ahead in a thread that draws from the same generator as masks and crops.
        groups["dataset"]["data_buffer_size"] = 0
    return fairseq_config(groups, job.directory / "checkpoints", job.recipe, valid_subset="valid")


def _task(job: PretrainingJob) -> dict[str, Any]:
    recipe = job.recipe
    task: dict[str, Any] = {
        "_name": f"speechft_{job.family}_pretraining",
        "data": str(job.directory / "data"),
        "sample_rate": SAMPLE_RATE,
        "max_sample_size": int(recipe.max_seconds * SAMPLE_RATE),
        "min_sample_size": None,
        "normalize": job.start.normalize if job.start else False,
        "seed": recipe.seed,
        "start": str(job.start_file) if job.start else None,
        "fresh_head": job.fresh_head,
        "head_only": job.head_only,
        "precision": getattr(recipe, "precision", "fp32"),
        "augmentation": recipe.augmentation.model_dump_json() if recipe.augmentation else None,
        "freeze_extractor": isinstance(recipe, ContinuedPretrainRecipe) and recipe.freeze_extractor,
    }
    if job.family == "hubert":
        return {**task, "labels": [LABELS], "label_rate": job.label_rate, "pad_audio": False, "random_crop": True}
    return {**task, "labels": None, "enable_padding": False}


def _model(job: PretrainingJob) -> dict[str, Any]:
    recipe, start = job.recipe, job.start
    if isinstance(recipe, PretrainRecipe):
        options = dict(start.model) if start else _random_model(recipe)
        options |= {"mask_prob": recipe.mask_prob, "mask_length": recipe.mask_length}
        if job.family == "wav2vec2":
            first, last = recipe.contrastive.temperature
            decay = (last / first) ** (1 / (ANNEALING * recipe.updates))
            options |= {"num_negatives": recipe.contrastive.negatives, "latent_temp": [first, last, decay]}
    else:
        assert start is not None
        options = dict(start.model)
        prob, length = _PUBLISHED_MASKS[job.family]
        options["mask_prob"] = recipe.mask_prob if recipe.mask_prob is not None else options.get("mask_prob", prob)
        options["mask_length"] = recipe.mask_length or options.get("mask_length", length)
        if job.family == "wav2vec2":
            # The quantizer's temperature has already decreased.
            last = float(options.get("latent_temp", (2.0, 0.5))[1])
            options["latent_temp"] = [last, last, 1.0]
    options |= {"_name": job.family, "mask_channel_prob": 0.0}
    if job.family == "hubert":
        # HuBERT's loss on unmasked frames has weight 0, so it is skipped.
        options |= {"label_rate": job.label_rate, "skip_masked": False, "skip_nomask": True}
    return options


def _random_model(recipe: PretrainRecipe) -> dict[str, Any]:
    size = recipe.architecture
    layers = ", ".join(f"({layer.channels}, {layer.kernel}, {layer.stride})" for layer in size.extractor)
    options: dict[str, Any] = {
        "conv_feature_layers": f"[{layers}]",
        "encoder_layers": size.layers,
        "encoder_embed_dim": size.hidden_size,
        "encoder_ffn_embed_dim": size.ffn_size,
        "encoder_attention_heads": size.attention_heads,
        "conv_pos": size.conv_pos,
        "conv_pos_groups": size.conv_pos_groups,
        "final_dim": size.final_dim,
        "dropout": size.dropout,
        "attention_dropout": size.dropout,
        "dropout_input": size.dropout,
        "dropout_features": size.dropout,
    }
    if recipe.family == "wav2vec2":
        options |= quantizer_options(recipe.contrastive)
    return options


def _criterion(job: PretrainingJob) -> dict[str, Any]:
    if job.family == "hubert":
        # Feature penalty of HuBERT's published configuration.
        return {"_name": "hubert", "pred_masked_weight": 1.0, "pred_nomask_weight": 0.0, "loss_weights": [10.0]}
    weights = [0.1, 10.0]
    if isinstance(job.recipe, PretrainRecipe):
        weights = [job.recipe.contrastive.diversity_weight, job.recipe.contrastive.penalty_weight]
    return {"_name": "wav2vec", "infonce": True, "loss_weights": weights, "log_keys": ["code_perplexity", "temp"]}


def _training(recipe: PretrainRecipe | ContinuedPretrainRecipe) -> dict[str, dict[str, Any]]:
    """Return optimizer, learning rate and clipping: as published for pre-training, or as in stage 1."""
    if isinstance(recipe, ContinuedPretrainRecipe):
        return stable_schedule(recipe)
    return {
        "optimizer": {"_name": "adam", "adam_betas": "(0.9, 0.98)", "adam_eps": 1e-6, "weight_decay": 0.01},
        "lr_scheduler": {"_name": "polynomial_decay", "warmup_updates": recipe.warmup_updates, "total_num_update": recipe.updates},
        "optimization": {"clip_norm": 10.0, "lr": [recipe.peak_lr]},
    }
