"""HuBERT pre-training from random weights with fairseq: first iteration, on clusters of MFCC frames."""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechft.encoders import import_checkpoint
from speechft.encoders.directory import seal_encoder
from speechft.encoders.provenance import make_provenance
from speechft.errors import ConfigError, TrainingError
from speechft.files import atomic_directory, exclusive_lock
from speechft.finetune.jobs import claim_work_directory, default_work_directory, is_main_process, job_identity, resolve_manifests
from speechft.finetune.kmeans_labels import LABEL_RATE
from speechft.finetune.pretraining_data import LABELS, SAMPLING_RATE, Utterances, choose_utterances, prepare_pretraining_data
from speechft.finetune.progress import FairseqRecords, Progress, Row, TrainingLog
from speechft.finetune.trainer import fairseq_config, newest_checkpoint, run_fairseq
from speechft.recipes import PretrainRecipe

LOGGER = logging.getLogger("speechft.finetune")
TRAINING_LOG = "training.csv"
NATS_PER_BIT = math.log(2)


def pretrain(
    recipe: PretrainRecipe,
    manifests: Sequence[str | Path],
    out_dir: str | Path,
    work_dir: str | Path | None = None,
    *,
    keep_work: bool = False,
) -> None:
    """Pre-train a HuBERT on the train splits of `manifests` (Hsu et al., 2021, first iteration) with fairseq's model and criterion.

    An interrupted run, started again with the same arguments, goes on where it was: audio, k-means, labels and training are separate steps.

    Args:
        recipe: see PretrainRecipe.
        manifests: directories of manifests; labels of the corpora are not looked at.
        out_dir: encoder directory with the weights after the last update, replaced when it exists. Its `training.csv` has loss (nats per
            masked frame), accuracy on masked frames, learning rate and gradient norm of every update, and the losses of every validation.
        work_dir: keeps audio, labels and checkpoints meanwhile; default: a hidden folder beside `out_dir`.
        keep_work: leave the work directory there.

    Raises:
        TrainingError: no audio, too few frames for the clusters, NaN, the work directory is in use or belongs to another job.
        ConfigError: the recipe contradicts itself.
        CorpusError, AudioError: the recordings are not usable.
    """
    if recipe.max_seconds > recipe.batch_seconds:
        raise ConfigError(f"batch_seconds: {recipe.batch_seconds:g} is less than one crop of max_seconds = {recipe.max_seconds:g}.")
    if recipe.min_seconds > recipe.max_seconds:
        raise ConfigError(f"min_seconds: {recipe.min_seconds:g} is more than max_seconds = {recipe.max_seconds:g}.")
    out_dir = Path(out_dir).absolute()
    inputs = {f"manifest_{number}": resolve_manifests(folder, ("train",))["train"] for number, folder in enumerate(manifests)}
    if not inputs:
        raise ConfigError("manifests: none given. Name at least one directory that `speechft prepare` made.")
    identity = job_identity(inputs, recipe.model_dump(mode="json"))
    directory = Path(work_dir).absolute() if work_dir is not None else default_work_directory(out_dir, identity)
    if not is_main_process():
        raise TrainingError("Pre-training runs in one process. Start it without torchrun.")
    with exclusive_lock(directory.with_name(f"{directory.name}.lock"), "pre-training"):
        claim_work_directory(directory, identity)
        utterances = choose_utterances(manifests, recipe)
        LOGGER.info(
            "pre-training on %d recordings (%.2f h), %d to validate, %d shorter than %g s left out",
            len(utterances.train),
            utterances.hours,
            len(utterances.valid),
            utterances.too_short,
            recipe.min_seconds,
        )
        prepare_pretraining_data(directory / "data", utterances, recipe)
        _train(directory, recipe)
        _write_output(directory, out_dir, recipe, inputs, utterances)
        if not keep_work:
            shutil.rmtree(directory, ignore_errors=True)


