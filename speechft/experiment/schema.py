"""The experiment file: one typed description of corpora, encoders, fine-tunings, methods, tasks and tables.

The workflow calls `load_experiment` when it is parsed; nothing here imports torch. `config/schema.json` is generated from these classes
(`speechft schema`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, model_validator
from typing_extensions import Self

from speechft.errors import ConfigError, missing_file, nearest_file
from speechft.experiment.checks import experiment_problems
from speechft.experiment.encoders import ONLY_EVALUATED, EncoderEntry
from speechft.experiment.layouts import PRETRAINED, AnalysisLayout, ConnectionLayout, Curve, CurveLayout, TableLayout
from speechft.experiment.methods import FINETUNED, GIVEN, Combination, EarlyMethod, Finetuning, MergedMethod, Method, TrainedMethod
from speechft.experiment.own_tasks import with_own_tasks
from speechft.files.structured import RepeatedKeyError, load_yaml
from speechft.files.text import read_text
from speechft.plugins import load
from speechft.recipes.alphas import alpha_text, split_method
from speechft.recipes.corpora import CorpusRecipe, PluginCorpus, Published, UnionCorpus, corpus_lexicon
from speechft.recipes.evaluation import EvaluationRecipe, evaluation_recipe
from speechft.recipes.finetuning import CACHE_GB, FinetuneRecipe
from speechft.recipes.merging import MergeRecipe
from speechft.recipes.pretraining import ContinuedPretrainRecipe
from speechft.recipes.values import Name, Positive, Strict, validate


class Evaluation(Strict):
    """One evaluation task: corpus and changes to the default recipe; for a task of your own also kind, column and metric."""

    corpus: Name
    kind: str | None = Field(
        None,
        description="Kind of a task of your own: classification, regression, multilabel, ctc, frame_classification or verification.",
    )
    label: str | None = Field(
        None, description="For a task of your own: corpus column to predict; default, by kind: label, text, phones or speaker."
    )
    metric: str | tuple[str, ...] | None = Field(
        None, description="For a task of your own: one metric or several, the first of which selects on dev; default: the kind's first."
    )
    recipe: dict[str, Any] = Field(
        default_factory=dict, description="Keys of EvaluationRecipe, and `like`: a task or kind whose defaults replace the task's own."
    )

    @model_validator(mode="after")
    def _column_of_a_kind(self) -> Self:
        if self.kind is None and (self.label or self.metric):
            raise ValueError("label and metric are for a task of your own; add its `kind`")
        return self

    @property
    def changes(self) -> dict[str, Any]:
        """Keys of `recipe`, with kind, column and metric placed where `evaluation_recipe` expects them."""
        if self.kind is None:
            return self.recipe
        given = {"label": self.label, "metric": self.metric}
        options = {key: value for key, value in given.items() if value is not None}
        return {**self.recipe, "kind": self.kind, "task_options": {**options, **self.recipe.get("task_options", {})}}


class Resources(Strict):
    """Resources that a job requests."""

    threads: Positive = 2
    mem_mb: Positive = Field(4000, description="Memory in MB; attempt n requests n times this.")
    runtime: Positive = Field(60, description="Time limit in minutes; attempt n requests n times this.")
    gpu: int = Field(0, ge=0, description="Number of GPUs; fine-tuning runs one process per GPU.")
    max_mem_mb: Positive | None = Field(None, description="Maximum memory of any attempt, in MB.")
    max_runtime: Positive | None = Field(
        None, description="Maximum time limit of any attempt, in minutes, such as the limit of the partition."
    )

    @model_validator(mode="after")
    def _limits_are_not_below(self) -> Self:
        for name, limit in (("mem_mb", self.max_mem_mb), ("runtime", self.max_runtime)):
            if limit is not None and limit < getattr(self, name):
                raise ValueError(f"max_{name}: {limit} is less than {name}, {getattr(self, name)}; raise it")
        return self


class FinetuneResources(Resources):
    """Resources of a fine-tuning."""

    cache_gb: int = Field(
        CACHE_GB,
        ge=0,
        description="Disk cache per running job, in GB, for the output of the frozen extractor; affects only speed.",
    )


class StageResources(Strict):
    """Resources by stage. `small` is for tables, merges and manifests."""

    pretrain: Resources = Resources()
    finetune: FinetuneResources = FinetuneResources()
    evaluate: Resources = Resources()
    small: Resources = Resources(threads=1, mem_mb=2000, runtime=15)

    @model_validator(mode="after")
    def _several_gpus_are_used(self) -> Self:
        wasted = [name for name in ("pretrain", "evaluate", "small") if getattr(self, name).gpu > 1]
        if wasted:
            raise ValueError(f"{', '.join(wasted)}: such jobs use at most one GPU; only `finetune` uses several")
        return self


def _default_methods() -> dict[str, Any]:
    return {"stable_ft": TrainedMethod(label="Stable-FT"), "speech_ft": MergedMethod(label="Speech-FT")}


class Experiment(Strict):
    """A complete experiment."""

    name: Name
    title: str = ""
    results: Path = Field(Path("results"), description="Results folder.")
    note: str = Field("", description="Line printed under every table, e.g. that the speech is synthetic.")
    plugins: tuple[str, ...] = Field(
        (),
        description="Code that registers tasks, merge methods, corpora or encoders: path/to/file.py or my_package.my_module.",
    )
    corpora: dict[Name, Annotated[CorpusRecipe | Published | PluginCorpus | UnionCorpus, Field(discriminator="kind")]]
    encoders: dict[Name, EncoderEntry]
    finetunings: dict[Name, Finetuning] = Field(default_factory=dict)
    combinations: dict[Name, Combination] = Field(default_factory=dict, description="Fine-tunings to merge together.")
    methods: dict[Name, Method] = Field(default_factory=_default_methods)
    tasks: dict[Name, Evaluation]
    tables: dict[Name, TableLayout]
    curves: dict[Name, Curve] = Field(default_factory=dict, description="Metrics, or loss and error of stage 1, against alpha.")
    analyses: dict[Name, AnalysisLayout] = Field(default_factory=dict, description="Feature similarity against weight deviation.")
    resources: StageResources = StageResources()

    @model_validator(mode="before")
    @classmethod
    def _tasks_of_finetunings(cls, values: Any) -> Any:
        return with_own_tasks(values)

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if problems := experiment_problems(self):
            raise ValueError("\n".join(problems))
        return self

    def is_method(self, name: str) -> bool:
        """Whether a row can have this method.

        Raises:
            ValueError: the name ends with an alpha that is not spelled as by `alpha_text`.
        """
        given = name == FINETUNED and any(tuning.checkpoint for tuning in self.finetunings.values())
        return name == "pretrained" or given or name in self.methods or self._merged(name) is not None

    def method(self, name: str) -> TrainedMethod | EarlyMethod | MergedMethod:
        """Return a method by name; `merge@alpha` is derived from the merge.

        Raises:
            KeyError: unknown method.
        """
        return self._merged(name) or (GIVEN if name == FINETUNED and name not in self.methods else self.methods[name])

    def tuned_method(self, finetuning: str, method: str) -> str:
        """Return `finetuned` if `method` trains and the fine-tuning is given as a checkpoint, otherwise `method` itself."""
        tuning = self.finetunings.get(finetuning)
        trains = method in self.methods and not isinstance(self.methods[method], MergedMethod)
        return FINETUNED if tuning is not None and tuning.checkpoint is not None and trains else method

    @property
    def learned(self) -> list[str]:
        """Encoders with weights, which can be fine-tuned and merged."""
        return [name for name, entry in self.encoders.items() if not isinstance(entry, ONLY_EVALUATED)]

    @property
    def shown(self) -> list[str]:
        """Names of tables, curves and analyses; each has files of that name."""
        return [*self.tables, *self.curves, *self.analyses]

    @property
    def given(self) -> dict[str, str]:
        """Fine-tuning given as a checkpoint -> encoder that it was fine-tuned from."""
        learned = self.learned
        tunings = {name: tuning for name, tuning in self.finetunings.items() if tuning.checkpoint is not None}
        return {name: tuning.encoder or (learned[0] if len(learned) == 1 else "") for name, tuning in tunings.items()}

    def _merged(self, name: str) -> MergedMethod | None:
        """Return the merge of this name, also for merge@alpha; None for any other method."""
        method, alpha = (name, None) if name in self.methods else split_method(name)
        merge = self.methods.get(method)
        if not isinstance(merge, MergedMethod):
            return None
        if alpha is None:
            return merge
        label = f"{merge.label} (alpha {alpha_text(alpha)})"
        return merge.model_copy(update={"label": label, "choose": None, "recipe": merge.recipe.model_copy(update={"alpha": alpha})})

    def finetune_recipe(self, finetuning: str, method: str) -> FinetuneRecipe | ContinuedPretrainRecipe:
        """Build the stage-1 recipe of a fine-tuning with a method that trains."""
        trained, tuning = self.method(method), self.finetunings[finetuning]
        if not isinstance(trained, TrainedMethod):
            raise ConfigError(f"methods.{method} merges; it has no stage-1 recipe.")
        where = f"finetunings.{finetuning} under methods.{method}"
        if tuning.pretraining is not None:
            return validate(ContinuedPretrainRecipe, {**tuning.pretraining.model_dump(exclude_unset=True), **trained.changes}, where)
        assert tuning.recipe is not None
        recipe = validate(FinetuneRecipe, {**tuning.recipe.model_dump(exclude_unset=True), **trained.changes}, where)
        corpora = {recipe.task: tuning.corpora[0], **tuning.jointly}
        return recipe.with_lexicons({task: corpus_lexicon(self.corpora, corpus) for task, corpus in corpora.items()})

    def merge_recipe(self, method: str) -> MergeRecipe:
        """Build the stage-2 recipe of a method that merges; in `recordings`, names of corpora become their manifest folders."""
        merged = self.method(method)
        if not isinstance(merged, MergedMethod):
            raise ConfigError(f"methods.{method} trains; it has no merge recipe.")
        return merged.recipe.with_folders(self._manifests())

    def merge_corpora(self, method: str) -> list[str]:
        """List the manifest folders that a merge method runs the models on."""
        return [folder for folder in self.merge_recipe(method).recordings if folder in self._manifests().values()]

    def _manifests(self) -> dict[str, str]:
        return {name: f"{self.results.as_posix()}/corpora/{name}" for name in self.corpora}

    def merged_finetunings(self, name: str) -> tuple[str, ...]:
        """Return the fine-tunings merged under `name`: those of a combination, or the fine-tuning itself."""
        return self.combinations[name].of if name in self.combinations else (name,)

    def merge_start(self, name: str) -> tuple[str, str]:
        """Return fine-tuning and method of theta0: the model that a fine-tuning, or all of a combination, starts from."""
        return self.finetunings[self.merged_finetunings(name)[0]].starts_from

    def evaluation_recipe(self, task: str) -> EvaluationRecipe:
        """Build the stage-3 recipe of a task."""
        evaluation = self.tasks[task]
        return evaluation_recipe(task, evaluation.changes).with_lexicon(corpus_lexicon(self.corpora, evaluation.corpus))

    def table_rows(self, table: str) -> list[tuple[tuple[str, str, str], str | None]]:
        """Rows of a table as (encoder, finetuning, method), each with its label in the layout, if any."""
        layout = self.tables[table]
        rows: list[tuple[tuple[str, str, str], str | None]] = []
        for encoder in layout.encoders:
            if isinstance(self.encoders.get(encoder), ONLY_EVALUATED):
                rows.append(((encoder, *PRETRAINED), None))
                continue
            for row in layout.layout_rows:
                finetuning, method = row.names
                model = (encoder, finetuning, method if layout.rows else self.tuned_method(finetuning, method))
                if model not in [known for known, _ in rows]:
                    rows.append((model, row.label))
        return rows

    def table_models(self, table: str) -> list[tuple[str, str, str]]:
        """Rows of a table as (encoder, finetuning, method)."""
        return [model for model, _ in self.table_rows(table)]

    def table_cells(self, table: str) -> list[str]:
        """Cells of a table, each as `encoder/finetuning/method/task`."""
        return ["/".join((*model, task)) for model in self.table_models(table) for task in self.tables[table].tasks]

    @property
    def cells(self) -> list[str]:
        """Distinct cells of all tables and curves, as `encoder/finetuning/method/task`."""
        of_tables = (cell for table in self.tables for cell in self.table_cells(table))
        of_curves = (cell for curve in self.alpha_curves for cell in self.curve_cells(curve))
        return list(dict.fromkeys((*of_tables, *of_curves)))

    @property
    def alpha_curves(self) -> dict[str, CurveLayout]:
        """Curves of kind `alpha`, which plot cells."""
        return {name: layout for name, layout in self.curves.items() if isinstance(layout, CurveLayout)}

    @property
    def connections(self) -> dict[str, ConnectionLayout]:
        """Curves of kind `connection`, which plot loss and error of a fine-tuning's own task."""
        return {name: layout for name, layout in self.curves.items() if isinstance(layout, ConnectionLayout)}

    def connection_ends(self, connection: str) -> tuple[tuple[str, str], tuple[str, str]]:
        """Fine-tuning and method at alpha 0 and at alpha 1 of a connection."""
        layout = self.connections[connection]
        start, _, method = (layout.start or "").partition("/")
        return (start, method) if layout.start else self.merge_start(layout.finetuning), layout.end

    def curve_models(self, curve: str) -> list[tuple[float, tuple[str, str, str]]]:
        """Points of a curve as alpha and (encoder, finetuning, method).

        Models that already exist are reused: a plain linear merge equals the pre-trained and the fine-tuned encoder, bit for bit, at its
        ends, and the method itself at its own alpha, which is added if it lies in the range.
        """
        layout = self.alpha_curves[curve]
        own = self._merge(layout.method).recipe.alpha
        between = {own} if isinstance(own, float) and layout.alphas[0] < own < layout.alphas[-1] else set()
        return self._models_along(layout.encoder, layout.finetuning, layout.method, {*layout.alphas, *between})

    def choice_models(self, encoder: str, finetuning: str, method: str) -> list[tuple[float, tuple[str, str, str]]]:
        """Candidates for a merge with `alpha: dev`, as alpha and (encoder, finetuning, method)."""
        layout = self._merge(method).choose
        assert layout is not None
        return self._models_along(encoder, finetuning, layout.among or method, layout.alphas)

    def _merge(self, name: str) -> MergedMethod:
        merge = self.method(name)
        assert isinstance(merge, MergedMethod)
        return merge

    def _models_along(
        self, encoder: str, finetuning: str, method: str, alphas: Iterable[float]
    ) -> list[tuple[float, tuple[str, str, str]]]:
        """Models of a merge at the given alphas, in ascending order."""
        merged = self._merge(method)
        known: dict[float, tuple[str, str, str]] = {}
        if merged.recipe.method == "linear" and not (merged.recipe.scale or merged.recipe.dtype):
            known = {0.0: (encoder, *self.merge_start(finetuning))}
            if finetuning in self.finetunings:
                known[1.0] = (encoder, finetuning, self.tuned_method(finetuning, merged.of))
        if isinstance(own := merged.recipe.alpha, float):
            known.setdefault(own, (encoder, finetuning, method))
        for alpha in alphas:
            known.setdefault(alpha, (encoder, finetuning, f"{method}@{alpha_text(alpha)}"))
        return [(alpha, known[alpha]) for alpha in sorted(alphas)]

    def curve_cells(self, curve: str) -> list[str]:
        """Cells of a curve, each as `encoder/finetuning/method/task`."""
        return ["/".join((*model, task)) for _, model in self.curve_models(curve) for task in self.alpha_curves[curve].tasks]


def parse_experiment(values: dict[str, Any], source: str) -> Experiment:
    """Load the plug-ins of an experiment read from `source`, and validate it; one ConfigError lists all problems."""
    named = values.get("plugins")
    for place in named if isinstance(named, list) else ():
        if isinstance(place, str):
            load(place)
    return validate(Experiment, values, source)


def load_experiment(path: str | Path) -> Experiment:
    """Read an experiment file (YAML).

    Raises:
        ConfigError: the file is missing, is not YAML, or has unknown keys or invalid values.
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
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # impossible dates and numbers raise ValueError
        problem = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ConfigError(f"{path}: is not valid YAML: {problem}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: an experiment must be a mapping of keys, found {type(values).__name__}.")
    return parse_experiment(values, str(path))


def experiment_schema() -> dict[str, Any]:
    """Build the JSON schema of experiment files, stored in `config/schema.json`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Experiment.model_json_schema()}
