"""Pre-train HuBERT and wav2vec 2.0 with fairseq, from random weights or from an encoder."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from speechft.encoders import import_checkpoint
from speechft.encoders.checkpoints.on_the_fly import encoder_directory
from speechft.encoders.directory.layout import PRETRAINING_ONLY, SOURCE_CONFIG, TRAINING_LOG, WEIGHTS, read_source_config, seal_encoder
from speechft.encoders.directory.provenance import Kind, made_already, make_provenance
from speechft.encoders.families import FAIRSEQ_TASKS
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
from speechft.pretrain.start import option_names, read_start
from speechft.recipes.pretraining import Architecture, ContinuedPretrainRecipe, PretrainRecipe
from speechft.requirements import require

LOGGER = logging.getLogger("speechft.finetune")
NATS_PER_BIT = math.log(2)
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

    HuBERT (Hsu et al., 2021) predicts clusters of MFCC frames (first iteration) or of a hidden layer of an encoder; wav2vec 2.0
    (Baevski et al., 2020) predicts its own quantized latents. An interrupted run, started again with the same arguments, resumes; audio,
    k-means, labels and training are separate steps.

    Args:
        recipe: see PretrainRecipe.
        manifests: directories of manifests; labels of the corpora are ignored.
        out_dir: encoder directory with the weights after the last update; an older one of a pre-training is replaced. Its `training.csv`
            has loss (nats per masked frame), accuracy on masked frames, learning rate and gradient norm of every update, and the losses of
            every validation.
        work_dir: folder for audio, labels and checkpoints during the run; default: a hidden folder next to `out_dir`.
        start: encoder directory to start from instead of random weights; HuBERT may start from wav2vec 2.0 and vice versa, since their
            networks are equal.
        targets_from: encoder directory for `targets: {layer: ...}`; default: `start`.
        keep_work: keep the work directory.

    Raises:
        TrainingError: there is no audio, there are too few frames for the clusters, the loss became NaN, or the work directory is in use or
            belongs to another job.
        ConfigError: the recipe contradicts itself, or a required encoder is not given.
        CorpusError, AudioError, CheckpointError: recordings or encoders cannot be used.
    """
    if start is not None and recipe.architecture != Architecture():
        raise ConfigError("architecture: determined by the encoder to start from. Leave it out.")
    _run("pretrain", recipe, manifests, out_dir, work_dir, start, targets_from, keep_work)


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

    The schedule is that of stable fine-tuning: at first only the pre-training head (cluster head, quantizer) is trained, and never the
    convolutional extractor. The result is theta' of a merge. For other arguments, see `pretrain`.
    """
    _run("continue", recipe, manifests, out_dir, work_dir, encoder_dir, targets_from, keep_work)


def _run(
    kind: Kind,
    recipe: PretrainRecipe | ContinuedPretrainRecipe,
    manifests: Sequence[str | Path],
    out_dir: str | Path,
    work_dir: str | Path | None,
    start_dir: str | Path | None,
    targets_from: str | Path | None,
    keep_work: bool,
) -> None:
    require("fairseq", "sklearn")
    given = [*manifests, start_dir, targets_from]
    check_folder(out_dir, kind, given)
    if recipe.max_seconds > recipe.batch_seconds:
        raise ConfigError(f"batch_seconds: {recipe.batch_seconds:g} is less than a crop of max_seconds = {recipe.max_seconds:g}.")
    if recipe.min_seconds > recipe.max_seconds:
        raise ConfigError(f"min_seconds: {recipe.min_seconds:g} is more than max_seconds = {recipe.max_seconds:g}.")
    out_dir = Path(out_dir).absolute()
    with ExitStack() as stack:

        def opened(path: str | Path | None) -> Path | None:
            return stack.enter_context(encoder_directory(path)).absolute() if path is not None else None

        encoder, teacher = opened(start_dir), opened(targets_from)
        start = read_start(encoder) if encoder else None
        if start and isinstance(recipe, PretrainRecipe):
            start = start.for_family(recipe)
        family = start.family if start else getattr(recipe, "family", "hubert")
        labels = _label_source(recipe, encoder, teacher) if family == "hubert" else None
        inputs = _inputs(manifests, encoder, labels)
        identity = job_identity(inputs, recipe.model_dump(mode="json"))
        directory = choose_work_directory(work_dir, out_dir, identity, kind, given)
        if not is_main_process():
            raise TrainingError("Pre-training runs in one process. Start it without torchrun.")
        with exclusive_lock(directory.with_name(f"{directory.name}.lock"), "pre-training") as waited:
            if waited and made_already(out_dir, kind, inputs, recipe.model_dump(mode="json")):
                LOGGER.info("%s: was finished by another process", out_dir)
                return
            claim_work_directory(directory, identity)
            utterances = choose_utterances(manifests, recipe)
            LOGGER.info(
                "pre-training on %d recordings (%.2f h), validating on %d; %d shorter than %g s left out",
                *(len(utterances.train), utterances.hours, len(utterances.valid), utterances.too_short, recipe.min_seconds),
            )
            data, clusters = directory / "data", getattr(recipe, "clusters", 0)
            rate = prepare_pretraining_data(data, utterances, labels, clusters=clusters, seed=recipe.seed)
            fresh_head = labels is not None and labels.kind != "own_predictions"
            job = PretrainingJob(directory, recipe, start, rate, fresh_head)
            if start:
                start.save(job.start_file)
            _train(job)
            _write_output(job, kind, out_dir, inputs, utterances)
            if not keep_work:
                remove_work(directory)


def _label_source(recipe: PretrainRecipe | ContinuedPretrainRecipe, start: Path | None, teacher: Path | None) -> LabelSource:
    targets = recipe.targets
    options: dict[str, Any] = {"normalize": recipe.normalize_targets, "smooth": getattr(recipe, "smooth_targets", 1)}
    if targets == "mfcc":
        return LabelSource("mfcc", **options)
    if targets == "own_predictions":
        if start is None:
            raise ConfigError("targets: own_predictions needs an encoder to start from, and none is given.")
        return LabelSource("own_predictions", start)
    if teacher is None and start is None:
        raise ConfigError("targets: no encoder is given for the layer. Give it with --targets-from.")
    return LabelSource("layer", teacher or start, targets.layer, **options)


def _inputs(manifests: Sequence[str | Path], start: Path | None, labels: LabelSource | None) -> dict[str, Path]:
    inputs = {f"manifest_{number}": resolve_manifests(folder, ("train",))["train"] for number, folder in enumerate(manifests)}
    if not inputs:
        raise ConfigError("manifests: none given. Name at least one output directory of `speechft prepare`.")
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
    # fairseq reports bits; accuracy is that on masked frames (HuBERT) or of the true latent (wav2vec 2.0).
    loss_key, accuracy_key = ("loss_m_0", "correct_m_0") if job.family == "hubert" else ("loss_0", "accuracy")
    suffix = "_m" if job.family == "hubert" else ""
    columns = [f"loss{suffix}", f"accuracy{suffix}", "lr", "grad_norm", f"valid_loss{suffix}", f"valid_accuracy{suffix}"]
    extra = [] if job.family == "hubert" else ["code_perplexity", "temperature"]
    continued = isinstance(job.recipe, ContinuedPretrainRecipe)
    log = TrainingLog(job.directory / TRAINING_LOG, [*columns, *extra, *(["phase"] if continued else [])])
    progress = Progress(job.recipe.updates, _TITLES[job.family])

    def numbers(values: Row) -> tuple[str, str]:
        return f"{values[loss_key] * NATS_PER_BIT:.4f}", f"{values[accuracy_key]:.4f}"

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

    def explain(problem: str) -> str:
        return f"Pre-training: {problem}. Lower peak_lr or lengthen the warm-up."

    with closing(log), closing(progress):
        records = FairseqRecords(on_update, on_validation, "valid")
        run_fairseq(pretraining_config(job), job.directory / "fairseq.log", records, Companions(log), explain)


def _write_output(job: PretrainingJob, kind: Kind, out_dir: Path, inputs: Mapping[str, Path], utterances: Utterances) -> None:
    recipe = job.recipe
    newest = newest_checkpoint(job.directory / "checkpoints")
    if newest is None or newest[1] < recipe.updates:
        raise TrainingError(f"{job.directory}: no readable checkpoint of the last update. Remove the directory and run the command again.")
    facts = {"recordings": len(utterances.train), "hours": round(utterances.hours, 4), "too_short": utterances.too_short}
    recorded = {**recipe.model_dump(mode="json"), "data": facts, "training_log": TRAINING_LOG}
    provenance = make_provenance(kind, inputs, recorded)
    with atomic_directory(out_dir, kind) as temporary:
        import_checkpoint(newest[0], temporary, family=job.family, format="fairseq")
        write_json(temporary / SOURCE_CONFIG, _plain_source(read_source_config(temporary)))
        seal_encoder(temporary, provenance, name=out_dir.name)
        shutil.copyfile(job.directory / TRAINING_LOG, temporary / TRAINING_LOG)


def _plain_source(source: dict[str, Any]) -> dict[str, Any]:
    """Remove our plug-in from the configuration, so that an exported checkpoint opens in fairseq without it."""
    family = source["family"]
    known = option_names(family).items()
    plain = {section: {key: value for key, value in source[section].items() if key in names} for section, names in known}
    plain["model_cfg"]["_name"], plain["task_cfg"]["_name"] = family, FAIRSEQ_TASKS[family]
    return {**source, **plain, "sections": {}}
