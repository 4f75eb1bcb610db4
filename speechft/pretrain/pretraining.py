"""Pre-training with fairseq: HuBERT and wav2vec 2.0, from random weights or from an encoder."""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from speechft.encoders import import_checkpoint
from speechft.encoders.checkpoints.on_the_fly import encoder_directory
from speechft.encoders.directory.layout import PRETRAINING_ONLY, SOURCE_CONFIG, TRAINING_LOG, WEIGHTS, read_source_config, seal_encoder
from speechft.encoders.directory.provenance import Kind, made_already, make_provenance
from speechft.errors import ConfigError, TrainingError, missing_file
from speechft.fairseq_plugin.jobs import (
    choose_work_directory,
    claim_work_directory,
    is_main_process,
    job_identity,
    remove_work,
    resolve_manifests,
)
from speechft.fairseq_plugin.progress import FairseqRecords, Progress, Row, TrainingLog
from speechft.fairseq_plugin.resuming import Companions, newest_checkpoint
from speechft.fairseq_plugin.trainer import run_fairseq
from speechft.files.atomic import atomic_directory
from speechft.files.locks import exclusive_lock
from speechft.files.outputs import check_folder
from speechft.files.structured import write_json
from speechft.pretrain.config import PretrainingJob, pretraining_config
from speechft.pretrain.data import LabelSource, Utterances, choose_utterances, prepare_pretraining_data
from speechft.pretrain.start import option_names, read_start, task_option_names
from speechft.recipes.pretraining import Architecture, ContinuedPretrainRecipe, PretrainRecipe
from speechft.requirements import require

LOGGER = logging.getLogger("speechft.finetune")
NATS_PER_BIT = math.log(2)
_TASKS = {"hubert": "hubert_pretraining", "wav2vec2": "audio_pretraining"}
_TITLES = {"hubert": "HuBERT pre-training", "wav2vec2": "wav2vec 2.0 pre-training"}


def pretrain(
    recipe: PretrainRecipe,
    manifests: Sequence[str | Path],
    out_dir: str | Path,
    work_dir: str | Path | None = None,
    *,
    start: str | Path | None = None,
    targets_from: str | Path | None = None,
    keep_work: bool = False,
) -> None:
    """Pre-train an encoder on the train splits of `manifests` with fairseq's models and criteria.

    HuBERT (Hsu et al., 2021) predicts clusters of MFCC frames (first iteration), or of a hidden layer of an encoder; wav2vec 2.0
    (Baevski et al., 2020) its own quantized latents. An interrupted run, started again with the same arguments, resumes:
    audio, k-means, labels and training are separate steps.

    Args:
        recipe: see PretrainRecipe.
        manifests: directories of manifests; labels of the corpora are ignored.
        out_dir: encoder directory with the weights after the last update; an older one of a pre-training is replaced. Its `training.csv`
            has loss (nats per masked frame), accuracy on masked frames, learning rate and gradient norm of every update, and the losses
            of every validation.
        work_dir: keeps audio, labels and checkpoints meanwhile; default: a hidden folder next to `out_dir`.
        start: encoder directory to start from instead of random weights; a HuBERT may start from a wav2vec 2.0 and the other way round,
            since their networks are one.
        targets_from: encoder directory for `targets: {layer: ...}`; default: `start`.
        keep_work: leave the work directory there.

    Raises:
        TrainingError: no audio, too few frames for the clusters, NaN, the work directory is in use or belongs to another job.
        ConfigError: the recipe contradicts itself, or the encoder that it needs is not given.
        CorpusError, AudioError, CheckpointError: the recordings or the encoders are not usable.
    """
    if start is not None and recipe.architecture != Architecture():
        raise ConfigError("architecture: is that of the encoder that training starts from. Leave it out.")
    _run(_Request("pretrain", recipe, manifests, Path(out_dir), work_dir, start, targets_from, keep_work))


def continue_pretraining(
    encoder_dir: str | Path,
    recipe: ContinuedPretrainRecipe,
    manifests: Sequence[str | Path],
    out_dir: str | Path,
    work_dir: str | Path | None = None,
    *,
    targets_from: str | Path | None = None,
    keep_work: bool = False,
) -> None:
    """Continue the pre-training of a HuBERT or wav2vec 2.0 on other audio, such as another language: stage 1 without labels.

    The schedule is that of stable fine-tuning: at first only what exists for pre-training alone is trained (cluster head, quantizer),
    never the convolutional extractor. The result is theta' of a merge. For the rest see `pretrain`.
    """
    _run(_Request("continue", recipe, manifests, Path(out_dir), work_dir, encoder_dir, targets_from, keep_work))


