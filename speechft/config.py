"""The experiment file: one typed description of corpora, encoders, fine-tunings, methods, tasks and tables.

`load_experiment` is all that the workflow needs at parse time; nothing here imports torch. The JSON schema in `config/schema.json`
is generated from these classes (`speechft schema`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from speechft.alphas import alpha_text, split_method
from speechft.analysis_recipes import AnalysisLayout
from speechft.combinations import Combination, bad_combinations, bad_rows
from speechft.corpus_recipes import Published, corpus_lexicon
from speechft.corpus_recipes import UnionCorpus as UnionCorpus
from speechft.encoder_entries import EncoderEntry, bad_pretrainings
from speechft.encoder_entries import Filterbanks as Filterbanks
from speechft.encoder_entries import PretrainedElsewhere as PretrainedElsewhere
from speechft.encoder_entries import PretrainedHere as PretrainedHere
from speechft.encoder_entries import PublicEncoder as PublicEncoder
from speechft.errors import ConfigError, missing_file, nearest, nearest_file
from speechft.layouts import NOT_TUNED, CurveLayout, Name, RowLayout, TableLayout, bad_differences
from speechft.merge.methods import METHODS
from speechft.recipes import (
    ContinuedPretrainRecipe,
    CorpusRecipe,
    EvaluationRecipe,
    FinetuneRecipe,
    MergeRecipe,
    evaluation_recipe,
)
from speechft.repeated_keys import RepeatedKeyError, load_yaml
from speechft.stage1_entries import EarlyMethod, Finetuning, finetuning_problems
from speechft.text_files import read_text
from speechft.validation import Positive, Strict, validate
from speechft.workflow_paths import bad_paths

PRETRAINED = NOT_TUNED


class TrainedMethod(Strict):
    """A method that trains: stage 1. `changes` are keys of the fine-tuning's recipe that this method sets otherwise."""

    kind: Literal["finetune"] = "finetune"
    label: str = Field(description="Name in tables.")
    changes: dict[str, Any] = Field(default_factory=dict)


class MergedMethod(Strict):
    """A method that merges: stage 2, from the pre-trained encoder and the result of another method."""

    kind: Literal["merge"] = "merge"
    label: str = Field(description="Name in tables.")
    of: Name = Field("stable_ft", description="The method whose model is interpolated with the pre-trained encoder.")
    recipe: MergeRecipe = MergeRecipe()


Method = Annotated[TrainedMethod | EarlyMethod | MergedMethod, Field(discriminator="kind")]


class Evaluation(Strict):
    """One evaluation task: its corpus and what differs from SUPERB's recipe."""

    corpus: Name
    recipe: dict[str, Any] = Field(default_factory=dict, description="Keys of EvaluationRecipe.")


class Resources(Strict):
    """What a job of each kind asks of the machine or the cluster."""

    threads: Positive = 2
    mem_mb: Positive = 4000
    runtime: Positive = Field(60, description="Minutes.")
    gpu: int = Field(0, ge=0, description="Fine-tuning runs one process a GPU.")
    max_mem_mb: Positive | None = Field(None, description="Attempt n asks for n times the memory, but never for more than this.")
    max_runtime: Positive | None = Field(None, description="The same for minutes: what the partition allows.")

    @model_validator(mode="after")
    def _limits_are_not_below(self) -> Self:
        for name, limit in (("mem_mb", self.max_mem_mb), ("runtime", self.max_runtime)):
            if limit is not None and limit < getattr(self, name):
                raise ValueError(f"max_{name}: {limit} is less than {name}, {getattr(self, name)}")
        return self


class StageResources(Strict):
    """Resources by stage; tables, merges and manifests need little."""

    pretrain: Resources = Resources()
    finetune: Resources = Resources()
    evaluate: Resources = Resources()
    small: Resources = Resources(threads=1, mem_mb=2000, runtime=15)

    @model_validator(mode="after")
    def _several_gpus_are_used(self) -> Self:
        wasted = [name for name in ("pretrain", "evaluate", "small") if getattr(self, name).gpu > 1]
        if wasted:
            raise ValueError(f"{', '.join(wasted)}: such jobs use one GPU; only `finetune` uses several")
        return self


