"""Stage 1: fine-tune an encoder with a task head, keep the encoder that is best on dev."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from speechft.encoders.directory import read_config, read_tensors, seal_encoder, write_encoder
from speechft.encoders.families import nothing_learnt
from speechft.encoders.provenance import make_provenance
from speechft.errors import CheckpointError, ConfigError
from speechft.files import atomic_directory, exclusive_lock
from speechft.finetune.freezing import head_only_updates
from speechft.finetune.jobs import FinetuneJob, default_work_directory, is_main_process, job_identity, resolve_manifests
from speechft.finetune.progress import FairseqRecords, Progress, Row, TrainingLog
from speechft.finetune.trainer import fairseq_config, run_fairseq
from speechft.recipes import FinetuneRecipe
from speechft.tasks import get_task

TRAINING_LOG = "training.csv"
ENCODER_FILES = ("model.safetensors", "config.json")


def finetune(
    encoder_dir: str | Path,
    recipe: FinetuneRecipe,
    manifests: str | Path | Mapping[str, str | Path],
    out_dir: str | Path,
    work_dir: str | Path | None = None,
    *,
    keep_work: bool = False,
) -> None:
    """Fine-tune the encoder in `encoder_dir` (Speech-FT, stage 1; with the recipe's defaults Stable-FT).

    Runs on CUDA devices where there are, one process a device under torchrun, else on the CPU. An interrupted run, started again with the
    same arguments, goes on from its last validation; on the CPU it ends with the same weights as one that was not interrupted.

    Args:
        encoder_dir: encoder directory of theta0.
        recipe: see FinetuneRecipe. An update follows the mean loss of `accumulate` batches; gradients are clipped jointly over all
            trainable parameters.
        manifests: directory of manifests, or split -> manifest; "train" and "dev" are used.
        out_dir: encoder directory of theta', the encoder with the best score on dev, replaced when it exists. Its `training.csv` has loss,
            learning rate, gradient norm (before clipping) and phase of every update, and the scores of every validation.
        work_dir: keeps checkpoints while training; default: a hidden folder beside `out_dir`, named after recipe and inputs.
        keep_work: leave the work directory (checkpoints, fairseq's log) there.

    Raises:
        TrainingError: the loss became NaN, the work directory is in use or belongs to another job, SIGTERM came, memory ran out.
        CheckpointError, CorpusError, TaskError, AudioError: the inputs are not usable.
    """
    encoder_dir, out_dir = Path(encoder_dir).absolute(), Path(out_dir).absolute()
    if recipe.precision == "fp16" and not torch.cuda.is_available():
        raise ConfigError("precision: fp16 needs a CUDA device, and none is there. Use bf16 or fp32.")
    get_task(recipe.task, **recipe.task_options)
    splits = resolve_manifests(manifests, ("train", "dev"))
    read_tensors(encoder_dir / ENCODER_FILES[0])
    if (refusal := nothing_learnt(read_config(encoder_dir).model_type, encoder_dir, "fine-tune")) is not None:
        raise CheckpointError(refusal)
    inputs = {"base": encoder_dir / ENCODER_FILES[0], "config": encoder_dir / ENCODER_FILES[1], **splits}
    identity = job_identity(inputs, recipe.model_dump(mode="json"))
    directory = Path(work_dir).absolute() if work_dir is not None else default_work_directory(out_dir, identity)
    job = FinetuneJob(encoder_dir, splits, recipe, directory)
    if not is_main_process():
        run_fairseq(_config(job), job.work_dir / "fairseq.rank.log", None)
        return
    with exclusive_lock(directory.with_name(f"{directory.name}.lock"), "fine-tuning"):
        job.save(identity)
        _train(job)
        _write_output(job, out_dir)
        if not keep_work:
            shutil.rmtree(directory, ignore_errors=True)


def _config(job: FinetuneJob) -> Any:
    recipe = job.recipe
    groups: dict[str, dict[str, Any]] = {
        "task": {"_name": "speechft_finetune", "job": str(job.file)},
        "model": {"_name": "speechft_encoder_with_head"},
        "criterion": {"_name": "speechft_task_loss"},
        "optimizer": {"_name": "speechft_adam"},
        "lr_scheduler": {
            "_name": "speechft_linear_decay",
            "peak_lr": recipe.peak_lr,
            "total_updates": recipe.updates,
            "warmup": recipe.warmup,
            "hold": recipe.hold,
        },
        "common": {"amp": recipe.precision == "fp16"},
        # The batches are planned for the whole run (`batches`); fairseq must not shuffle them again in its first and only epoch.
        "dataset": {"batch_size": recipe.batch_size, "curriculum": 1},
        "optimization": {"update_freq": [recipe.accumulate], "clip_norm": recipe.clip_norm, "lr": [recipe.peak_lr]},
    }
    return fairseq_config(
        groups,
        job.work_dir / "checkpoints",
        total_updates=recipe.updates,
        validate_every=recipe.validate_every,
        seed=recipe.seed,
        valid_subset="dev",
    )


def _train(job: FinetuneJob) -> None:
    recipe = job.recipe
    metrics = get_task(recipe.task, **recipe.task_options).dev_metrics
    log = TrainingLog(job.log_path, ["loss", "lr", "grad_norm", "phase", "dev_loss", *(f"dev_{metric.key}" for metric in metrics)])
    progress = Progress(recipe.updates, f"{recipe.task} fine-tuning")
    head_only = head_only_updates(recipe.updates, recipe.head_only)
    scores: dict[str, str] = {}

    def on_update(update: int, values: Row) -> None:
        phase = "head" if update <= head_only else "all"
        # fairseq's own `lr` is already that of the next update.
        log.add(update, {"loss": values["loss"], "lr": values["used_lr"], "grad_norm": values.get("gnorm", ""), "phase": phase})
        progress.show(update, {"loss": f"{values['loss']:.4g}", **scores})

    def on_validation(update: int, values: Row) -> None:
        log.complete({"dev_loss": values["loss"], **{f"dev_{metric.key}": values[metric.key] for metric in metrics}})
        scores.update({f"dev {metric.key}": f"{metric.shown(values[metric.key]):.2f}" for metric in metrics})
        progress.show(update, scores, force=True)

    try:
        run_fairseq(_config(job), job.work_dir / "fairseq.log", FairseqRecords(on_update, on_validation, "dev"), _explain)
    finally:
        with contextlib.suppress(OSError):
            log.flush()
        progress.close()


def _explain(problem: str) -> str:
    from speechft.finetune.plugin.task import FinetuneTask

    return FinetuneTask.explain(problem)


def _write_output(job: FinetuneJob, out_dir: Path) -> None:
    from speechft.encoders import load_encoder
    from speechft.finetune.best import BestEncoder

    metric = get_task(job.recipe.task, **job.recipe.task_options).selection_metric
    best = BestEncoder(job.best_path, metric.higher_is_better)
    backbone = load_encoder(job.encoder).backbone
    backbone.load_state_dict(best.weights(), strict=True)
    inputs = {"base": job.encoder, **{f"manifest_{split}": path for split, path in job.manifests.items()}}
    selection = {"best_update": best.update, "selected_by": f"dev {metric.key}", "dev_score": best.score, "training_log": TRAINING_LOG}
    provenance = make_provenance("finetune", inputs, {**job.recipe.model_dump(mode="json"), **selection})
    with atomic_directory(out_dir) as temporary:
        write_encoder(temporary, backbone=backbone, like=job.encoder, provenance=provenance, where=str(out_dir))
        seal_encoder(temporary, provenance, name=out_dir.name)
        shutil.copyfile(job.log_path, temporary / TRAINING_LOG)