@dataclass(frozen=True)
class _Request:
    """What the two functions above were asked for."""

    kind: Kind
    recipe: PretrainRecipe | ContinuedPretrainRecipe
    manifests: Sequence[str | Path]
    out_dir: Path
    work_dir: str | Path | None
    start: str | Path | None
    targets_from: str | Path | None
    keep_work: bool


def _run(request: _Request) -> None:
    require("fairseq", "sklearn")
    given = (request.start, request.targets_from)
    check_folder(request.out_dir, request.kind, [*request.manifests, *given])
    with ExitStack() as stack:
        start, targets_from = (stack.enter_context(encoder_directory(path)) if path is not None else None for path in given)
        _pretrain(replace(request, start=start, targets_from=targets_from))


def _pretrain(request: _Request) -> None:
    recipe, out_dir = request.recipe, request.out_dir.absolute()
    _check(recipe)
    start = Path(request.start).absolute() if request.start is not None else None
    opened = read_start(start) if start else None
    if opened and isinstance(recipe, PretrainRecipe):
        opened = opened.for_family(recipe)
    family = opened.family if opened else getattr(recipe, "family", "hubert")
    labels = _label_source(recipe, start, request.targets_from) if family == "hubert" else None
    inputs = _inputs(request.manifests, start, labels)
    identity = job_identity(inputs, recipe.model_dump(mode="json"))
    given = [*request.manifests, start, request.targets_from]
    directory = choose_work_directory(request.work_dir, out_dir, identity, request.kind, given)
    if not is_main_process():
        raise TrainingError("Pre-training runs in one process. Start it without torchrun.")
    with exclusive_lock(directory.with_name(f"{directory.name}.lock"), "pre-training") as waited:
        if waited and made_already(out_dir, request.kind, inputs, recipe.model_dump(mode="json")):
            LOGGER.info("%s: is finished, by the process that was waited for", out_dir)
            return
        claim_work_directory(directory, identity)
        utterances = choose_utterances(request.manifests, recipe)
        LOGGER.info(
            "pre-training on %d recordings (%.2f h), %d to validate, %d shorter than %g s left out",
            len(utterances.train),
            utterances.hours,
            len(utterances.valid),
            utterances.too_short,
            recipe.min_seconds,
        )
        rate, _ = prepare_pretraining_data(
            directory / "data", utterances, labels, clusters=getattr(recipe, "clusters", 0), seed=recipe.seed
        )
        fresh_head = labels is not None and labels.kind != "own_predictions"
        job = PretrainingJob(directory, recipe, opened, rate, fresh_head)
        if opened:
            opened.save(job.start_file)
        _train(job)
        _write_output(job, request.kind, out_dir, inputs, utterances)
        if not request.keep_work:
            remove_work(directory)


def _check(recipe: PretrainRecipe | ContinuedPretrainRecipe) -> None:
    if recipe.max_seconds > recipe.batch_seconds:
        raise ConfigError(f"batch_seconds: {recipe.batch_seconds:g} is less than one crop of max_seconds = {recipe.max_seconds:g}.")
    if recipe.min_seconds > recipe.max_seconds:
        raise ConfigError(f"min_seconds: {recipe.min_seconds:g} is more than max_seconds = {recipe.max_seconds:g}.")


def _label_source(recipe: PretrainRecipe | ContinuedPretrainRecipe, start: Path | None, targets_from: str | Path | None) -> LabelSource:
    targets = recipe.targets
    if targets == "mfcc":
        return LabelSource("mfcc", normalize=recipe.normalize_targets, smooth=getattr(recipe, "smooth_targets", 1))
    if targets == "own_predictions":
        if start is None:
            raise ConfigError("targets: own_predictions are those of the encoder that training starts from, and none is given.")
        return LabelSource("own_predictions", start)
    source = Path(targets_from).absolute() if targets_from is not None else start
    if source is None:
        raise ConfigError("targets: the encoder whose layer gives the targets is not given. Give it with --targets-from.")
    return LabelSource("layer", source, targets.layer, recipe.normalize_targets, getattr(recipe, "smooth_targets", 1))