def _default_methods() -> dict[str, Any]:
    return {"stable_ft": TrainedMethod(label="Stable-FT"), "speech_ft": MergedMethod(label="Speech-FT")}


class Experiment(Strict):
    """A complete experiment."""

    name: Name
    title: str = ""
    results: Path = Field(Path("results"), description="Folder that receives everything.")
    note: str = Field("", description="Printed under every table, e.g. that the speech is synthetic.")
    corpora: dict[Name, Annotated[CorpusRecipe | Published | UnionCorpus, Field(discriminator="kind")]]
    encoders: dict[Name, EncoderEntry]
    finetunings: dict[Name, Finetuning] = Field(default_factory=dict)
    combinations: dict[Name, Combination] = Field(default_factory=dict, description="Fine-tunings that are merged with each other.")
    methods: dict[Name, Method] = Field(default_factory=_default_methods)
    tasks: dict[str, Evaluation]
    tables: dict[Name, TableLayout]
    curves: dict[Name, CurveLayout] = Field(default_factory=dict, description="Metrics against alpha.")
    analyses: dict[Name, AnalysisLayout] = Field(default_factory=dict, description="Feature similarity against weight deviation.")
    resources: StageResources = StageResources()

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        problems = [*self._unknown_corpora(), *self._unknown_in_methods(), *self._unknown_in_tables(), *self._bad_task_recipes()]
        problems += [*self._unknown_in_scores(), *self._unknown_in_curves(), *bad_pretrainings(self.encoders)]
        problems += [*bad_combinations(self.combinations, self.finetunings), *self._unknown_in_analyses(), *bad_paths(self)]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _unknown_corpora(self) -> list[str]:
        users = [(f"finetunings.{name}.corpus", corpus) for name, item in self.finetunings.items() for corpus in item.corpora]
        users += [(f"tasks.{name}.corpus", item.corpus) for name, item in self.tasks.items()]
        users += [
            (f"corpora.{name}.of", member)
            for name, corpus in self.corpora.items()
            if isinstance(corpus, UnionCorpus)
            for member in corpus.of
        ]
        users += [(f"encoders.{name}.corpora", corpus) for name, item in self.encoders.items() for corpus in getattr(item, "corpora", ())]
        return [_unknown(key, corpus, self.corpora) for key, corpus in users if corpus not in self.corpora]

    def _unknown_in_methods(self) -> list[str]:
        trained = [name for name, method in self.methods.items() if isinstance(method, TrainedMethod)]
        early = [name for name, method in self.methods.items() if isinstance(method, EarlyMethod)]
        problems = [
            _unknown(f"methods.{name}.of", method.of, allowed)
            for name, method in self.methods.items()
            for allowed in [[*trained, *early] if isinstance(method, MergedMethod) else trained]
            if isinstance(method, MergedMethod | EarlyMethod) and method.of not in allowed
        ]
        problems += [
            f"methods.{name}: with @ only merges can be named; choose another name"
            for name, method in self.methods.items()
            if not isinstance(method, MergedMethod) and "@" in name
        ]
        if "pretrained" in self.methods:
            problems.append("methods.pretrained: the pre-trained encoder is always there and cannot be redefined")
        if "none" in self.finetunings:
            problems.append("finetunings.none: this name stands for the pre-trained encoder; choose another")
        for name, method in self.methods.items():
            if isinstance(method, TrainedMethod):
                unknown = sorted(set(method.changes) - set(FinetuneRecipe.model_fields))
                problems += [_unknown(f"methods.{name}.changes", key, FinetuneRecipe.model_fields) for key in unknown]
        return problems

    def _unknown_in_tables(self) -> list[str]:
        problems = []
        for name, table in self.tables.items():
            for key, values, allowed in [
                ("encoders", table.encoders, list(self.encoders)),
                ("finetunings", table.finetunings, [*self.finetunings, *self.combinations]),
                ("tasks", table.tasks, list(self.tasks)),
            ]:
                problems += [_unknown(f"tables.{name}.{key}", value, allowed) for value in values if value not in allowed]
            if table.rows:
                problems += self._bad_listed_rows(f"tables.{name}.rows", table.rows)
                continue
            unknown = [problem for value in table.methods if (problem := self._unknown_method(f"tables.{name}.methods", value))]
            problems += unknown or self._bad_rows(f"tables.{name}", table.finetunings, table.methods)
        return problems

    def _unknown_in_analyses(self) -> list[str]:
        problems = []
        learned = [name for name, encoder in self.encoders.items() if not isinstance(encoder, Filterbanks)]
        for name, analysis in self.analyses.items():
            key = f"analyses.{name}"
            if name in self.tables or name in self.curves:
                problems.append(f"{key}: a table or curve has this name, and their files would be the same; choose another")
            for field, value, allowed in (("encoder", analysis.encoder, learned), ("corpus", analysis.corpus, self.corpora)):
                problems += [_unknown(f"{key}.{field}", value, allowed)] if value not in allowed else []
            problems += self._bad_listed_rows(f"{key}.rows", analysis.rows)
        return problems

    def _bad_listed_rows(self, key: str, rows: Sequence[RowLayout]) -> list[str]:
        problems = []
        for finetuning, method in (row.names for row in rows if row.names != PRETRAINED):
            known = [*self.finetunings, *self.combinations]
            found = [] if finetuning in known else [_unknown(key, finetuning, known)]
            if method == "pretrained":
                found.append(f"{key}: the pre-trained encoder is none/pretrained, not {finetuning}/{method}")
            unknown = self._unknown_method(key, method)
            found += [unknown] if unknown else []
            problems += found or self._bad_rows(key, [finetuning], [method])
        return problems

    def _unknown_method(self, key: str, value: str) -> str | None:
        try:
            known = value == "pretrained" or value in self.methods or self._merged(value) is not None
        except ValueError as error:
            return f"{key}: {error}"
        return None if known else _unknown(key, value, ["pretrained", *self.methods])

    def _unknown_in_scores(self) -> list[str]:
        problems = []
        for name, table in self.tables.items():
            problems += bad_differences(f"tables.{name}.differences", table.differences, self.table_models(name))
            if table.score is None:
                continue
            floors = [encoder for encoder, finetuning, _ in self.table_models(name) if finetuning == "none" and encoder in self.encoders]
            if table.score.floor not in floors:
                problems.append(
                    f"tables.{name}.score.floor: {table.score.floor!r} has no pre-trained row there; have one: {', '.join(floors)}"
                )
            problems += [_unknown(f"tables.{name}.score.tasks", task, table.tasks) for task in table.score.tasks if task not in table.tasks]
        return problems

    def _unknown_in_curves(self) -> list[str]:
        problems = []
        learned = [name for name, encoder in self.encoders.items() if not isinstance(encoder, Filterbanks)]
        merged = [name for name, method in self.methods.items() if isinstance(method, MergedMethod)]
        for name, curve in self.curves.items():
            if name in self.tables:
                problems.append(f"curves.{name}: a table has this name, and their files would be the same; choose another")
            for key, value, allowed in [
                ("encoder", curve.encoder, learned),
                ("finetuning", curve.finetuning, [*self.finetunings, *self.combinations]),
                ("method", curve.method, merged),
                *(("tasks", task, self.tasks) for task in curve.tasks),
            ]:
                problems += [_unknown(f"curves.{name}.{key}", value, allowed)] if value not in allowed else []
            problems += self._bad_rows(f"curves.{name}", [curve.finetuning], [curve.method] if curve.method in merged else [])
        return problems

    def _bad_rows(self, key: str, names: Sequence[str], methods: Sequence[str]) -> list[str]:
        merged = {name: self._merged(name) for name in methods if name != "pretrained"}
        merges = {name: METHODS[method.recipe.method] if method else None for name, method in merged.items()}
        return bad_rows(key, {name: len(self.merged_finetunings(name)) for name in names}, merges)

    def _bad_task_recipes(self) -> list[str]:
        problems = []
        for name, evaluation in self.tasks.items():
            try:
                evaluation_recipe(name, evaluation.recipe)
            except ConfigError as error:
                problems.append(str(error))
        problems += finetuning_problems(self.finetunings, lambda name: self._unknown_method("", name) is None)
        for name, finetuning in self.finetunings.items():
            other = getattr(finetuning.pretraining.targets, "encoder", None) if finetuning.pretraining else None
            if other is not None and other not in self.encoders:
                problems.append(_unknown(f"finetunings.{name}.pretraining.targets.encoder", other, self.encoders))
        return problems

    def method(self, name: str) -> TrainedMethod | EarlyMethod | MergedMethod:
        """The method called `name`, defined or, for `merge@alpha`, derived from the merge.

        Raises:
            KeyError: there is none.
        """
        return self._merged(name) or self.methods[name]

    def _merged(self, name: str) -> MergedMethod | None:
        """The merge `name`, or the merge@alpha; None for everything else."""
        method, alpha = (name, None) if name in self.methods else split_method(name)
        found = self.methods.get(method)
        if not isinstance(found, MergedMethod) or alpha is None:
            return found if isinstance(found, MergedMethod) else None
        label = f"{found.label} (alpha {alpha_text(alpha)})"
        return found.model_copy(update={"label": label, "recipe": found.recipe.model_copy(update={"alpha": alpha})})

    def finetune_recipe(self, finetuning: str, method: str) -> FinetuneRecipe | ContinuedPretrainRecipe:
        """Stage-1 recipe of a fine-tuning under a method that trains."""
        trained, tuning = self.method(method), self.finetunings[finetuning]
        if not isinstance(trained, TrainedMethod):
            raise ConfigError(f"methods.{method} merges; it has no stage-1 recipe.")
        where = f"finetunings.{finetuning} under methods.{method}"
        if tuning.pretraining is not None:
            return validate(ContinuedPretrainRecipe, {**tuning.pretraining.model_dump(exclude_unset=True), **trained.changes}, where)
        assert tuning.recipe is not None
        recipe = validate(FinetuneRecipe, {**tuning.recipe.model_dump(exclude_unset=True), **trained.changes}, where)
        corpora = {recipe.task: tuning.corpus, **tuning.jointly}
        return recipe.with_lexicons({task: corpus_lexicon(self.corpora, corpus) for task, corpus in corpora.items()})

    def merge_recipe(self, method: str) -> MergeRecipe:
        """Stage-2 recipe of a method that merges."""
        merged = self.method(method)
        if not isinstance(merged, MergedMethod):
            raise ConfigError(f"methods.{method} trains; it has no merge recipe.")
        return merged.recipe

    def merged_finetunings(self, name: str) -> tuple[str, ...]:
        """The fine-tunings whose models are merged under `name`: those of a combination, or the fine-tuning itself."""
        return self.combinations[name].of if name in self.combinations else (name,)

    def merge_start(self, name: str) -> tuple[str, str]:
        """Fine-tuning and method of the model that a fine-tuning starts from, or all of a combination, and that merges start from."""
        return self.finetunings[self.merged_finetunings(name)[0]].starts_from

    def evaluation_recipe(self, task: str) -> EvaluationRecipe:
        """Stage-3 recipe of a task."""
        evaluation = self.tasks[task]
        return evaluation_recipe(task, evaluation.recipe).with_lexicon(corpus_lexicon(self.corpora, evaluation.corpus))

    def table_rows(self, table: str) -> list[tuple[tuple[str, str, str], str | None]]:
        """Rows of a table as (encoder, finetuning, method), and the label that the layout gives; fbank has its pre-trained row only."""
        layout = self.tables[table]
        rows: list[tuple[tuple[str, str, str], str | None]] = []
        for encoder in layout.encoders:
            if isinstance(self.encoders.get(encoder), Filterbanks):
                rows.append(((encoder, *PRETRAINED), None))
            else:
                rows += [((encoder, *row.names), row.label) for row in layout.layout_rows]
        return rows

    def table_models(self, table: str) -> list[tuple[str, str, str]]:
        """Rows of a table as (encoder, finetuning, method)."""
        return [model for model, _ in self.table_rows(table)]

    def table_cells(self, table: str) -> list[str]:
        """Cells of a table, each as `encoder/finetuning/method/task`."""
        return ["/".join((*model, task)) for model in self.table_models(table) for task in self.tables[table].tasks]

    def curve_models(self, curve: str) -> list[tuple[float, tuple[str, str, str]]]:
        """Points of a curve as alpha and (encoder, finetuning, method).

        The ends of a plain linear merge are the pre-trained and the fine-tuned encoder bit for bit, and its own alpha is the method
        itself: these models are not made and evaluated again.
        """
        layout = self.curves[curve]
        merged = self.method(layout.method)
        assert isinstance(merged, MergedMethod)
        known: dict[float, tuple[str, str, str]] = {}
        if merged.recipe.method == "linear" and not (merged.recipe.scale or merged.recipe.dtype):
            known = {0.0: (layout.encoder, *self.merge_start(layout.finetuning))}
            if layout.finetuning in self.finetunings:
                known[1.0] = (layout.encoder, layout.finetuning, merged.of)
        if isinstance(merged.recipe.alpha, float):
            known.setdefault(merged.recipe.alpha, (layout.encoder, layout.finetuning, layout.method))
        for alpha in layout.alphas:
            known.setdefault(alpha, (layout.encoder, layout.finetuning, f"{layout.method}@{alpha_text(alpha)}"))
        return [(alpha, known[alpha]) for alpha in layout.alphas]

    def curve_cells(self, curve: str) -> list[str]:
        """Cells of a curve, each as `encoder/finetuning/method/task`."""
        return ["/".join((*model, task)) for _, model in self.curve_models(curve) for task in self.curves[curve].tasks]


