"""The experiment file: one typed description of corpora, encoders, fine-tunings, methods, tasks and tables.

`load_experiment` is all that the workflow needs at parse time; nothing here imports torch. The JSON schema in `config/schema.json`
is generated from these classes (`speechft schema`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, StringConstraints, field_validator, model_validator

from speechft.encoders.public import public_checkpoints
from speechft.errors import ConfigError, missing_file
from speechft.recipes import (
    SUPERB_RECIPES,
    CorpusRecipe,
    EvaluationRecipe,
    FinetuneRecipe,
    MergeRecipe,
    Positive,
    PretrainRecipe,
    evaluation_recipe,
)
from speechft.validation import Strict, validate

# Names become folders and wildcards, so they hold no slash and no dot; speech_ft@0.50 is allowed.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_@+-]*$|^[A-Za-z0-9][A-Za-z0-9_+-]*@[0-9.]+$")]
PRETRAINED = ("none", "pretrained")


class UnionCorpus(Strict):
    """A corpus made of other corpora: train to train, dev to dev, test to test."""

    kind: Literal["union"]
    of: tuple[Name, ...] = Field(min_length=2)


class PretrainedHere(Strict):
    """An encoder that the workflow pre-trains from random weights."""

    kind: Literal["pretrain"]
    corpora: tuple[Name, ...] = Field(min_length=1, description="Corpora whose train split it listens to.")
    recipe: PretrainRecipe = PretrainRecipe()


class PretrainedElsewhere(Strict):
    """An encoder that was published as a checkpoint."""

    kind: Literal["checkpoint"]
    path: Path = Field(description="fairseq or s3prl checkpoint, or a transformers directory.")
    family: Literal["hubert", "wav2vec2", "wavlm", "decoar2"] | None = Field(None, description="Detected from the content when not given.")
    format: Literal["fairseq", "s3prl", "s3prl_run", "wavlm", "decoar2", "state_dict", "transformers"] | None = Field(
        None, description="Layout of the file; detected from the content when not given."
    )
    config: Path | None = Field(None, description="JSON file with model settings that the checkpoint does not carry.")
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = Field(None, description="Checked when given.")


class PublicEncoder(Strict):
    """An encoder of config/encoders.tsv. The workflow downloads its checkpoint into checkpoints/ unless the file is there already."""

    kind: Literal["public"]
    name: str = Field(description="Name in config/encoders.tsv.")

    @field_validator("name")
    @classmethod
    def _is_in_the_table(cls, name: str) -> str:
        known = public_checkpoints()
        if name not in known:
            raise ValueError(f"is not in config/encoders.tsv, which has {', '.join(known)}")
        return name


class Finetuning(Strict):
    """One fine-tuning: a task on a corpus. Keys of `recipe` override Stable-FT's defaults for all methods that train on it."""

    corpus: Name
    recipe: FinetuneRecipe


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


Method = Annotated[TrainedMethod | MergedMethod, Field(discriminator="kind")]


class Evaluation(Strict):
    """One evaluation task: its corpus and what differs from SUPERB's recipe."""

    corpus: Name
    recipe: dict[str, Any] = Field(default_factory=dict, description="Keys of EvaluationRecipe.")


class TableLayout(Strict):
    """A fixed arrangement of cells. Rows are all methods of each encoder and fine-tuning named here."""

    title: str
    encoders: tuple[Name, ...] = Field(min_length=1)
    finetunings: tuple[Name, ...] = Field(min_length=1)
    methods: tuple[Name, ...] = ("pretrained", "stable_ft", "speech_ft")
    tasks: tuple[str, ...] = Field(min_length=1)
    published: str | None = Field(None, description="Name of the table in config/published.csv whose numbers stand beside ours.")


class Resources(Strict):
    """What a job of each kind asks of the machine or the cluster."""

    threads: Positive = 2
    mem_mb: Positive = 4000
    runtime: Positive = Field(60, description="Minutes.")
    gpu: int = Field(0, ge=0)


class StageResources(Strict):
    """Resources by stage; tables, merges and manifests need little."""

    pretrain: Resources = Resources()
    finetune: Resources = Resources()
    evaluate: Resources = Resources()
    small: Resources = Resources(threads=1, mem_mb=2000, runtime=15)


def _default_methods() -> dict[str, Any]:
    return {"stable_ft": TrainedMethod(label="Stable-FT"), "speech_ft": MergedMethod(label="Speech-FT")}


