"""Experiment of `speechft superb`: encoders on the SUPERB tasks whose corpora are present, and its tables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from speechft.corpora.finding import find_corpora
from speechft.downloads.checkpoints import public_checkpoints
from speechft.downloads.hub import fetch_repository, is_repository, repository_of
from speechft.errors import CheckpointError, ConfigError, CorpusError, nearest, unknown_name
from speechft.experiment.layouts import PRETRAINED
from speechft.experiment.schema import Experiment, load_experiment, parse_experiment
from speechft.experiment.workflow import PUBLISHED, Workflow
from speechft.files.atomic import from_here, write_text
from speechft.files.escapes import one_line
from speechft.files.output_kinds import PAGE, SUPERB_EXPERIMENT, sealed
from speechft.files.outputs import check_file
from speechft.files.text import read_text
from speechft.recipes.corpora import PublishedCorpus, UnionCorpus
from speechft.recipes.modules import is_class_name, source_file, split_name
from speechft.runtime.gpus import visible_gpus
from speechft.shipped import shipped
from speechft.tables.experiment import build_experiment, check_outputs, report_experiment
from speechft.tasks.catalog import TASKS

EXPERIMENT, REPORT = "experiment.yaml", "report.html"
"""The derived experiment and the page of its results, in the output folder."""
LABEL, BESIDE = "Evaluated here", ("superb", "full_superb", "encoders")
"""Label of our rows, and the published tables whose rows are listed below them."""
QUICK_SHARE, QUICK_RATES = 10, (1e-2, 1e-3, 1e-4)
"""For `protocol: quick`: divisor of SUPERB's steps, and the learning rates."""
Protocol = Literal["superb", "quick"]
_WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
_WIDTH = 138
Values = dict[str, Any]


@dataclass(frozen=True)
class Derived:
    """An experiment ready to run: its file, and remarks on corpora and tasks."""

    path: Path
    remarks: tuple[str, ...]

    @property
    def targets(self) -> list[str]:
        """Results shown in its tables, curves and analyses, as targets of the workflow."""
        flow = Workflow(load_experiment(self.path))
        analyses = [result for name in flow.experiment.analyses for result in flow.analysis_results(name)]
        return list(dict.fromkeys((*flow.experiment.cells, *analyses, *map(flow.connection_result, flow.experiment.connections))))


def derive(
    models: Sequence[str],
    folder: Path,
    out: Path,
    *,
    tasks: Sequence[str] | None = None,
    protocol: Protocol | None = None,
    options: Mapping[str, Any] | None = None,
    gpus: bool | None = None,
) -> Derived:
    """Write `out`/experiment.yaml: a table of the models on the SUPERB tasks whose corpora are in `folder`.

    An edited experiment is used unchanged and never replaced.

    Args:
        models: encoder directories, checkpoints, transformers directories, names in config/encoders.tsv, `org/name[@revision]` on the
            Hugging Face Hub (downloaded now), or classes such as `my_encoder.py:MyEncoder`.
        folder: folder of the unpacked corpora; see `find_corpora`.
        out: folder for experiment and results.
        tasks: required tasks; default: all whose corpus is present.
        protocol: superb (default), or quick: a tenth of the steps, three learning rates, corpora of any size.
        options: keyword arguments of the classes among `models`.
        gpus: whether jobs request GPUs; None: if this machine, which then runs them, has one.

    Raises:
        ConfigError: unknown task, or arguments that contradict an edited experiment.
        CheckpointError: unknown model.
        CorpusError: no corpus is present, or that of a required task is missing.
        OutputError: tables or experiment cannot be written there.
    """
    known = _superb_tasks()
    if unknown := [task for task in tasks or () if task not in known]:
        raise ConfigError(unknown_name("SUPERB task", unknown[0], known))
    path, encoders = out / EXPERIMENT, _encoders(models, options or {})
    if path.exists() and not SUPERB_EXPERIMENT.recognizes(path):
        _check_edited(path, load_experiment(path), encoders, folder, tasks, protocol)
        remarks: tuple[str, ...] = (f"{path} was edited and is used unchanged. Remove it to derive it again.",)
    else:
        given = [entry.get("path") for entry in encoders.values()]
        check_file(path, SUPERB_EXPERIMENT, [folder, *given])
        values, remarks = _values(encoders, folder, out, tasks, protocol or "superb")
        values["resources"]["evaluate"]["gpu"] = int(bool(visible_gpus()) if gpus is None else gpus)
        parse_experiment(values, str(path))
        write_text(path, sealed(_text(values, models, folder)))
    check_outputs(path, out / "tables", out / "figures", inputs=[folder])
    check_file(out / REPORT, PAGE, [folder])
    return Derived(path, remarks)


