"""Stage 1: fine-tune an encoder with a task head, and keep the best encoder on dev."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from speechft.encoders.checkpoints.on_the_fly import encoder_directory
from speechft.encoders.directory.layout import (
    CONFIG,
    HEAD,
    TRAINING_LOG,
    WEIGHTS,
    check_recorded_hashes,
    read_config,
    read_tensors,
    seal_encoder,
    write_encoder,
)
from speechft.encoders.directory.provenance import Kind, made_already, make_provenance
from speechft.encoders.families import check_learned, check_padding
from speechft.errors import ConfigError, MissingGpuError
from speechft.fairseq_plugin.jobs import FinetuneJob, choose_work_directory, is_main_process, job_identity, remove_work, resolve_manifests
from speechft.fairseq_plugin.progress import FairseqRecords, Progress, Row, Scalars, TrainingLog
from speechft.fairseq_plugin.resuming import Companions
from speechft.fairseq_plugin.trainer import LOGGER, fairseq_config, run_fairseq, stable_schedule
from speechft.files.atomic import atomic_directory
from speechft.files.locks import exclusive_lock
from speechft.files.outputs import check_added
from speechft.finetune.early import FOLDER as EARLY_FOLDER
from speechft.finetune.method import early_updates, head_only_updates
from speechft.finetune.parts import Parts
from speechft.finetune.splits import needed_splits
from speechft.recipes.alphas import alpha_text
from speechft.recipes.finetuning import CACHE_GB, FinetuneRecipe
from speechft.recipes.modules import refuse_class
from speechft.requirements import require

MADE_BY: Kind = "finetune"
# Our column -> fairseq name.
_LOGGED = {"loss": "loss", "penalty": "penalty", "lr": "used_lr", "grad_norm": "gnorm"}


def finetune(
    encoder_dir: str | Path,
    recipe: FinetuneRecipe,
    manifests: str | Path | Mapping[str, str | Path],
    out_dir: str | Path,
    work_dir: str | Path | None = None,
    *,
    jointly: Mapping[str, str | Path | Mapping[str, str | Path]] | None = None,
    tensorboard: str | Path | None = None,
    keep_work: bool = False,
    cache_gb: float = CACHE_GB,
) -> None:
    """Fine-tune the encoder in `encoder_dir` (stage 1 of Speech-FT; with the recipe's defaults, Stable-FT).

    Runs on CUDA devices if available, one process per device under torchrun, else on the CPU. An interrupted run, started again with the
    same arguments, resumes from its last validation; on the CPU it ends with the same weights as an uninterrupted run.

    Args:
        encoder_dir: encoder directory of theta0, or a transformers directory.
        recipe: see FinetuneRecipe. An update uses the mean loss of `accumulate` batches; gradients are clipped jointly over all trainable
            parameters.
        manifests: directory of manifests, or split -> manifest; uses "train" and "dev", or only "train" of a corpus with folds.
        out_dir: encoder directory of theta', the encoder with the best dev score; an older one of a fine-tuning is replaced. Its
            `training.csv` has loss, learning rate, gradient norm (before clipping) and phase of every update, and the scores of every
            validation. Its folder `early` has the recipe's early checkpoints; with adapters, its folder `adapter` has files for peft.
        work_dir: folder for checkpoints during training; default: a hidden folder next to `out_dir`, named by a hash of recipe and inputs.
        jointly: for a recipe with several tasks, name of each further task -> its manifests.
        tensorboard: folder for TensorBoard's files; default: none are written.
        keep_work: keep the work directory (checkpoints, fairseq's log).
        cache_gb: most GB of frozen extractor features to cache in the work directory, for recordings that are not cropped at random. It
            affects only the time of a training.

    Raises:
        TrainingError: the loss became NaN, the work directory is in use or belongs to another job, SIGTERM was received, or memory ran out.
        CheckpointError, CorpusError, TaskError, AudioError: an input cannot be used.
        OutputError: `out_dir` or `work_dir` contains something else, or is an input.
    """
    refuse_class(encoder_dir)
    require("fairseq")
    if recipe.precision == "fp16" and not torch.cuda.is_available():
        raise MissingGpuError("precision: fp16 needs a CUDA device, and there is none. Use bf16 or fp32.")
    parts, jointly = Parts(recipe), jointly or {}
    if set(jointly) != set(recipe.jointly):
        wanted, found = (", ".join(names) for names in (recipe.jointly or ["no task"], jointly or ["none"]))
        raise ConfigError(
            f"jointly: the recipe has {wanted} besides {recipe.task}, manifests are given for {found}. Give them for each task."
        )
    corpora = {recipe.task: manifests, **jointly}
    out_dir = Path(out_dir).absolute()
    with encoder_directory(encoder_dir) as opened:
        theta0 = opened.absolute()
        splits = {name: resolve_manifests(corpora[name], needed_splits(part.fold)) for name, part in parts.recipes.items()}
        read_tensors(theta0 / WEIGHTS)
        check_recorded_hashes(theta0)
        family = read_config(theta0).model_type
        check_learned(family, theta0, "fine-tune")
        check_padding(family, recipe.padding)
        inputs = {"base": theta0 / WEIGHTS, "config": theta0 / CONFIG, **_manifest_files(splits)}
        identity = job_identity(inputs, recipe.model_dump(mode="json"))
        given = [encoder_dir]
        for part in corpora.values():
            given += [part] if isinstance(part, str | Path) else part.values()
        directory = choose_work_directory(work_dir, out_dir, identity, MADE_BY, given)
        if tensorboard is not None:
            check_added(tensorboard, given, out_dir)
        job = FinetuneJob(encoder=theta0, manifests=splits, recipe=recipe, work_dir=directory, cache_gb=cache_gb)
        if not is_main_process():
            run_fairseq(_config(job), job.work_dir / "fairseq.rank.log", None, Companions(None, job.kept))
            return
        with exclusive_lock(directory.with_name(f"{directory.name}.lock"), "fine-tuning") as waited:
            if waited and made_already(out_dir, MADE_BY, _inputs(job), recipe.model_dump(mode="json")):
                LOGGER.info("%s: was finished by another process", out_dir)
                return
            job.save(identity)
            _train(job, parts, Path(tensorboard) if tensorboard is not None else None)
            _write_output(job, out_dir)
            if not keep_work:
                remove_work(directory)


def _config(job: FinetuneJob) -> Any:
    recipe = job.recipe
    groups: dict[str, dict[str, Any]] = {
        "task": {"_name": "speechft_finetune", "job": str(job.file)},
        "model": {"_name": "speechft_encoder_with_head"},
        "criterion": {"_name": "speechft_task_loss"},
        **stable_schedule(recipe),
        "common": {"amp": recipe.precision == "fp16"},
        # Batches are planned for the whole run (`batches`); fairseq must not shuffle them in its only epoch.
        "dataset": {"batch_size": recipe.batch_size or 1, "curriculum": 1},
    }
    groups["optimization"]["update_freq"] = [recipe.accumulate]
    return fairseq_config(groups, job.work_dir / "checkpoints", recipe, valid_subset="dev")


def _train(job: FinetuneJob, parts: Parts, tensorboard: Path | None) -> None:
    recipe = job.recipe
    metrics = parts.dev_metrics
    columns = ["loss", *(["penalty"] if recipe.l2 else []), "lr", "grad_norm", "phase", "dev_loss"]
    log = TrainingLog(job.log_path, [*columns, *(f"dev_{metric.key}" for metric in metrics)])
    scalars = Scalars(tensorboard)
    progress = Progress(recipe.updates, f"{' + '.join(parts.tasks)} fine-tuning")
    head_only = head_only_updates(recipe.updates, recipe.head_only)
    scores: dict[str, str] = {}

    def on_update(update: int, values: Row) -> None:
        phase = "head" if update <= head_only else "all"
        # fairseq's own `lr` is that of the next update.
        row = {name: values[key] for name, key in _LOGGED.items() if key in values}
        log.add(update, {**row, "phase": phase})
        scalars.add(update, row)
        progress.show(update, {"loss": f"{values['loss']:.4g}", **scores})

    def on_validation(update: int, values: Row) -> None:
        row = {"dev_loss": values["loss"], **{f"dev_{metric.key}": values[metric.key] for metric in metrics}}
        log.complete(update, row)
        scalars.add(update, row)
        scores.update({f"dev {metric.key}": f"{metric.of_fraction(values[metric.key]):.2f}" for metric in metrics})
        progress.show(update, scores, force=True)

    with closing(log), closing(scalars), closing(progress):
        records = FairseqRecords(on_update, on_validation, "dev")
        run_fairseq(_config(job), job.work_dir / "fairseq.log", records, Companions(log, job.kept), _explain)


def _explain(problem: str) -> str:
    from speechft.fairseq_plugin.task import FinetuneTask

    return FinetuneTask.explain(problem)


def _manifest_files(splits: Mapping[str, Mapping[str, Path]]) -> dict[str, Path]:
    """Return role -> manifest; the roles of further tasks include their names."""
    main, *further = splits
    files = {f"manifest_{split}": path for split, path in splits[main].items()}
    return files | {f"manifest_{name}_{split}": path for name in further for split, path in splits[name].items()}


def _inputs(job: FinetuneJob) -> dict[str, Path]:
    return {"base": job.encoder, **_manifest_files(job.manifests)}


def _write_output(job: FinetuneJob, out_dir: Path) -> None:
    from speechft.encoders import load_encoder
    from speechft.finetune.adapter_files import ADAPTER_FOLDER, write_adapter
    from speechft.finetune.best import BestEncoder, split_kept

    metric = Parts(job.recipe).selection_metric
    best = BestEncoder(job.best_path, metric.higher_is_better)
    backbone = load_encoder(job.encoder).backbone
    inputs = _inputs(job)

    def write(folder: Path, weights: Mapping[str, torch.Tensor], facts: Mapping[str, Any], name: str) -> None:
        plain, adapter, head = split_kept(weights)
        backbone.load_state_dict(plain, strict=True)
        provenance = make_provenance("finetune", inputs, {**job.recipe.model_dump(mode="json"), **facts})
        write_encoder(folder, backbone=backbone, like=job.encoder, provenance=provenance, where=str(out_dir))
        save_file(head, folder / HEAD)
        seal_encoder(folder, provenance, name=name)
        if adapter and job.recipe.adapters:
            write_adapter(folder / ADAPTER_FOLDER, adapter, job.recipe.adapters)

    with atomic_directory(out_dir, MADE_BY) as temporary:
        selection = {"best_update": best.update, "selected_by": f"dev {metric.key}", "dev_score": best.score}
        write(temporary, best.weights(), {**selection, "training_log": TRAINING_LOG}, out_dir.name)
        shutil.copyfile(job.log_path, temporary / TRAINING_LOG)
        (temporary / EARLY_FOLDER).mkdir()
        for share, update in early_updates(job.recipe).items():
            facts = {"early": share, "stopped_after_updates": update}
            write(temporary / EARLY_FOLDER / alpha_text(share), load_file(job.early_path(share)), facts, f"{out_dir.name}, early")
