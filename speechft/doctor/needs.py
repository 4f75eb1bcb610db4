"""Compare an experiment's needs with the lists of its corpora: splits, folds, columns, classes, words, trials.

The checks are those of evaluation and stage 1 themselves (`check` of the protocol, `check_stage1`), run before any job.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from speechft.conventions import SPLITS
from speechft.corpora.checking import CorpusCheck, Listed, check_corpus, check_union
from speechft.corpora.trials import Trial
from speechft.downloads.lexicons import lexicon_files, will_be_fetched
from speechft.errors import SpeechFTError, TaskError
from speechft.evaluate.data.splits import need_splits
from speechft.evaluate.protocols import protocol_of
from speechft.experiment.encoders import PretrainedHere
from speechft.experiment.methods import MergedMethod, TrainedMethod
from speechft.experiment.schema import Experiment
from speechft.files.hashes import sha256_json
from speechft.finetune.splits import check_stage1, needed_splits
from speechft.recipes.corpora import UnionCorpus
from speechft.recipes.evaluation import EvaluationRecipe
from speechft.recipes.finetuning import FinetuneRecipe, JointTask
from speechft.tasks import task_of
from speechft.tasks.asv import SpeakerVerification

_SHOWN = 3
"""Number of utterances or words named in a sentence."""
Cuts = Mapping[str, Sequence[Any]]


Need = tuple[str, Callable[[Cuts, Sequence[Trial]], None]]
"""A key of the experiment, and a check of its corpus that raises an error for an unmet need."""


def look_at(experiment: Experiment, name: str, seen: dict[str, CorpusCheck]) -> CorpusCheck:
    """Check a corpus of the experiment, and the experiment's needs of it.

    `seen` caches checked corpora, which unions reuse; this one is added.
    """
    if name in seen:
        return seen[name]
    corpus = experiment.corpora[name]
    if isinstance(corpus, UnionCorpus):
        members = {member: look_at(experiment, member, seen).listed for member in corpus.of}
        readable = {member: listed for member, listed in members.items() if listed is not None}
        lacking = [f"{member} cannot be read" for member in members if member not in readable]
        check = check_union(name, readable)
        check = dataclasses.replace(check, listed=None, problems=(*lacking, *check.problems)) if lacking else check
    else:
        check = check_corpus(name, corpus)
    unmet = () if check.listed is None else unmet_needs(experiment, name, check.listed)
    count = len(check.problems) + len(unmet)
    rows = (dataclasses.replace(check.splits[0], problems=count), *check.splits[1:])
    seen[name] = dataclasses.replace(check, splits=rows, unmet=unmet)
    return seen[name]


def unmet_needs(experiment: Experiment, name: str, listed: Listed) -> tuple[str, ...]:
    """Write a sentence for each key of the experiment whose needs the corpus's lists do not meet."""
    unmet = []
    needs = list(_needs(experiment, name))
    cuts = listed.cuts() if needs else {}
    for key, check in needs:
        try:
            check(cuts, listed.trials)
        except SpeechFTError as error:
            unmet.append(f"{key}: corpus {name}: {_sentence(str(error))}")
    return tuple(unmet)


def _needs(experiment: Experiment, name: str) -> Iterator[Need]:
    for task, evaluation in experiment.tasks.items():
        if evaluation.corpus == name:
            evaluated = experiment.evaluation_recipe(task)
            yield f"tasks.{task}", partial(_evaluated, evaluated)
            for method, merged in experiment.methods.items():
                if isinstance(merged, MergedMethod) and merged.choose and task in merged.choose.tasks:
                    yield f"methods.{method}.choose.tasks", partial(_chosen_by, task, evaluated)
    for tuning, entry in experiment.finetunings.items():
        if entry.pretraining is not None and entry.corpus == name:
            yield f"finetunings.{tuning}", _with_splits("train")
        elif entry.recipe is not None and name in entry.corpora:
            yield from _trained_on(experiment, tuning, name)
    for encoder, made in experiment.encoders.items():
        if isinstance(made, PretrainedHere) and name in made.corpora:
            yield f"encoders.{encoder}", _with_splits("train")
    for analysis, layout in experiment.analyses.items():
        if layout.corpus == name:
            yield f"analyses.{analysis}", _with_splits(layout.recipe.split)
    for curve, connection in experiment.connections.items():
        recipe = experiment.finetune_recipe(*connection.end)
        # With a left-out fold, all recordings are in train.
        if experiment.finetunings[connection.finetuning].corpus == name and isinstance(recipe, FinetuneRecipe) and recipe.fold is None:
            yield f"curves.{curve}", _with_splits(connection.split)


def _with_splits(*splits: str) -> Callable[[Cuts, Sequence[Trial]], None]:
    return lambda cuts, _: need_splits(cuts, splits)


def _evaluated(recipe: EvaluationRecipe, cuts: Cuts, trials: Sequence[Trial]) -> None:
    if _awaits_lexicons(recipe):
        need_splits(cuts, SPLITS)
    else:
        evaluated = task_of(recipe)
        protocol_of(evaluated).check(evaluated, cuts, trials)


def _trained_on(experiment: Experiment, tuning: str, name: str) -> Iterator[Need]:
    """Yield the distinct tasks that a fine-tuning trains on the corpus, over all methods that train."""
    entry = experiment.finetunings[tuning]
    seen = set()
    for method in (name for name, entry in experiment.methods.items() if isinstance(entry, TrainedMethod)):
        try:
            recipe = experiment.finetune_recipe(tuning, method)
        except SpeechFTError:
            continue  # this method cannot be used with this fine-tuning
        assert isinstance(recipe, FinetuneRecipe)
        corpora = {recipe.task: entry.corpus, **entry.jointly}
        for part, asked in recipe.parts.items():
            identity = (part, sha256_json([asked.task, asked.kind, asked.task_options, asked.fold]))
            if corpora.get(part) == name and identity not in seen:
                seen.add(identity)
                key = f"finetunings.{tuning}" + (f" ({part})" if len(recipe.parts) > 1 else "")
                yield key, partial(_trained, asked)


def _trained(part: JointTask, cuts: Cuts, _: Sequence[Trial]) -> None:
    if _awaits_lexicons(part):
        need_splits(cuts, needed_splits(part.fold))
    else:
        check_stage1(task_of(part), cuts, part.fold)


def _chosen_by(task: str, recipe: EvaluationRecipe, cuts: Cuts, trials: Sequence[Trial]) -> None:
    """Raise an error if alpha is chosen by a task whose heads are selected on test."""
    dev = {cut.id for cut in cuts.get("dev", ())}
    if trials and isinstance(task_of(recipe), SpeakerVerification) and not any(trial.enrolment in dev for trial in trials):
        raise TaskError(f"{task} has no dev trials, so its heads are selected on test. Choose alpha by other tasks, or add dev trials.")


def _awaits_lexicons(recipe: EvaluationRecipe | JointTask) -> bool:
    """Whether words cannot be looked up yet, because the workflow will download a lexicon; noted in `CorpusCheck.notes`."""
    return any(map(will_be_fetched, lexicon_files(recipe.task, recipe.task_options)))


def _sentence(text: str) -> str:
    """Put an error on one line, with the first few of its indented lines in parentheses after their heading."""
    parts: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("  ") and parts:
            parts[-1][1].append(line.strip())
        else:
            parts.append((line, []))
    shown = [
        f"{heading} ({'; '.join(details[:_SHOWN])}{'; ...' if len(details) > _SHOWN else ''})" if details else heading
        for heading, details in parts
    ]
    return " ".join(shown)