def show(path: Path, out: Path) -> str:
    """Write `out`/tables, `out`/figures and `out`/report.html of a derived experiment; return the tables as Markdown.

    Missing cells are pending, with the reason if known from logs.
    """
    published = [shipped(name) for name in PUBLISHED]
    names = build_experiment(path, None, published, out / "tables", out / "figures")
    report_experiment(path, None, published, out / REPORT)
    return "\n".join(read_text(out / "tables" / f"{name}.md") for name in names)


def default_out(models: Sequence[str]) -> Path:
    """Default output folder, named after the first model."""
    return Path("superb") / _name(models[0])


def _superb_tasks() -> dict[str, str]:
    """SUPERB task -> its corpus, as in the paper's experiment."""
    return {task: evaluation.corpus for task, evaluation in _paper().tasks.items() if TASKS[task].superb}


@cache
def _paper() -> Experiment:
    return load_experiment(shipped("config/paper.yaml"))


def _name(model: str) -> str:
    """Name of a model in the experiment: the last part of its path, or its class."""
    if is_class_name(model):
        name = split_name(model)[1]
    else:
        path = Path(model.partition("@")[0] if is_repository(model) else model)
        name = path.stem if path.suffix.lower() in _WEIGHTS else path.absolute().name
    return re.sub(r"[^A-Za-z0-9_+-]+", "_", name).lstrip("_+-") or "encoder"


def _encoders(models: Sequence[str], options: Mapping[str, Any]) -> dict[str, Values]:
    """Build the experiment's entries of the models, by name."""
    if options and not any(map(is_class_name, models)):
        raise ConfigError(f"{models[0]}: encoder options need the name of a class, such as my_encoder.py:MyEncoder.")
    entries: dict[str, Values] = {}
    for model in models:
        name = _name(model)
        if name in entries:
            raise ConfigError(f"{model}: another model is also named {name!r}. Rename one, or use separate runs with different --out.")
        entries[name] = _encoder(model, options)
    return entries


def _encoder(model: str, options: Mapping[str, Any]) -> Values:
    if is_class_name(model):
        source_file(model)
        return {"kind": "module", "module": model, **({"options": dict(options)} if options else {}), "label": LABEL}
    path, public = Path(model), public_checkpoints()
    if not path.exists() and model in public:
        return {"kind": "public", "name": model}
    if is_repository(model):
        path = fetch_repository(model)
    if not path.exists():
        raise CheckpointError(
            f"{model}: no such file, folder, or public encoder.{nearest(model, public)} docs/superb.md lists what can be evaluated."
        )
    if path.is_dir() and not any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise CheckpointError(f"{model}: has no config.json. Name a folder with configuration and weights.")
    return {"kind": "checkpoint", "path": path.as_posix()}


def _values(
    encoders: Mapping[str, Values], folder: Path, out: Path, asked: Sequence[str] | None, protocol: Protocol
) -> tuple[Values, tuple[str, ...]]:
    """Build the experiment, and remarks on corpora and tasks."""
    paper, tasks = _paper(), _superb_tasks()
    wanted = {tasks[task]: entry for task in asked or tasks if isinstance(entry := paper.corpora[tasks[task]], PublishedCorpus)}
    corpora = find_corpora(folder, wanted, partial=protocol == "quick")
    chosen = [task for task in tasks if tasks[task] in corpora.there and (asked is None or task in asked)]
    if asked and (missing := [task for task in asked if task not in chosen]):
        lines = [f"{task}: {corpora.absent[tasks[task]]}" for task in missing]
        raise CorpusError(f"{folder}: the corpus of {', '.join(missing)} is missing. Omit the task, or get its corpus.", lines)
    if not chosen:
        raise CorpusError(
            f"{folder}: contains no complete SUPERB corpus. `--protocol quick` also accepts incomplete ones.",
            [*dict.fromkeys(corpora.absent.values())],
        )
    used = {corpus: [task for task in chosen if tasks[task] == corpus] for corpus in dict.fromkeys(tasks[task] for task in chosen)}
    told = [f"{corpus}: {corpora.there[corpus].path} ({', '.join(of)})" for corpus, of in used.items()]
    told += [f"{corpus}: remark: {remark}" for corpus in used for remark in corpora.remarks[corpus]]
    for reason in dict.fromkeys(corpora.absent.values()):
        told.append(f"left out: {', '.join(task for task in tasks if corpora.absent.get(tasks[task]) == reason)}. {reason}")
    resources = paper.resources.model_dump(mode="json", exclude_unset=True)
    values = {
        "name": "superb",
        "title": "SUPERB",
        "results": from_here(str(out / "results")),
        "corpora": {corpus: _corpus(corpora.there[corpus]) for corpus in used},
        "encoders": dict(encoders),
        "tasks": {task: {"corpus": tasks[task], **_recipe(paper, task, protocol)} for task in chosen},
        "tables": {
            "superb": {
                "title": "SUPERB, beside published results",
                "encoders": list(encoders),
                "rows": [{"model": "/".join(PRETRAINED), "label": LABEL}],
                "tasks": chosen,
                "beside": list(BESIDE),
            }
        },
        "resources": {"evaluate": resources["evaluate"], "small": resources["small"]},
    }
    return values, tuple(told)


