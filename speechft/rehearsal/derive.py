"""Derive the rehearsal of an experiment: the same corpora, encoders, fine-tunings, methods, tables and rules at small sizes."""

from __future__ import annotations

import math
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from speechft.encoders.families import get_family
from speechft.errors import ConfigError, missing_file
from speechft.experiment.encoders import ONLY_EVALUATED, PretrainedElsewhere, PretrainedHere, PublicEncoder
from speechft.experiment.methods import TrainedMethod
from speechft.experiment.own_tasks import tasks_on
from speechft.experiment.schema import Experiment, load_experiment, parse_experiment
from speechft.experiment.workflow import Workflow
from speechft.files.atomic import from_here, write_text
from speechft.files.escapes import one_line
from speechft.files.hashes import sha256_file
from speechft.files.output_kinds import REHEARSAL, REHEARSED, sealed
from speechft.files.outputs import check_file
from speechft.files.structured import read_json, write_json
from speechft.recipes.corpora import CorpusRecipe, PluginCorpus, PublishedCorpus, UnionCorpus
from speechft.recipes.finetuning import FinetuneRecipe, JointTask
from speechft.recipes.pretraining import ContinuedPretrainRecipe, PretrainRecipe
from speechft.rehearsal.sizes import HEAD_ONLY_UPDATES, SIZES, smaller, smaller_head
from speechft.runtime.gpus import visible_gpus
from speechft.shipped import ROOT

EXPERIMENT, MARKER = "experiment.yaml", "rehearsal.json"
"""Files in a rehearsal's folder besides its results; the second marks the folder as a rehearsal."""
SPEECH = ROOT / "mini/speech"
"""Source of the speech in stand-ins."""
_NOTE = "A rehearsal: everything runs, at sizes at which no number means anything."
_FIRST = next(int(size.most) for size in SIZES if size.key == "first")
Values = dict[str, Any]


@dataclass(frozen=True)
class Rehearsal:
    """A derived experiment: its file, and remarks on what could not be done as requested."""

    experiment: Path
    remarks: tuple[str, ...]


def rehearse(
    source: str | Path,
    folder: str | Path,
    *,
    corpora: Literal["mine", "stand-ins"] = "mine",
    encoders: Literal["mine", "tiny"] = "mine",
    gpus: bool | None = None,
) -> Rehearsal:
    """Write the rehearsal of an experiment to `folder`/experiment.yaml, with the corpora and checkpoints that it needs.

    Names, kinds, rows, tables, curves and analyses are kept; sizes become those of `speechft.rehearsal.sizes`. Results go to
    `folder`/results. In the folder of an earlier rehearsal, Snakemake keeps finished results.

    Args:
        source: the experiment file.
        folder: a new or empty folder, or that of an earlier rehearsal.
        corpora: "mine": the first utterances of each split. "stand-ins": synthetic speech in the layout of each published corpus.
        encoders: "mine": the experiment's own. "tiny": small random ones in the published formats.
        gpus: whether jobs request GPUs as in the experiment; None: if this machine has a GPU or can submit jobs to Slurm.

    Raises:
        ConfigError: an invalid experiment, one without table, curve or analysis, a folder with other content, or a missing checkpoint.
        CorpusError: a corpus is missing or too small.
    """
    experiment = load_experiment(source)
    folder = Path(folder)
    _check_folder(folder)
    given = [getattr(entry, "path", None) for entry in (*experiment.corpora.values(), *experiment.encoders.values())]
    given += [finetuning.checkpoint for finetuning in experiment.finetunings.values()]
    check_file(folder / EXPERIMENT, REHEARSED, [source, *given])
    if not Workflow(experiment).targets():
        raise ConfigError(f"{source}: has no table, curve or analysis to rehearse. Add one.")
    _check_inputs(experiment, corpora, encoders)
    # Written first, so that an interrupted rehearsal can be written again.
    write_json(folder / MARKER, {"rehearsal_of": str(source), "corpora": corpora, "encoders": encoders})
    values = experiment.model_dump(mode="json", exclude_unset=True)
    remarks: list[str] = []
    if gpus is None:
        gpus = bool(visible_gpus()) or shutil.which("sbatch") is not None
        if not gpus and any(getattr(experiment.resources, stage).gpu for stage in type(experiment.resources).model_fields):
            remarks.append("no GPU and no sbatch here: jobs run on the CPU; --gpus keeps the experiment's requests")
    values["results"] = from_here(str(folder / "results"))
    values["title"] = f"{experiment.title or experiment.name}, a rehearsal"
    values["note"] = f"{_NOTE} {experiment.note}".strip()
    values["corpora"] = {name: _corpus(experiment, name, entry, folder, corpora, remarks) for name, entry in values["corpora"].items()}
    values["encoders"] = {name: _encoder(experiment, name, entry, folder, encoders) for name, entry in values["encoders"].items()}
    changes = [method.changes for method in experiment.methods.values() if isinstance(method, TrainedMethod)]
    for name, entry in values.get("finetunings", {}).items():
        if "checkpoint" not in entry:
            _shrink_finetuning(entry, changes, tiny=encoders == "tiny")
        elif encoders == "tiny":
            entry |= _given(experiment, name, folder)
    for method in values.get("methods", {}).values():
        if "changes" in method:
            # A method's own number of updates would override that needed for the head-only phase.
            method["changes"] = {key: value for key, value in smaller("finetune", method["changes"]).items() if key != "updates"}
    values["tasks"] = {name: {**entry, "recipe": _evaluation(experiment, name)} for name, entry in values["tasks"].items()}
    for name, entry in values.get("analyses", {}).items():
        entry["recipe"] = smaller("analyse", experiment.analyses[name].recipe.model_dump(mode="json"))
    values["resources"] = {stage: _resources(experiment, stage, gpus=gpus) for stage in type(experiment.resources).model_fields}
    parse_experiment(values, str(folder / EXPERIMENT))
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=140)
    made_by = f"`speechft rehearse {one_line(shlex.quote(str(source)))}`"
    note = f"# {_NOTE}\n# Made by {made_by}. Made again, it replaces this file, unless somebody has edited it.\n"
    write_text(folder / EXPERIMENT, sealed(note + text))
    return Rehearsal(folder / EXPERIMENT, tuple(remarks))