def _config(directory: Path, recipe: PretrainRecipe) -> Any:
    size = recipe.architecture
    layers = ", ".join(f"({layer.channels}, {layer.kernel}, {layer.stride})" for layer in size.extractor)
    groups: dict[str, dict[str, Any]] = {
        "task": {
            "_name": "speechft_hubert_pretraining",
            "data": str(directory / "data"),
            "labels": [LABELS],
            "label_rate": float(LABEL_RATE),
            "sample_rate": SAMPLING_RATE,
            "max_sample_size": int(recipe.max_seconds * SAMPLING_RATE),
            "min_sample_size": None,
            "pad_audio": False,
            "random_crop": True,
            "seed": recipe.seed,
        },
        "model": {
            "_name": "hubert",
            "label_rate": float(LABEL_RATE),
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
            "mask_prob": recipe.mask_prob,
            "mask_length": recipe.mask_length,
            # HuBERT weighs the loss on frames without a mask by 0, so it need not be computed.
            "skip_nomask": True,
        },
        # The penalty on large features is that of HuBERT's published configuration.
        "criterion": {"_name": "hubert", "pred_masked_weight": 1.0, "pred_nomask_weight": 0.0, "loss_weights": [10.0]},
        "optimizer": {"_name": "adam", "adam_betas": "(0.9, 0.98)", "adam_eps": 1e-6, "weight_decay": 0.01},
        "lr_scheduler": {"_name": "polynomial_decay", "warmup_updates": recipe.warmup_updates, "total_num_update": recipe.updates},
        "dataset": {"max_tokens": int(recipe.batch_seconds * SAMPLING_RATE), "required_batch_size_multiple": 1},
        "optimization": {"clip_norm": 10.0, "lr": [recipe.peak_lr]},
    }
    return fairseq_config(
        groups,
        directory / "checkpoints",
        total_updates=recipe.updates,
        validate_every=recipe.validate_every,
        seed=recipe.seed,
        valid_subset="valid",
    )


def _train(directory: Path, recipe: PretrainRecipe) -> None:
    log = TrainingLog(directory / TRAINING_LOG, ["loss_m", "accuracy_m", "lr", "grad_norm", "valid_loss_m", "valid_accuracy_m"])
    progress = Progress(recipe.updates, "HuBERT pre-training")

    def on_update(update: int, values: Row) -> None:
        loss, accuracy = _masked(values)
        log.add(update, {"loss_m": loss, "accuracy_m": accuracy, "lr": values["used_lr"], "grad_norm": values.get("gnorm", "")})
        progress.show(update, {"loss": loss, "accuracy": accuracy})

    def on_validation(update: int, values: Row) -> None:
        loss, accuracy = _masked(values)
        log.complete({"valid_loss_m": loss, "valid_accuracy_m": accuracy})
        progress.show(update, {"valid loss": loss, "valid accuracy": accuracy}, force=True)

    try:
        records = FairseqRecords(on_update, on_validation, "valid")
        run_fairseq(_config(directory, recipe), directory / "fairseq.log", records, _explain)
    finally:
        with contextlib.suppress(OSError):
            log.flush()
        progress.close()


def _explain(problem: str) -> str:
    return f"Pre-training: {problem}. Lower peak_lr or raise warmup_updates."


def _masked(values: Row) -> tuple[str, str]:
    """Loss in nats and accuracy on masked frames; fairseq reports bits."""
    return f"{values['loss_m_0'] * NATS_PER_BIT:.4f}", f"{values['correct_m_0']:.4f}"


def _write_output(directory: Path, out_dir: Path, recipe: PretrainRecipe, inputs: dict[str, Path], utterances: Utterances) -> None:
    newest = newest_checkpoint(directory / "checkpoints")
    if newest is None or newest[1] < recipe.updates:
        raise TrainingError(f"{directory}: no readable checkpoint of the last update. Remove the directory and run this again.")
    facts = {"recordings": len(utterances.train), "hours": round(utterances.hours, 4), "too_short": utterances.too_short}
    provenance = make_provenance("pretrain", inputs, {**recipe.model_dump(mode="json"), "data": facts, "training_log": TRAINING_LOG})
    with atomic_directory(out_dir) as temporary:
        import_checkpoint(newest[0], temporary, family="hubert", format="fairseq")
        seal_encoder(temporary, provenance, name=out_dir.name)
        shutil.copyfile(directory / TRAINING_LOG, temporary / TRAINING_LOG)