def _corpus(recipe: PublishedCorpus) -> Values:
    values = recipe.model_dump(mode="json", exclude_unset=True)
    return {"kind": values.pop("kind"), **values}


def _recipe(paper: Experiment, task: str, protocol: Protocol) -> Values:
    """Changes to SUPERB's recipe of a task."""
    if protocol == "superb":
        return {}
    whole = paper.evaluation_recipe(task)
    if not isinstance(whole.steps, int) or not whole.steps:
        return {"recipe": {"protocol": "quick"}}
    steps = whole.steps // QUICK_SHARE
    every = min(whole.eval_every, steps)
    return {"recipe": {"protocol": "quick", "steps": steps, "eval_every": every, "learning_rates": list(QUICK_RATES)}}


def _text(values: Values, models: Sequence[str], folder: Path) -> str:
    """Format the experiment file, with a comment above each part that users may want to change."""
    shown = one_line(" ".join(map(shlex.quote, models)))
    comments = {
        "name": f"Derived by `speechft superb` for {shown}. You may edit this file: an edited file is used unchanged and never replaced.\n"
        "Keys are documented in docs/configuration.md. `speechft run` also runs this file, in the folder that it was written from.",
        "corpora": f"Found in {one_line(str(folder))}. `complete: false` accepts a corpus whose size is not the published one.",
        "encoders": "Each encoder is a row; name additional ones in the table below.",
        "tasks": "SUPERB's recipes. Departures need `protocol: quick`: recipe: {protocol: quick, steps: 1000, eval_every: 100}.",
        "tables": "`beside` names published rows: superb is in config/superb_rows.csv, the others in config/published.csv.",
        "resources": "Resources per job; `gpu: 0` uses the CPU.",
    }
    parts = []
    for key, value in values.items():
        parts += [f"\n# {line}" if not number else f"# {line}" for number, line in enumerate(comments.get(key, "").split("\n")) if line]
        if isinstance(value, Mapping):
            parts += [f"{key}:", *(f"  {line}" for name, entry in value.items() for line in _entry(name, entry))]
        else:
            parts += _dumped({key: value}, flow=False)
    return "\n".join(parts).lstrip() + "\n"


def _entry(name: str, entry: Any) -> list[str]:
    """Format an entry of a section: one line if it fits, otherwise one line per key."""
    line = f"{name}: {_dumped(entry, flow=True)[0]}"
    return [line] if len(line) < _WIDTH else _dumped({name: entry}, flow=None)


def _dumped(value: Any, *, flow: bool | None) -> list[str]:
    width = 10**6 if flow else _WIDTH
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=width, default_flow_style=flow).splitlines()


def _check_edited(
    path: Path,
    experiment: Experiment,
    encoders: Mapping[str, Values],
    folder: Path,
    tasks: Sequence[str] | None,
    protocol: Protocol | None,
) -> None:
    """Raise a ConfigError if the arguments contradict an edited experiment."""
    remedy = "Correct the file or the arguments, or name another --out."
    for name, entry in encoders.items():
        there = experiment.encoders.get(name)
        if there is None or _identity(there.model_dump(mode="json")) != _identity(entry):
            raise ConfigError(f"{path}: evaluates {', '.join(experiment.encoders)}, not the requested {name}. {remedy}")
    if tasks and set(tasks) != set(experiment.tasks):
        raise ConfigError(f"{path}: has the tasks {', '.join(experiment.tasks)}, not {', '.join(tasks)}. {remedy}")
    if protocol and (other := [task for task in experiment.tasks if experiment.evaluation_recipe(task).protocol != protocol]):
        raise ConfigError(f"{path}: {', '.join(other)} is not under protocol {protocol}. {remedy}")
    places = [Path(corpus.path).resolve() for corpus in experiment.corpora.values() if not isinstance(corpus, UnionCorpus)]
    if not any(place.is_relative_to(folder.resolve()) for place in places):
        raise ConfigError(f"{path}: has no corpus in {folder}. {remedy}")


def _identity(entry: Values) -> tuple[Any, ...]:
    """Identity of an encoder entry; for a model on the Hub, independent of its commit."""
    place = entry.get("path") or entry.get("module") or entry.get("name")
    repository = repository_of(Path(str(place)))
    return entry["kind"], repository.partition("@")[0] if repository else str(place)