def _check_folder(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ConfigError(f"{folder}: is a {'link' if folder.is_symlink() else 'file'}. Name a new folder with --out.")
    if folder.is_dir() and any(folder.iterdir()) and not REHEARSAL.recognizes(folder / MARKER):
        raise ConfigError(f"{folder}: is neither empty nor the folder of a rehearsal. Name a new folder with --out.")


def _check_inputs(experiment: Experiment, corpora: str, encoders: str) -> None:
    """Fail early if the rehearsal could not be written or started."""
    if corpora == "stand-ins" and not SPEECH.is_dir():
        raise ConfigError(f"{SPEECH}: no such folder, needed for stand-ins. Use speechft from a clone of the repository.")
    for name, recipe in experiment.corpora.items():
        stands_in = corpora == "stand-ins" and (_has_stand_in(recipe) or _made_up_columns(experiment, name) is not None)
        if not isinstance(recipe, UnionCorpus) and not stands_in:
            _check_corpus(recipe)
    for name, entry in experiment.encoders.items():
        if encoders == "mine" and isinstance(entry, PretrainedElsewhere) and not entry.path.exists():
            remedy = f"Copy it there, correct `encoders.{name}.path`, or rehearse with --encoders tiny."
            raise ConfigError(missing_file(entry.path, f"as the checkpoint of {name}", remedy))
        if encoders == "tiny" and isinstance(entry, PublicEncoder | PretrainedElsewhere):
            _family(name, entry)
    for name, encoder in experiment.given.items():
        checkpoint = experiment.finetunings[name].checkpoint
        if encoders == "mine" and checkpoint is not None and not checkpoint.exists():
            remedy = f"Copy it there, correct `finetunings.{name}.checkpoint`, or rehearse with --encoders tiny."
            raise ConfigError(missing_file(checkpoint, f"as the fine-tuning {name}", remedy))
        if encoders == "tiny" and isinstance(experiment.encoders[encoder], PretrainedHere):
            raise ConfigError(
                f"finetunings.{name}: has no tiny replacement, because {encoder} is pre-trained here. Rehearse with --encoders mine."
            )


def _has_stand_in(recipe: Any) -> bool:
    return isinstance(recipe, PublishedCorpus) and not isinstance(recipe, PluginCorpus)


def _check_corpus(recipe: CorpusRecipe | PublishedCorpus) -> None:
    from speechft.corpora.prepare import read_corpus
    from speechft.corpora.readers.mixtures import read_sources

    if isinstance(recipe, PublishedCorpus):
        read_corpus(recipe.model_copy(update={"complete": False, "first": _FIRST}))
    elif recipe.kind == "mixtures":
        read_sources(recipe)
    else:
        read_corpus(recipe.model_copy(update={"first": _FIRST}))


def _corpus(experiment: Experiment, name: str, entry: Values, folder: Path, corpora: str, remarks: list[str]) -> Values:
    recipe = experiment.corpora[name]
    if isinstance(recipe, UnionCorpus):
        return entry
    if corpora == "stand-ins" and _has_stand_in(recipe):
        from speechft.rehearsal.stand_ins import build_stand_in

        place = folder / "corpora" / str(entry["kind"])
        files = {key: path for key, path in build_stand_in(entry["kind"], place, SPEECH).items() if key in recipe.model_fields_set}
        named = {
            key: from_here(str(path)) if isinstance(path, Path) else [from_here(str(part)) for part in path] for key, path in files.items()
        }
        return {**entry, "path": from_here(str(place)), **named, "complete": False}
    columns = _made_up_columns(experiment, name)
    if corpora == "stand-ins" and columns is not None:
        return _csv_stand_in(experiment, name, columns, folder / "corpora" / name)
    if corpora == "stand-ins":
        kind = entry.get("kind", "csv")
        remarks.append(f"corpora.{name}: kind {kind} has no stand-in; its own first utterances are used")
    part = {**entry, "first": min(_FIRST, entry.get("first", _FIRST))}
    return {**part, "complete": False} if isinstance(recipe, PublishedCorpus) else part


_HELD = {"frame_classification": "frames", "regression": "number", "multilabel": "classes"}
"""Kind of a task -> content of its column; for other kinds, and for ER and KS, classes."""
_ON_CSV = {"pr": "", "asr": "", "asr_zh": "", "sid": "", "er": "label", "ks": "label"}
"""Built-in tasks that can be rehearsed on a synthetic CSV corpus -> column that they need besides text and speaker."""


def _made_up_columns(experiment: Experiment, name: str) -> dict[str, str] | None:
    """Columns of the stand-in of a missing CSV corpus, and their content; None if it has no stand-in."""
    recipe = experiment.corpora[name]
    if not isinstance(recipe, CorpusRecipe) or recipe.kind != "csv" or recipe.path.is_file():
        return None
    columns: dict[str, str] = {}
    for task, kind, label in tasks_on(experiment, name):
        if kind is None and task not in _ON_CSV:
            return None
        column = label if kind is not None else _ON_CSV[task]
        if column not in ("", "text", "speaker"):
            held = _HELD.get(kind or "", "class")
            columns[column] = held if held != "class" else columns.get(column, held)
    return columns


def _csv_stand_in(experiment: Experiment, name: str, columns: Mapping[str, str], place: Path) -> Values:
    """Write a synthetic CSV corpus and return the keys of its recipe."""
    from speechft.rehearsal.stand_ins import build_csv_stand_in
    from speechft.rehearsal.stand_ins.csv_corpus import TABLE, TRIALS

    recipe = experiment.corpora[name]
    assert isinstance(recipe, CorpusRecipe)
    verified = [label for _, kind, label in tasks_on(experiment, name) if kind == "verification"] or ["speaker"]
    build_csv_stand_in(place, SPEECH, columns, recipe.columns, verified[0] if recipe.trials else None)
    kept: Values = {"columns": recipe.columns} if recipe.columns else {}
    kept |= {"trials": from_here(str(place / TRIALS))} if recipe.trials else {}
    kept |= {"unlabelled": True} if recipe.unlabelled else {}
    return {"kind": "csv", "path": from_here(str(place / TABLE)), **kept}


def _encoder(experiment: Experiment, name: str, entry: Values, folder: Path, encoders: str) -> Values:
    known = experiment.encoders[name]
    if isinstance(known, PretrainedHere):
        return {**entry, "recipe": _pretraining(entry.get("recipe", {}), PretrainRecipe, tiny=encoders == "tiny")}
    if isinstance(known, ONLY_EVALUATED) or encoders == "mine":
        return entry
    if isinstance(known, PublicEncoder):
        # Downloaded as if from a mirror, so that the rule `fetch` is rehearsed too.
        file = known.checkpoint.file
        made, path = folder / "published" / file, folder / "checkpoints" / file
        public = {"kind": "public", "name": known.name, "path": from_here(str(path)), "url": made.resolve().as_uri()}
        return {**public, **_small_model(_family(name, known), made)[1]}
    made, keys = _small_model(_family(name, known), folder / "checkpoints" / f"{name}.pt")
    return {"kind": "checkpoint", "path": from_here(str(made)), **keys}


def _given(experiment: Experiment, name: str, folder: Path) -> Values:
    """Write a small model that replaces a checkpoint fine-tuned elsewhere; return the keys of the fine-tuning."""
    encoder = experiment.given[name]
    known = experiment.encoders[encoder]
    assert isinstance(known, PublicEncoder | PretrainedElsewhere)
    made, keys = _small_model(_family(encoder, known), folder / "checkpoints" / f"{name}_finetuned.pt", seed=1)
    keys.pop("config", None)
    return {"checkpoint": from_here(str(made)), **keys}


def _small_model(family: str, file: Path, seed: int = 0) -> tuple[Path, Values]:
    """Write a small model as `file`, or as a folder for families of transformers directories; return its path and keys."""
    from speechft.encoders.directory.random_encoders import random_encoder
    from speechft.rehearsal.tiny_encoders import build_tiny_encoder

    if get_family(family).directory_only:
        return random_encoder(family, file.with_suffix(""), seed), {}
    settings = build_tiny_encoder(family, file, seed)
    return file, {"sha256": sha256_file(file), **({"config": from_here(str(settings))} if settings else {})}


def _family(name: str, entry: PublicEncoder | PretrainedElsewhere) -> str:
    if isinstance(entry, PublicEncoder):
        return entry.checkpoint.family
    if entry.family is None and (entry.path / "config.json").is_file():
        return str(read_json(entry.path / "config.json").get("model_type"))
    if entry.family is None:
        raise ConfigError(f"encoders.{name}: add its `family`, from which a tiny one is created, or rehearse with --encoders mine.")
    return entry.family


def _shrink_finetuning(entry: Values, changes: Sequence[Mapping[str, Any]], *, tiny: bool) -> None:
    if "pretraining" in entry:
        small = _pretraining(entry["pretraining"], ContinuedPretrainRecipe, tiny=tiny)
        entry["pretraining"] = _with_head_phase(small, entry["pretraining"], changes, ContinuedPretrainRecipe)
        return
    recipe = _with_head_phase(smaller("finetune", entry["recipe"], FinetuneRecipe), entry["recipe"], changes, FinetuneRecipe)
    recipe.pop("like", None)  # its keys are already filled in
    parts = {name: smaller("finetune", part, JointTask) for name, part in recipe.get("jointly", {}).items()}
    for part in (recipe, *parts.values()):
        if options := smaller_head(part.get("kind") or part["task"], part.get("task_options", {})):
            part["task_options"] = options
    entry["recipe"] = {**recipe, **({"jointly": parts} if parts else {})}


def _with_head_phase(
    small: Values, whole: Values, changes: Sequence[Mapping[str, Any]], kind: type[FinetuneRecipe | ContinuedPretrainRecipe]
) -> Values:
    """Raise the updates in `small` to what the shortest head-only phase of all methods needs, but not above those in `whole`."""
    default = kind.model_fields["head_only"].default
    shares = [share for given in ({}, *changes) if (share := given.get("head_only", whole.get("head_only", default)))]
    needed = math.ceil(HEAD_ONLY_UPDATES / min(shares)) if shares else 0
    asked = whole.get("updates", kind.model_fields["updates"].default)
    return {**small, "updates": min(asked, max(small["updates"], needed))}


def _pretraining(recipe: Values, kind: type[PretrainRecipe | ContinuedPretrainRecipe], *, tiny: bool) -> Values:
    small = smaller("pretrain", recipe, kind)
    if recipe.get("family") == "wav2vec2":
        del small["clusters"]
    if tiny and isinstance(small.get("targets"), Mapping):
        from speechft.rehearsal.tiny_encoders import LAYERS

        small["targets"] = {**small["targets"], "layer": min(small["targets"]["layer"], LAYERS)}
    return small


def _evaluation(experiment: Experiment, task: str) -> Values:
    """Build the keys of the evaluation recipe: the experiment's, the sizes, and defaults that would change with the protocol."""
    given, recipe = dict(experiment.tasks[task].recipe), experiment.evaluation_recipe(task)
    whole = recipe.model_dump(mode="json")
    small = smaller("evaluate", whole) if recipe.entry.trains else {}
    changed = {key: value for key, value in small.items() if value != whole[key]}
    options = smaller_head(recipe.kind or task, given.get("task_options", {}))
    kept = {"crop_draws": whole["crop_draws"], **({"task_options": options} if options else {})}
    return {**given, **changed, **kept, "protocol": "quick"}


def _resources(experiment: Experiment, stage: str, *, gpus: bool) -> Values:
    asked: Values = getattr(experiment.resources, stage).model_dump(mode="json", exclude={"max_mem_mb", "max_runtime"})
    small = smaller("resources", asked)
    return small if gpus else {**small, "gpu": 0}
