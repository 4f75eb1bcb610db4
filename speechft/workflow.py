"""What the Snakemake rules ask about an experiment: names, paths, recipes. Pure functions of the configuration, no torch."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from typing import Any

from speechft.config import (
    Experiment,
    MergedMethod,
    PretrainedElsewhere,
    PretrainedHere,
    PublicEncoder,
    Resources,
    TrainedMethod,
    UnionCorpus,
)
from speechft.encoders.public import FOLDER, public_checkpoint
from speechft.errors import ConfigError
from speechft.recipes import CorpusRecipe, TableRecipe, TableRow

MODEL_FILES = ("model.safetensors", "config.json", "provenance.json")


def one_of(names: Iterable[str]) -> str:
    """Regular expression for a wildcard that may be any of `names`; without names it matches nothing."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


class Workflow:
    """Paths and recipes of one experiment."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.results = experiment.results.as_posix()

    # ---- names, for wildcard constraints

    @property
    def unions(self) -> list[str]:
        """Corpora made of other corpora."""
        return [name for name, corpus in self.experiment.corpora.items() if isinstance(corpus, UnionCorpus)]

    @property
    def listed_corpora(self) -> list[str]:
        """Corpora that are prepared from a table on disk."""
        return [name for name in self.experiment.corpora if name not in self.unions]

    @property
    def pretrained_here(self) -> list[str]:
        """Encoders that the workflow pre-trains."""
        return [name for name, encoder in self.experiment.encoders.items() if isinstance(encoder, PretrainedHere)]

    @property
    def imported(self) -> list[str]:
        """Encoders that come as checkpoints."""
        return [name for name, encoder in self.experiment.encoders.items() if isinstance(encoder, PretrainedElsewhere | PublicEncoder)]

    @property
    def public_files(self) -> dict[str, str]:
        """Files that can be downloaded, and their names in config/encoders.tsv."""
        names = [encoder.name for encoder in self.experiment.encoders.values() if isinstance(encoder, PublicEncoder)]
        return {public_checkpoint(name).file: name for name in names}

    @property
    def trained_methods(self) -> list[str]:
        """Methods of stage 1."""
        return [name for name, method in self.experiment.methods.items() if isinstance(method, TrainedMethod)]

    @property
    def merged_methods(self) -> list[str]:
        """Methods of stage 2."""
        return [name for name, method in self.experiment.methods.items() if isinstance(method, MergedMethod)]

    # ---- paths

    def corpus(self, name: str) -> str:
        """Folder of a corpus' manifests."""
        return f"{self.results}/corpora/{name}"

    def union_members(self, name: str) -> list[str]:
        """Folders of the corpora that make up a union."""
        found = self.experiment.corpora[name]
        assert isinstance(found, UnionCorpus)
        return [self.corpus(member) for member in found.of]

    def corpus_tables(self, name: str) -> list[str]:
        """The file that lists the recordings of a corpus, and what is said about them in other files."""
        found = self.experiment.corpora[name]
        assert isinstance(found, CorpusRecipe)
        return [str(path) for path in (found.path, found.rttm, found.trials) if path is not None]

    def model(self, encoder: str, finetuning: str, method: str) -> str:
        """Encoder directory of a model."""
        return f"{self.results}/models/{encoder}/{finetuning}/{method}"

    def model_files(self, encoder: str, finetuning: str, method: str) -> list[str]:
        """Files that every encoder directory has."""
        return [f"{self.model(encoder, finetuning, method)}/{name}" for name in MODEL_FILES]

    def weights(self, encoder: str, finetuning: str, method: str) -> str:
        """The file that stands for a model in the inputs of jobs; the others of its directory are made with it."""
        return f"{self.model(encoder, finetuning, method)}/{MODEL_FILES[0]}"

    def merge_source(self, encoder: str, finetuning: str, method: str) -> str:
        """Weights of the fine-tuned model that `method` merges."""
        merged = self.experiment.methods[method]
        assert isinstance(merged, MergedMethod)
        return self.weights(encoder, finetuning, merged.of)

    def checkpoint(self, encoder: str) -> str:
        """The checkpoint that an encoder is imported from."""
        source = self.experiment.encoders[encoder]
        assert isinstance(source, PretrainedElsewhere | PublicEncoder)
        return (FOLDER / public_checkpoint(source.name).file if isinstance(source, PublicEncoder) else source.path).as_posix()

    def import_settings(self, encoder: str) -> list[str]:
        """The file of model settings that goes with a checkpoint, if any."""
        source = self.experiment.encoders[encoder]
        return [source.config.as_posix()] if isinstance(source, PretrainedElsewhere) and source.config else []

    def import_options(self, encoder: str) -> str:
        """Options of `speechft import` for an encoder that comes as a checkpoint."""
        source = self.experiment.encoders[encoder]
        assert isinstance(source, PretrainedElsewhere | PublicEncoder)
        known = public_checkpoint(source.name) if isinstance(source, PublicEncoder) else source
        options = {"--family": known.family, "--sha256": known.sha256}
        if isinstance(source, PretrainedElsewhere):
            options |= {"--format": source.format, "--config": source.config.as_posix() if source.config else None}
        return " ".join(f"{option} {shlex.quote(value)}" for option, value in options.items() if value)

    def cells(self, table: str) -> list[str]:
        """Cell files of a table."""
        return [f"{self.results}/cells/{cell}.json" for cell in self.experiment.table_cells(table)]

    def targets(self) -> list[str]:
        """Everything that `all` makes: each table and its figure."""
        return [f"{self.results}/{kind}" for name in self.experiment.tables for kind in (f"tables/{name}.md", f"figures/{name}.png")]

    # ---- recipes

    def recipe(self, name: str) -> str:
        """The recipe file `name` (e.g. `evaluate/ks`) as JSON text.

        Raises:
            ConfigError: the experiment has no such recipe.
        """
        makers: dict[str, Callable[..., Any]] = {
            "corpora": lambda corpus: self.experiment.corpora[corpus],
            "pretrain": lambda encoder: self._pretrained_here(encoder).recipe,
            "finetune": self.experiment.finetune_recipe,
            "merge": self.experiment.merge_recipe,
            "evaluate": self.experiment.evaluation_recipe,
            "tables": self._table_recipe,
        }
        kind, *keys = name.split("/")
        try:
            text: str = makers[kind](*keys).model_dump_json(indent=1)
        except (KeyError, TypeError) as error:
            raise ConfigError(f"The experiment {self.experiment.name!r} has no recipe {name!r}.") from error
        return text

    def _pretrained_here(self, encoder: str) -> PretrainedHere:
        found = self.experiment.encoders[encoder]
        assert isinstance(found, PretrainedHere)
        return found

    def pretraining_corpora(self, encoder: str) -> list[str]:
        """Manifest folders that an encoder is pre-trained on."""
        return [self.corpus(name) for name in self._pretrained_here(encoder).corpora]

    def _table_recipe(self, name: str) -> TableRecipe:
        layout = self.experiment.tables[name]
        labels = {"pretrained": "Pre-trained"} | {key: method.label for key, method in self.experiment.methods.items()}
        return TableRecipe(
            title=layout.title,
            note=self.experiment.note,
            rows=tuple(
                TableRow(encoder=encoder, finetuning=finetuning, method=method, label=labels[method])
                for encoder, finetuning, method in self.experiment.table_models(name)
            ),
            tasks=layout.tasks,
            published=layout.published,
        )

    # ---- resources

    def resources(self, stage: str) -> Resources:
        """What a job of `stage` asks for."""
        found: Resources = getattr(self.experiment.resources, stage)
        return found