def _unknown(key: str, value: str, allowed: Any) -> str:
    return f"{key}: {value!r} is not defined; defined are {', '.join(allowed) or 'none'}.{nearest(value, allowed)}".removesuffix(".")


def parse_experiment(values: dict[str, Any], source: str) -> Experiment:
    """Validate an experiment that was read from `source`; every problem is in one ConfigError."""
    return validate(Experiment, values, source)


def load_experiment(path: str | Path) -> Experiment:
    """Read an experiment file (YAML).

    Raises:
        ConfigError: the file is missing, is not YAML, or has unknown keys or impossible values.
    """
    path = Path(path)
    try:
        values = load_yaml(read_text(path))
    except FileNotFoundError:
        raise ConfigError(missing_file(path, "as the experiment", nearest_file(path))) from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder. Name an experiment file, e.g. {path / 'paper.yaml'}.") from None
    except RepeatedKeyError as error:
        raise ConfigError(f"{path}: {error}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # dates and numbers that cannot be are no YAMLError
        problem = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ConfigError(f"{path}: is not valid YAML: {problem}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: an experiment is a mapping of keys, found {type(values).__name__}.")
    return parse_experiment(values, str(path))


def experiment_schema() -> dict[str, Any]:
    """JSON schema of experiment files; `config/schema.json` is this and a test compares them."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Experiment.model_json_schema()}
