"""Tasks of the user's own in an experiment, and checks of the columns and trials they need."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechft.errors import CorpusError, TaskError, nearest
from speechft.files.csv_tables import Row, read_table
from speechft.files.text import nfc
from speechft.recipes.corpora import COLUMNS, CorpusRecipe, corpus_members
from speechft.tasks.catalog import KINDS, metrics_of

if TYPE_CHECKING:
    from speechft.experiment.schema import Experiment

_NO_LABELS = ("path", "id", "split")


def with_own_tasks(values: Any) -> Any:
    """Copy kind, column and metric from `tasks` to fine-tunings on these tasks; `values` are those of an experiment."""
    if not isinstance(values, dict) or not all(isinstance(values.get(key), dict) for key in ("tasks", "finetunings")):
        return values
    own = {name: task for name, task in values["tasks"].items() if isinstance(task, dict) and task.get("kind") is not None}

    def filled(part: Any) -> Any:
        if not isinstance(part, dict) or part.get("kind") is not None or part.get("task") not in list(own):  # a list takes any value
            return part
        task = own[part["task"]]
        options = {key: task[key] for key in ("label", "metric") if task.get(key) is not None}
        asked = part.get("task_options")
        return {**part, "kind": task["kind"], "task_options": {**options, **(asked if isinstance(asked, dict) else {})}}

    tunings = {}
    for name, tuning in values["finetunings"].items():
        recipe = tuning.get("recipe") if isinstance(tuning, dict) else None
        if isinstance(recipe, dict):
            recipe = filled(recipe)
            if isinstance(recipe.get("jointly"), dict):
                recipe = {**recipe, "jointly": {part: filled(values) for part, values in recipe["jointly"].items()}}
            tuning = {**tuning, "recipe": recipe}
        tunings[name] = tuning
    return {**values, "finetunings": tunings}


def own_task_problems(experiment: Experiment) -> list[str]:
    """List columns and trials that tasks of the user's own need but the corpora lack. CSV files that do not exist yet are skipped."""
    problems = []
    for key, corpus, _, kind, options in _tasks(experiment):
        if kind is None:
            continue
        label = nfc(str(options.get("label") or KINDS[kind].label))
        members = [experiment.corpora[member] for member in corpus_members(experiment.corpora, corpus)]
        if KINDS[kind].protocol == "verification" and not any(getattr(member, "trials", None) for member in members):
            problems.append(f"{key}: kind {kind} needs trials, but corpus {corpus} has none; add `trials` to the corpus")
        for member in members:
            if isinstance(member, CorpusRecipe) and member.kind == "csv" and member.path.is_file():
                problems += [f"{key}: {problem}" for problem in _column_problems(member, kind, label)]
    return list(dict.fromkeys(problems))


def tasks_on(experiment: Experiment, corpus: str) -> list[tuple[str, str | None, str]]:
    """List (task, kind, column) of evaluations and fine-tunings on a corpus, also within a union; built-in tasks have no column."""
    tasks = []
    for _, name, task, kind, options in _tasks(experiment):
        if corpus in corpus_members(experiment.corpora, name):
            tasks.append((task, kind, str(options.get("label") or KINDS[kind].label) if kind else ""))
    return tasks


def _tasks(experiment: Experiment) -> Iterator[tuple[str, str, str, str | None, Mapping[str, Any]]]:
    """Yield key, corpus, name, kind and options of every task that is evaluated or trained on."""
    for name in experiment.tasks:
        recipe = experiment.evaluation_recipe(name)
        yield f"tasks.{name}", experiment.tasks[name].corpus, name, recipe.kind, recipe.task_options
    for name, tuning in experiment.finetunings.items():
        for part, asked in tuning.recipe.parts.items() if tuning.recipe else ():
            corpus = tuning.jointly.get(part, tuning.corpora[0])
            yield f"finetunings.{name}.recipe", corpus, asked.task, asked.kind, asked.task_options


def finetuning_problems(experiment: Experiment) -> list[str]:
    """List fine-tunings on a task with an unknown kind or metric."""
    problems = []
    for name, tuning in experiment.finetunings.items():
        for asked in tuning.recipe.parts.values() if tuning.recipe else ():
            if asked.kind is None:
                continue
            try:
                metrics_of(asked.task, asked.kind, asked.task_options)
            except TaskError as error:
                problems.append(f"finetunings.{name}.recipe.task: {str(error).rstrip('.')}")
    return problems


def _column_problems(recipe: CorpusRecipe, kind: str, label: str) -> list[str]:
    """List problems of the column that a task predicts: missing, or not numeric for a regression."""
    try:
        table = _table(recipe.path, recipe.path.stat().st_mtime_ns)
    except CorpusError:
        return []  # reported when the corpus is prepared
    if not table:
        return []
    header = table[0][1]
    theirs = {ours: nfc(column) for ours, column in recipe.columns.items()}
    if label in theirs.values() and label not in COLUMNS:
        ours = next(ours for ours, column in theirs.items() if column == label)
        return [f"label: {recipe.path}: column {label!r} is read as {ours!r}; write `label: {ours}`"]
    column = theirs.get(label, label)
    if column not in header or label in _NO_LABELS:
        there = [name for name in header if name and name not in (*theirs.values(), *_NO_LABELS)]
        there += [ours for ours in theirs if ours not in _NO_LABELS]
        return [f"label: {recipe.path} has no column {label!r} to predict.{nearest(label, there)} Columns: {', '.join(there)}"]
    if kind != "regression":
        return []
    place = header.index(column)
    wrong = [(row, cells) for row, cells in table[1:] if place < len(cells) and not _is_number(cells[place])]
    if not wrong:
        return []
    row, cells = wrong[0]
    names = [cells[header.index(name)] for name in (theirs.get("id", "id"), theirs.get("path", "path")) if name in header]
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    said = repr(cells[place]) if cells[place].strip() else "empty"
    return [f"label: {recipe.path}, row {row}: {label} of {next(iter(names), 'the recording')} is {said}, not a number{more}"]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


@lru_cache(maxsize=16)
def _table(path: Path, _: int) -> list[Row]:
    """Read the rows of a CSV file, cached by modification time."""
    return read_table(path, "as the list of recordings", "Give the CSV file as `path` of the corpus.")