def _inputs(manifests: Sequence[str | Path], start: Path | None, labels: LabelSource | None) -> dict[str, Path]:
    inputs = {f"manifest_{number}": resolve_manifests(folder, ("train",))["train"] for number, folder in enumerate(manifests)}
    if not inputs:
        raise ConfigError("manifests: none given. Name at least one directory that `speechft prepare` made.")
    for role, encoder in (("base", start), ("targets", labels.encoder_dir if labels else None)):
        if encoder is None:
            continue
        if not (encoder / WEIGHTS).is_file():
            raise ConfigError(missing_file(encoder / WEIGHTS, f"as {role}", "Name an encoder directory."))
        inputs[role] = encoder / WEIGHTS
        if (encoder / PRETRAINING_ONLY).is_file():
            inputs[f"{role}_pretraining_only"] = encoder / PRETRAINING_ONLY
    return inputs


def _train(job: PretrainingJob) -> None:
    numbers = _hubert_numbers if job.family == "hubert" else _wav2vec2_numbers
    suffix = "_m" if job.family == "hubert" else ""
    columns = [f"loss{suffix}", f"accuracy{suffix}", "lr", "grad_norm", f"valid_loss{suffix}", f"valid_accuracy{suffix}"]
    extra = [] if job.family == "hubert" else ["code_perplexity", "temperature"]
    continued = isinstance(job.recipe, ContinuedPretrainRecipe)
    log = TrainingLog(job.directory / TRAINING_LOG, [*columns, *extra, *(["phase"] if continued else [])])
    progress = Progress(job.recipe.updates, _TITLES[job.family])

    def on_update(update: int, values: Row) -> None:
        loss, accuracy = numbers(values)
        row = {f"loss{suffix}": loss, f"accuracy{suffix}": accuracy, "lr": values["used_lr"], "grad_norm": values.get("gnorm", "")}
        row |= {"code_perplexity": values.get("code_perplexity", ""), "temperature": values.get("temp", "")} if extra else {}
        log.add(update, {**row, **({"phase": "head" if update <= job.head_only else "all"} if continued else {})})
        progress.show(update, {"loss": loss, "accuracy": accuracy})

    def on_validation(update: int, values: Row) -> None:
        loss, accuracy = numbers(values)
        log.complete(update, {f"valid_loss{suffix}": loss, f"valid_accuracy{suffix}": accuracy})
        progress.show(update, {"valid loss": loss, "valid accuracy": accuracy}, force=True)

    try:
        records = FairseqRecords(on_update, on_validation, "valid")
        run_fairseq(pretraining_config(job), job.directory / "fairseq.log", records, Companions(log), _explain)
    finally:
        with contextlib.suppress(OSError):
            log.flush()
        progress.close()


def _explain(problem: str) -> str:
    return f"Pre-training: {problem}. Lower peak_lr or make the warm-up longer."


def _hubert_numbers(values: Row) -> tuple[str, str]:
    """Loss in nats and accuracy on masked frames; fairseq reports bits."""
    return f"{values['loss_m_0'] * NATS_PER_BIT:.4f}", f"{values['correct_m_0']:.4f}"


def _wav2vec2_numbers(values: Row) -> tuple[str, str]:
    """Contrastive loss in nats, without the other losses, and how often the right latent is found."""
    return f"{values['loss_0'] * NATS_PER_BIT:.4f}", f"{values['accuracy']:.4f}"


def _write_output(job: PretrainingJob, kind: Kind, out_dir: Path, inputs: Mapping[str, Path], utterances: Utterances) -> None:
    recipe = job.recipe
    newest = newest_checkpoint(job.directory / "checkpoints")
    if newest is None or newest[1] < recipe.updates:
        raise TrainingError(f"{job.directory}: no readable checkpoint of the last update. Remove the directory and run this again.")
    facts = {"recordings": len(utterances.train), "hours": round(utterances.hours, 4), "too_short": utterances.too_short}
    recorded = {**recipe.model_dump(mode="json"), "data": facts, "training_log": TRAINING_LOG}
    provenance = make_provenance(kind, inputs, recorded)
    with atomic_directory(out_dir, kind) as temporary:
        import_checkpoint(newest[0], temporary, family=job.family, format="fairseq")
        write_json(temporary / SOURCE_CONFIG, _plain_source(read_source_config(temporary)))
        seal_encoder(temporary, provenance, name=out_dir.name)
        shutil.copyfile(job.directory / TRAINING_LOG, temporary / TRAINING_LOG)


def _plain_source(source: dict[str, Any]) -> dict[str, Any]:
    """The configuration without our plug-in, so that an exported checkpoint opens in a fairseq that does not have it."""
    family = source["family"]
    known = {"model_cfg": option_names(family), "task_cfg": task_option_names(family)}
    plain = {section: {key: value for key, value in source[section].items() if key in names} for section, names in known.items()}
    plain["model_cfg"]["_name"], plain["task_cfg"]["_name"] = family, _TASKS[family]
    return {**source, **plain, "sections": {}}