class Experiment(Strict):
    """A complete experiment."""

    name: Name
    title: str = ""
    results: Path = Field(Path("results"), description="Folder that receives everything.")
    note: str = Field("", description="Printed under every table, e.g. that the speech is synthetic.")
    corpora: dict[Name, Annotated[CorpusRecipe | UnionCorpus, Field(discriminator="kind")]]
    encoders: dict[Name, Annotated[PretrainedHere | PretrainedElsewhere | PublicEncoder, Field(discriminator="kind")]]
    finetunings: dict[Name, Finetuning] = Field(default_factory=dict)
    methods: dict[Name, Method] = Field(default_factory=_default_methods)
    tasks: dict[str, Evaluation]
    tables: dict[Name, TableLayout]
    resources: StageResources = StageResources()

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        problems = [*self._unknown_corpora(), *self._unknown_in_methods(), *self._unknown_in_tables(), *self._bad_task_recipes()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _unknown_corpora(self) -> list[str]:
        users = [(f"finetunings.{name}.corpus", item.corpus) for name, item in self.finetunings.items()]
        users += [(f"tasks.{name}.corpus", item.corpus) for name, item in self.tasks.items()]
        users += [
            (f"corpora.{name}.of", member)
            for name, corpus in self.corpora.items()
            if isinstance(corpus, UnionCorpus)
            for member in corpus.of
        ]
        for name, encoder in self.encoders.items():
            if isinstance(encoder, PretrainedHere):
                users += [(f"encoders.{name}.corpora", corpus) for corpus in encoder.corpora]
        return [_unknown(key, corpus, self.corpora) for key, corpus in users if corpus not in self.corpora]

    def _unknown_in_methods(self) -> list[str]:
        trained = [name for name, method in self.methods.items() if isinstance(method, TrainedMethod)]
        problems = [
            _unknown(f"methods.{name}.of", method.of, trained)
            for name, method in self.methods.items()
            if isinstance(method, MergedMethod) and method.of not in trained
        ]
        if "pretrained" in self.methods:
            problems.append("methods.pretrained: the pre-trained encoder is always there and can not be redefined")
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
                ("finetunings", table.finetunings, list(self.finetunings)),
                ("methods", table.methods, ["pretrained", *self.methods]),
                ("tasks", table.tasks, list(self.tasks)),
            ]:
                problems += [_unknown(f"tables.{name}.{key}", value, allowed) for value in values if value not in allowed]
        return problems

    def _bad_task_recipes(self) -> list[str]:
        problems = []
        for name, evaluation in self.tasks.items():
            try:
                evaluation_recipe(name, evaluation.recipe)
            except ConfigError as error:
                problems.append(str(error))
        for name, finetuning in self.finetunings.items():
            if finetuning.recipe.task not in SUPERB_RECIPES:
                problems.append(_unknown(f"finetunings.{name}.recipe.task", finetuning.recipe.task, SUPERB_RECIPES))
        return problems

    def finetune_recipe(self, finetuning: str, method: str) -> FinetuneRecipe:
        """Stage-1 recipe of a fine-tuning under a method that trains."""
        trained = self.methods[method]
        if not isinstance(trained, TrainedMethod):
            raise ConfigError(f"methods.{method} merges; it has no stage-1 recipe.")
        values = {**self.finetunings[finetuning].recipe.model_dump(exclude_unset=True), **trained.changes}
        return validate(FinetuneRecipe, values, f"finetunings.{finetuning} under methods.{method}")

    def merge_recipe(self, method: str) -> MergeRecipe:
        """Stage-2 recipe of a method that merges."""
        merged = self.methods[method]
        if not isinstance(merged, MergedMethod):
            raise ConfigError(f"methods.{method} trains; it has no merge recipe.")
        return merged.recipe

    def evaluation_recipe(self, task: str) -> EvaluationRecipe:
        """Stage-3 recipe of a task."""
        return evaluation_recipe(task, self.tasks[task].recipe)

    def table_models(self, table: str) -> list[tuple[str, str, str]]:
        """Rows of a table as (encoder, finetuning, method); the pre-trained encoder comes once for each encoder."""
        layout = self.tables[table]
        rows: list[tuple[str, str, str]] = []
        for encoder in layout.encoders:
            if "pretrained" in layout.methods:
                rows.append((encoder, *PRETRAINED))
            rows += [(encoder, tuning, method) for tuning in layout.finetunings for method in layout.methods if method != "pretrained"]
        return rows

    def table_cells(self, table: str) -> list[str]:
        """Cells of a table, each as `encoder/finetuning/method/task`."""
        return ["/".join((*model, task)) for model in self.table_models(table) for task in self.tables[table].tasks]


def _unknown(key: str, value: str, allowed: Any) -> str:
    return f"{key}: {value!r} is not defined; defined are {', '.join(allowed) or 'none'}"


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
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(missing_file(path, "as the experiment", "Complete ones are in config/.")) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: an experiment is a mapping of keys, found {type(values).__name__}.")
    return parse_experiment(values, str(path))


def experiment_schema() -> dict[str, Any]:
    """JSON schema of experiment files; `config/schema.json` is this and a test compares them."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Experiment.model_json_schema()}
