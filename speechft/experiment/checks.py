"""Consistency checks of an experiment: every name used is defined, and the workflow can produce every model in a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from speechft.errors import ConfigError, nearest
from speechft.experiment.encoders import FrozenModule, PretrainedHere, encoders_behind
from speechft.experiment.layouts import PRETRAINED, rows_to_compare
from speechft.experiment.methods import FINETUNED, EarlyMethod, MergedMethod, TrainedMethod
from speechft.experiment.own_tasks import finetuning_problems, own_task_problems
from speechft.experiment.paths import bad_paths
from speechft.merge.methods import METHODS
from speechft.recipes.corpora import UnionCorpus
from speechft.recipes.evaluation import evaluation_recipe
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.pretraining import Architecture, LayerTargets
from speechft.tasks.catalog import TASKS, task_entry

if TYPE_CHECKING:
    from speechft.experiment.schema import Experiment


def experiment_problems(experiment: Experiment) -> list[str]:
    """List inconsistencies of an experiment whose keys and values are valid individually.

    Undefined names are checked first; checks that depend on names run only if all are defined.
    """
    problems = [*_undefined(experiment), *_reserved(experiment), *_bad_task_recipes(experiment), *bad_paths(experiment)]
    problems += finetuning_problems(experiment)
    if problems:
        return problems
    problems = [*_bad_starts(experiment), *_bad_given(experiment), *_bad_pretrainings(experiment), *_bad_combinations(experiment)]
    return problems or [
        *_bad_tables(experiment), *_impossible_models(experiment), *_bad_connections(experiment), *own_task_problems(experiment)
    ]  # fmt: skip


def _undefined(experiment: Experiment) -> list[str]:
    """List names that are used but not defined."""
    problems: list[str] = []

    def need(key: str, names: Iterable[str], defined: Iterable[str]) -> None:
        defined = list(defined)
        for name in names:
            if name in modules and name not in defined:
                problems.append(f"{key}: {name!r} is a module of your own, which can only be evaluated, not fine-tuned, merged or analysed")
            elif name not in defined:
                problems.append(f"{key}: {name!r} is not defined.{nearest(name, defined)} Allowed here: {', '.join(defined) or 'none'}")

    def need_method(key: str, name: str) -> None:
        try:
            known = experiment.is_method(name)
        except ValueError as error:
            problems.append(f"{key}: {error}")
        else:
            need(key, () if known else [name], ["pretrained", *experiment.methods, *([FINETUNED] if experiment.given else [])])

    def need_model(key: str, finetuning: str, method: str) -> None:
        if (finetuning, method) == PRETRAINED:
            return
        need(key, [finetuning], tuned)
        if method == "pretrained":
            problems.append(f"{key}: the pre-trained encoder is none/pretrained, not {finetuning}/{method}")
        need_method(key, method)

    modules = {name for name, entry in experiment.encoders.items() if isinstance(entry, FrozenModule)}
    tuned = [*experiment.finetunings, *experiment.combinations]
    learned = experiment.learned
    trained = [name for name, method in experiment.methods.items() if isinstance(method, TrainedMethod)]
    early = [name for name, method in experiment.methods.items() if isinstance(method, EarlyMethod)]
    merged = [name for name, method in experiment.methods.items() if isinstance(method, MergedMethod)]
    for name, corpus in experiment.corpora.items():
        need(f"corpora.{name}.of", corpus.of if isinstance(corpus, UnionCorpus) else (), experiment.corpora)
    for name, entry in experiment.encoders.items():
        need(f"encoders.{name}.corpora", getattr(entry, "corpora", ()), experiment.corpora)
        need(f"encoders.{name}: start or targets.encoder", encoders_behind(entry), [other for other in learned if other != name])
    known = {**TASKS, **experiment.tasks}
    for name, tuning in experiment.finetunings.items():
        need(f"finetunings.{name}.corpus", tuning.corpora, experiment.corpora)
        need(f"finetunings.{name}.encoder", [tuning.encoder] if tuning.encoder else (), learned)
        need(f"finetunings.{name}.task", [tuning.task] if tuning.task and tuning.task not in TASKS else (), known)
        parts = tuning.recipe.parts.values() if tuning.recipe else ()
        need(f"finetunings.{name}.recipe.task", [part.task for part in parts if part.kind is None and part.task not in TASKS], known)
        targets = getattr(tuning.pretraining.targets, "encoder", None) if tuning.pretraining else None
        need(f"finetunings.{name}.pretraining.targets.encoder", [targets] if targets else (), experiment.encoders)
    for name, combination in experiment.combinations.items():
        need(f"combinations.{name}.of", combination.of, experiment.finetunings)
    for name, method in experiment.methods.items():
        if isinstance(method, TrainedMethod):
            need(f"methods.{name}.changes", sorted(method.changes), FinetuneRecipe.model_fields)
        else:
            need(f"methods.{name}.of", [method.of], [*trained, *early] if isinstance(method, MergedMethod) else trained)
            if choose := getattr(method, "choose", None):
                need(f"methods.{name}.choose.tasks", choose.tasks, experiment.tasks)
                need(f"methods.{name}.choose.among", [choose.among] if choose.among else (), [other for other in merged if other != name])
    for name, task in experiment.tasks.items():
        need(f"tasks.{name}.corpus", [task.corpus], experiment.corpora)
    for name, table in experiment.tables.items():
        need(f"tables.{name}.encoders", table.encoders, experiment.encoders)
        need(f"tables.{name}.finetunings", table.finetunings, tuned)
        need(f"tables.{name}.tasks", table.tasks, experiment.tasks)
        need(f"tables.{name}.score.tasks", table.score.tasks if table.score else (), table.tasks)
        for row in table.rows:
            need_model(f"tables.{name}.rows", *row.names)
        for used in () if table.rows else table.methods:
            need_method(f"tables.{name}.methods", used)
    for name, curve in experiment.curves.items():
        need(f"curves.{name}.encoder", [curve.encoder], learned)
    for name, connection in experiment.connections.items():
        need(f"curves.{name}.finetuning", [connection.finetuning], tuned)
        need(f"curves.{name}.method", [connection.method], experiment.methods)
        if connection.start:
            need_model(f"curves.{name}.start", *connection.start.split("/"))
    for name, curve in experiment.alpha_curves.items():
        need(f"curves.{name}.finetuning", [curve.finetuning], tuned)
        need(f"curves.{name}.method", [curve.method], merged)
        need(f"curves.{name}.tasks", curve.tasks, experiment.tasks)
    for name, analysis in experiment.analyses.items():
        need(f"analyses.{name}.encoder", [analysis.encoder], learned)
        need(f"analyses.{name}.corpus", [analysis.corpus], experiment.corpora)
        for row in analysis.rows:
            need_model(f"analyses.{name}.rows", *row.names)
    return problems


def _reserved(experiment: Experiment) -> list[str]:
    """List names with a reserved meaning, and names that would share files."""
    problems = [
        f"methods.{name}: only merges can have @ in their name; choose another name"
        for name, method in experiment.methods.items()
        if "@" in name and not isinstance(method, MergedMethod)
    ]
    if "pretrained" in experiment.methods:
        problems.append("methods.pretrained: this name is reserved for the pre-trained encoder; choose another name")
    if experiment.given and FINETUNED in experiment.methods:
        problems.append(f"methods.{FINETUNED}: this name is reserved for fine-tunings given as a checkpoint; choose another name")
    for kind, names in (("finetunings", experiment.finetunings), ("combinations", experiment.combinations)):
        if "none" in names:
            problems.append(f"{kind}.none: this name is reserved for the pre-trained encoder; choose another name")
    same_files = "and would write the same files"
    taken: list[tuple[str, Iterable[str], Iterable[str], str]] = [
        ("combinations", experiment.combinations, list(experiment.finetunings), "a fine-tuning has this name"),
        ("curves", experiment.curves, list(experiment.tables), f"a table has this name, {same_files}"),
        ("analyses", experiment.analyses, [*experiment.tables, *experiment.curves], f"a table or curve has this name, {same_files}"),
    ]  # fmt: skip
    return problems + [
        f"{kind}.{name}: {why}; choose another name" for kind, names, others, why in taken for name in names if name in others
    ]


def _bad_task_recipes(experiment: Experiment) -> list[str]:
    problems = []
    for name, evaluation in experiment.tasks.items():
        try:
            evaluation_recipe(name, evaluation.changes)
        except ConfigError as error:
            problems.append(str(error))
    return problems


def _bad_starts(experiment: Experiment) -> list[str]:
    """List fine-tunings that start from an undefined model, or from themselves."""
    problems = []
    tunings = experiment.finetunings
    for name, tuning in tunings.items():
        start, method = tuning.starts_from
        if tuning.start is not None and (start not in tunings or not experiment.is_method(method)):
            problems.append(
                f"finetunings.{name}.start: {tuning.start!r} is not a model; name a fine-tuning and a method, such as pr/speech_ft"
            )
        elif _leads_back(name, lambda other: [tunings[other].starts_from[0]] if other in tunings else []):
            problems.append(f"finetunings.{name}.start: {tuning.start!r} itself starts from {name}; start from another model")
    return problems


def _bad_given(experiment: Experiment) -> list[str]:
    """List fine-tunings given as a checkpoint without the encoder they were fine-tuned from."""
    return [
        f"finetunings.{name}.encoder: name the encoder that it was fine-tuned from; available: {', '.join(experiment.learned) or 'none'}"
        for name, encoder in experiment.given.items()
        if not encoder
    ]


def _leads_back(name: str, following: Callable[[str], Sequence[str]]) -> bool:
    """Whether following the references from `name` leads back to it."""
    seen: set[str] = set()
    waiting = list(following(name))
    while waiting:
        seen.add(other := waiting.pop())
        waiting += [further for further in following(other) if further not in seen]
    return name in seen


def _bad_pretrainings(experiment: Experiment) -> list[str]:
    problems = []
    pretrained = {name: entry for name, entry in experiment.encoders.items() if isinstance(entry, PretrainedHere)}
    for name, entry in pretrained.items():
        recipe = entry.recipe
        if entry.start and recipe.architecture != Architecture():
            problems.append(f"encoders.{name}.recipe.architecture: is that of the encoder it starts from; omit it")
        if recipe.repeats and len(recipe.repeats) != len(entry.corpora):
            problems.append(
                f"encoders.{name}.recipe.repeats: {len(recipe.repeats)} numbers for {len(entry.corpora)} corpora; give one per corpus"
            )
        if isinstance(recipe.targets, LayerTargets) and not encoders_behind(entry):
            problems.append(f"encoders.{name}.recipe.targets: needs an encoder; name it in targets.encoder or in start")
        if recipe.targets == "own_predictions" and not entry.start:
            problems.append(f"encoders.{name}.recipe.targets: own_predictions needs an encoder; name it in start")
        if _leads_back(name, lambda other: encoders_behind(experiment.encoders[other])):
            problems.append(f"encoders.{name}: is pre-trained from itself, through start or targets.encoder; name another encoder")
    stored = [entry.store_as for entry in pretrained.values() if entry.store_as]
    return problems + [
        f"encoders: two have `store_as: {name}`; choose another name" for name in sorted(set(stored)) if stored.count(name) > 1
    ]


def _bad_combinations(experiment: Experiment) -> list[str]:
    problems = []
    for name, combination in experiment.combinations.items():
        starts = {"/".join(experiment.finetunings[member].starts_from) for member in combination.of}
        if len(starts) > 1:
            problems.append(
                f"combinations.{name}.of: these start from different models ({', '.join(sorted(starts))}); a merge needs a common one"
            )
    return problems


def _bad_tables(experiment: Experiment) -> list[str]:
    """List score floors and compared rows that are missing from their table."""
    problems = []
    for name, table in experiment.tables.items():
        models = experiment.table_models(name)
        floors = [encoder for encoder, *tuned in models if tuple(tuned) == PRETRAINED]
        if table.score is not None and table.score.floor not in floors:
            problems.append(
                f"tables.{name}.score.floor: {table.score.floor!r} has no pre-trained row in this table; encoders with one: "
                f"{', '.join(floors)}"
            )
        known = list(dict.fromkeys([*(method for *_, method in models), *floors]))
        problems += [
            f"tables.{name}.differences: {other!r} is not a row to compare with.{nearest(other, known)} Available: {', '.join(known)}"
            for other in table.differences
            if not rows_to_compare(models, [other])
        ]
    return problems


def _bad_connections(experiment: Experiment) -> list[str]:
    """List connections whose end has no single-task head, or whose two ends are the same model."""
    problems = []
    for name, layout in experiment.connections.items():
        key, tuning = f"curves.{name}", experiment.finetunings.get(layout.finetuning)
        start, end = experiment.connection_ends(name)
        if start == end:
            problems.append(f"{key}.start: is also the model at alpha 1; name another model")
        if tuning is None or tuning.recipe is None:
            problems.append(f"{key}.finetuning: {layout.finetuning!r} trains no head here; name a fine-tuning on a task")
            continue
        if not isinstance(experiment.method(layout.method), TrainedMethod):
            problems.append(f"{key}.method: {layout.method!r} trains no head; name a method of kind finetune")
            continue
        recipe = experiment.finetune_recipe(layout.finetuning, layout.method)
        assert isinstance(recipe, FinetuneRecipe)
        if len(recipe.parts) > 1:
            problems.append(f"{key}.finetuning: {layout.finetuning!r} trains on several tasks; name a fine-tuning on a single one")
        elif task_entry(recipe.task, recipe.kind).protocol != "default":
            problems.append(
                f"{key}.finetuning: {layout.finetuning!r} is on {recipe.task}, whose scores are not sums over utterances; name another one"
            )
    return problems


def _impossible_models(experiment: Experiment) -> list[str]:
    """List rows that no rule can produce: a trained combination, a merge of too few or many models, another encoder's checkpoint."""
    rows = [
        (f"tables.{name}" + (".rows" if table.rows else ""), model)
        for name, table in experiment.tables.items()
        for model in experiment.table_models(name)
    ]
    rows += [(f"curves.{name}", (curve.encoder, curve.finetuning, curve.method)) for name, curve in experiment.alpha_curves.items()]
    for name, layout in experiment.connections.items():
        rows.append((f"curves.{name}.start", (layout.encoder, *experiment.connection_ends(name)[0])))
    rows += [(f"analyses.{name}.rows", (layout.encoder, *row.names)) for name, layout in experiment.analyses.items() for row in layout.rows]
    problems = []
    for key, (encoder, finetuning, method) in rows:
        if method == "pretrained":
            continue
        members, chosen = experiment.merged_finetunings(finetuning), experiment.method(method)
        merge = METHODS[chosen.recipe.method] if isinstance(chosen, MergedMethod) else None
        if others := [member for member in members if experiment.given.get(member, encoder) != encoder]:
            of = experiment.given[others[0]]
            problems.append(f"{key}: {others[0]!r} was fine-tuned from {of}, not from {encoder}; give it a separate table")
        elif experiment.tuned_method(finetuning, method) != method:
            problems.append(f"{key}: {finetuning!r} is given as a checkpoint; its model is {finetuning}/{FINETUNED}, not {method!r}")
        elif method == FINETUNED and experiment.given and finetuning not in experiment.given:
            problems.append(f"{key}: {FINETUNED!r} is for fine-tunings given as a checkpoint, but {finetuning!r} is trained here")
        elif merge is None and len(members) > 1:
            problems.append(
                f"{key}: {method!r} trains, but {finetuning!r} is a combination, which can only be merged; give it a separate table"
            )
        elif merge is not None and not merge.takes(len(members)):
            problems.append(f"{key}: {method!r} merges by {merge.name}, which cannot merge {len(members)} model(s) as in {finetuning!r}")
    return list(dict.fromkeys(problems))
