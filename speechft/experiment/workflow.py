"""Names, paths and recipes of an experiment for the Snakemake rules. Pure functions of the configuration, no torch.

Command options are lists of words; the rules quote them, and all other values, with `:q`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, TypeVar

from speechft.downloads.lexicons import lexicon_files, public_lexicons
from speechft.errors import ConfigError
from speechft.experiment.encoders import Filterbanks, FrozenModule, PretrainedElsewhere, PretrainedHere, PublicEncoder, encoders_behind
from speechft.experiment.layouts import PRETRAINED
from speechft.experiment.methods import EarlyMethod, MergedMethod
from speechft.experiment.names import Names
from speechft.experiment.schema import Experiment, Resources
from speechft.experiment.tables import analysis_table_recipe, choice_recipe, connection_recipe, curve_recipe, report_recipe, table_recipe
from speechft.files.atomic import from_here
from speechft.files.escapes import json_text
from speechft.recipes.corpora import CorpusRecipe, UnionCorpus, corpus_lexicon
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.runs.refusals import Resource, resource
from speechft.shipped import shipped

REFUSED_MEM_MB, REFUSED_MINUTES = 500, 10
"""Resources of an attempt that only repeats an error: enough to start Snakemake twice and a shell."""
PUBLISHED = ("config/published.csv", "config/superb_rows.csv")
"""Files of published numbers, in the working folder or otherwise in the package."""
MODEL_FILES = ("model.safetensors", "config.json", "provenance.json")
EncoderKind = TypeVar("EncoderKind", PretrainedHere, Filterbanks, FrozenModule)


def _no_option(path: str) -> str:
    """Return the path in a form that cannot be mistaken for an option."""
    return f"./{path}" if path.startswith("-") else path


class Workflow(Names):
    """Paths and recipes of one experiment."""

    def __init__(self, experiment: Experiment, sources: Iterable[str] = ()) -> None:
        super().__init__(experiment)
        self.results = experiment.results.as_posix()
        self.sources = [shlex.quote(_no_option(from_here(source))) for source in sources]
        """Files that the experiment was read from, quoted for commands."""
        self.log_file: Callable[[str, Any], str] | None = None
        """Maps rule and wildcards of a job to its log; set by the Snakefile."""

    def file_of(self, target: str) -> str:
        """Return the file of a target: a table, curve or analysis, `encoder/finetuning/method/task`, a model (without task), or a path."""
        experiment, names = self.experiment, target.split("/")
        if target in experiment.shown:
            return f"{self.results}/tables/{target}.md"
        if names[0] in experiment.encoders and len(names) in (3, 4):
            return self.weights(*names) if len(names) == 3 else f"{self.results}/cells/{target}.json"
        return target

    @property
    def published(self) -> list[str]:
        """Files of published numbers."""
        return [shipped(path).as_posix() for path in PUBLISHED]

    @property
    def published_options(self) -> list[str]:
        """Options of `speechft report table` for the published numbers."""
        return [word for path in self.published for word in ("--published", path)]

    @cached_property
    def public_files(self) -> dict[str, list[str]]:
        """Downloadable file -> arguments of `speechft fetch`, the name first."""
        encoders = [encoder for encoder in self.experiment.encoders.values() if isinstance(encoder, PublicEncoder)]
        checkpoints = {encoder.checkpoint.path.as_posix(): encoder.fetch_arguments for encoder in encoders}
        return checkpoints | {file.path.as_posix(): [file.name] for file in public_lexicons().values()}

    # ---- paths

    def corpus(self, name: str) -> str:
        """Folder of a corpus's manifests."""
        return f"{self.results}/corpora/{name}"

    def union_members(self, name: str) -> list[str]:
        """Manifest folders of the corpora that a union combines."""
        union = self.experiment.corpora[name]
        assert isinstance(union, UnionCorpus)
        return [self.corpus(member) for member in union.of]

    def corpus_tables(self, name: str) -> list[str]:
        """Files that describe a corpus: CSV, RTTM and trials, or the lexicons of a published corpus.

        Published corpora never change and are not inputs of jobs, so that plans work without them; `speechft prepare` reports what is
        missing.
        """
        recipe = self.experiment.corpora[name]
        if not isinstance(recipe, CorpusRecipe):
            return self.corpus_lexicons(name)
        return [str(path) for path in (recipe.path, recipe.rttm, recipe.trials) if path is not None]

    def corpus_lexicons(self, name: str) -> list[str]:
        """Lexicons that must contain every word of a corpus."""
        return lexicon_files("pr", {"lexicon": corpus_lexicon(self.experiment.corpora, name)})

    def evaluation_lexicons(self, task: str) -> list[str]:
        """Lexicons used in the evaluation of a task."""
        recipe = self.experiment.evaluation_recipe(task)
        return lexicon_files(recipe.task, recipe.task_options)

    def finetuning_lexicons(self, finetuning: str, method: str) -> list[str]:
        """Lexicons used in a fine-tuning."""
        recipe = self.experiment.finetune_recipe(finetuning, method)
        parts = recipe.parts.values() if isinstance(recipe, FinetuneRecipe) else ()
        return list(dict.fromkeys(path for part in parts for path in lexicon_files(part.task, part.task_options)))

    def lexicons(self) -> list[str]:
        """All lexicons of the experiment."""
        tunings = [(name, method) for name in self.labelled_finetunings for method in self.trained_methods]
        paths = [path for name in self.listed_corpora for path in self.corpus_lexicons(name)]
        paths += [path for task in self.experiment.tasks for path in self.evaluation_lexicons(task)]
        paths += [path for tuning in tunings for path in self.finetuning_lexicons(*tuning)]
        return list(dict.fromkeys(paths))

    def model(self, encoder: str, finetuning: str, method: str) -> str:
        """Encoder directory of a model."""
        return f"{self.results}/models/{encoder}/{finetuning}/{method}"

    def model_files(self, encoder: str, finetuning: str, method: str) -> list[str]:
        """Files that every encoder directory has."""
        return [f"{self.model(encoder, finetuning, method)}/{name}" for name in MODEL_FILES]

    def weights(self, encoder: str, finetuning: str, method: str) -> str:
        """Weights of a model, which represent its directory as input of jobs."""
        return f"{self.model(encoder, finetuning, method)}/{MODEL_FILES[0]}"

    def start(self, encoder: str, finetuning: str) -> str:
        """Weights of theta0 of a fine-tuning or merge: the pre-trained encoder, or the model of an earlier fine-tuning."""
        return self.weights(encoder, *self.experiment.merge_start(finetuning))

    def finetuning_corpora(self, finetuning: str) -> list[str]:
        """Manifest folders of a fine-tuning, its own task's first."""
        return [self.corpus(name) for name in self.experiment.finetunings[finetuning].corpora]

    def joint_options(self, finetuning: str) -> list[str]:
        """Options of `speechft finetune` for the corpora of joint tasks."""
        corpora = self.experiment.finetunings[finetuning].jointly
        return [word for part, name in corpora.items() for word in ("--jointly", f"{part}={self.corpus(name)}")]

    def early_source(self, encoder: str, finetuning: str, method: str) -> str:
        """Weights of the model whose run kept the early checkpoint `method`."""
        return self.weights(encoder, finetuning, self._early(method).of)

    def early_share(self, method: str) -> float:
        """Share of the updates at which the early checkpoint was kept."""
        return self._early(method).share

    def _early(self, name: str) -> EarlyMethod:
        early = self.experiment.method(name)
        assert isinstance(early, EarlyMethod)
        return early

    @property
    def merged_names(self) -> list[str]:
        """Fine-tunings and combinations, to which methods of stage 2 apply."""
        return [*self.experiment.finetunings, *self.experiment.combinations]

    def merge_sources(self, encoder: str, finetuning: str, method: str) -> list[str]:
        """Weights of the fine-tuned models that `method` merges: one, or those of a combination."""
        merged = self.experiment.method(method)
        assert isinstance(merged, MergedMethod)
        members = self.experiment.merged_finetunings(finetuning)
        return [self.weights(encoder, tuning, self.experiment.tuned_method(tuning, merged.of)) for tuning in members]

    def merge_models(self, encoder: str, finetuning: str, method: str) -> list[str]:
        """Encoder directories of the fine-tuned models that `method` merges."""
        return [source.removesuffix(f"/{MODEL_FILES[0]}") for source in self.merge_sources(encoder, finetuning, method)]

    def checkpoint(self, encoder: str) -> str:
        """Path of the checkpoint that an encoder is imported from."""
        source = self.experiment.encoders[encoder]
        assert isinstance(source, PretrainedElsewhere | PublicEncoder)
        return (source.checkpoint.path if isinstance(source, PublicEncoder) else source.path).as_posix()

    def given_checkpoint(self, finetuning: str) -> str:
        """Path of the checkpoint that a fine-tuning is given as."""
        checkpoint = self.experiment.finetunings[finetuning].checkpoint
        assert checkpoint is not None
        return checkpoint.as_posix()

    def given_options(self, finetuning: str) -> list[str]:
        """Options of `speechft import` for a fine-tuning given as a checkpoint."""
        sha256 = self.experiment.finetunings[finetuning].sha256
        return ["--sha256", sha256] if sha256 else []

    def import_settings(self, encoder: str) -> list[str]:
        """Files with model settings and base of an encoder's checkpoint, if any."""
        source = self.experiment.encoders[encoder]
        return [path.as_posix() for path in (getattr(source, "config", None), getattr(source, "base", None)) if path]

    def import_options(self, encoder: str) -> list[str]:
        """Options of `speechft import` for an encoder."""
        source = self.experiment.encoders[encoder]
        assert isinstance(source, PretrainedElsewhere | PublicEncoder)
        return source.import_options

    def cells(self, table: str) -> list[str]:
        """Cell files of a table."""
        return [f"{self.results}/cells/{cell}.json" for cell in self.experiment.table_cells(table)]

    def curve_cells(self, curve: str) -> list[str]:
        """Cell files of a curve."""
        return [f"{self.results}/cells/{cell}.json" for cell in self.experiment.curve_cells(curve)]

    def choice_cells(self, encoder: str, finetuning: str, method: str) -> list[str]:
        """Cell files needed to choose the alpha of a merge."""
        recipe = choice_recipe(self.experiment, encoder, finetuning, method)
        names = [f"{point.encoder}/{point.finetuning}/{point.method}/{task}" for point in recipe.points for task in recipe.tasks]
        return [f"{self.results}/cells/{name}.json" for name in names]

    def analysis_results(self, analysis: str) -> list[str]:
        """Result files of an analysis, one per model."""
        layout = self.experiment.analyses[analysis]
        return [f"{self.results}/analysis/{analysis}/{layout.encoder}/{row.model}.json" for row in layout.rows]

    def connection_result(self, connection: str) -> str:
        """Result file of a connection."""
        return f"{self.results}/connections/{connection}.json"

    def connection_models(self, connection: str) -> list[str]:
        """Encoder directories at alpha 0 and 1 of a connection."""
        encoder = self.experiment.connections[connection].encoder
        return [self.model(encoder, *end) for end in self.experiment.connection_ends(connection)]

    def connection_manifests(self, connection: str) -> str:
        """Manifest folder that a connection is measured on."""
        return self.finetuning_corpora(self.experiment.connections[connection].finetuning)[0]

    def connection_options(self, connection: str) -> list[str]:
        """Options of `speechft connect`: alphas, split and names of both ends."""
        layout = self.experiment.connections[connection]
        ends = ["/".join((layout.encoder, *end)) for end in self.experiment.connection_ends(connection)]
        return ["--alpha", ",".join(map(str, layout.alphas)), "--split", layout.split, "--start-name", ends[0], "--end-name", ends[1]]

    def targets(self) -> list[str]:
        """Targets of `all`: every table, curve and analysis with its figures, and the report."""
        files = [kind for name in self.experiment.shown for kind in (f"tables/{name}.md", f"figures/{name}.png")]
        files += [f"tables/differences/{name}.md" for name, layout in self.experiment.tables.items() if layout.differences]
        files += ["report.html"] if files else []
        return [f"{self.results}/{file}" for file in files]

    def report_inputs(self) -> list[str]:
        """Result files shown in the report."""
        cells = [f"{self.results}/cells/{cell}.json" for cell in self.experiment.cells]
        analyses = [result for name in self.experiment.analyses for result in self.analysis_results(name)]
        return list(dict.fromkeys((*cells, *analyses, *map(self.connection_result, self.experiment.connections))))

    # ---- recipes

    def recipe(self, name: str) -> str:
        """Build the recipe file `name` (e.g. `evaluate/ks`) as JSON text.

        Raises:
            ConfigError: unknown recipe.
        """
        makers: dict[str, Callable[..., Any]] = {
            "corpora": lambda corpus: self.experiment.corpora[corpus],
            "pretrain": lambda encoder: self._encoder(encoder, PretrainedHere).recipe,
            "finetune": self.experiment.finetune_recipe,
            "merge": self.experiment.merge_recipe,
            "choose": lambda *model: choice_recipe(self.experiment, *model),
            "evaluate": self.experiment.evaluation_recipe,
            "tables": lambda table: table_recipe(self.experiment, table, self._command),
            "connections": lambda curve: connection_recipe(self.experiment, curve, self._command),
            "curves": lambda curve: curve_recipe(self.experiment, curve, self._command),
            "fbank": lambda encoder: self._encoder(encoder, Filterbanks).recipe,
            "analysis": lambda analysis: self.experiment.analyses[analysis].recipe,
            "report": lambda: report_recipe(self.experiment, self._command),
            "analysis_tables": lambda analysis: analysis_table_recipe(self.experiment, analysis),
        }
        kind, *keys = name.split("/")
        try:
            text: str = makers[kind](*keys).model_dump_json(indent=1)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"The experiment {self.experiment.name!r} has no recipe {name!r}.") from error
        return json_text(text)

    def module(self, encoder: str) -> FrozenModule:
        """Return an encoder that is a module of the user's own."""
        return self._encoder(encoder, FrozenModule)

    def _encoder(self, name: str, kind: type[EncoderKind]) -> EncoderKind:
        entry = self.experiment.encoders[name]
        assert isinstance(entry, kind)
        return entry

    def pretraining_corpora(self, encoder: str) -> list[str]:
        """Manifest folders that an encoder is pre-trained on."""
        return [self.corpus(name) for name in self._encoder(encoder, PretrainedHere).corpora]

    def pretraining_encoders(self, encoder: str) -> list[str]:
        """Weights of the encoders that a pre-training depends on."""
        return [self.weights(name, *PRETRAINED) for name in encoders_behind(self._encoder(encoder, PretrainedHere))]

    def pretraining_logs(self) -> list[str]:
        """Training logs of the stored encoders and of those they depend on."""
        names, waiting = [], list(self.stored.values())
        while waiting:
            name = waiting.pop(0)
            if name not in names and name in self.pretrained_here:
                names.append(name)
                waiting += encoders_behind(self.experiment.encoders[name])
        return [f"{self.model(name, *PRETRAINED)}/training.csv" for name in names]

    def pretraining_options(self, encoder: str) -> list[str]:
        """Options of `speechft pretrain` for the encoders that it depends on."""
        entry = self._encoder(encoder, PretrainedHere)
        named = {"--start": entry.start, "--targets-from": getattr(entry.recipe.targets, "encoder", None)}
        return [word for option, name in named.items() if name for word in (option, self.model(name, *PRETRAINED))]

    def continuing_encoders(self, finetuning: str) -> list[str]:
        """Weights of the encoder that provides the targets of a continued pre-training, if it is another one."""
        other = self._targets_encoder(finetuning)
        return [self.weights(other, *PRETRAINED)] if other else []

    def continuing_options(self, finetuning: str) -> list[str]:
        """Options of `speechft continue` for the encoder that provides the targets."""
        other = self._targets_encoder(finetuning)
        return ["--targets-from", self.model(other, *PRETRAINED)] if other else []

    def _targets_encoder(self, finetuning: str) -> str | None:
        recipe = self.experiment.finetunings[finetuning].pretraining
        return getattr(recipe.targets, "encoder", None) if recipe else None

    @property
    def _command(self) -> str | None:
        """Command that computes a result when its path in the results folder is appended; None if the experiment's files are unknown."""
        if not self.sources:
            return None
        return f"snakemake --cores all --configfile {' '.join(self.sources)} -- {shlex.quote(self.results)}/"

    # ---- resources

    def resources(self, stage: str) -> Resources:
        """Resources that a job of `stage` requests."""
        resources: Resources = getattr(self.experiment.resources, stage)
        return resources

    def memory(self, stage: str) -> Resource:
        """Snakemake resource function for memory in MB: the request of `stage` times the attempt, up to its maximum."""
        asked = self.resources(stage)
        return resource(self.log_file, asked.mem_mb, asked.max_mem_mb, REFUSED_MEM_MB)

    def minutes(self, stage: str) -> Resource:
        """Snakemake resource function for minutes: the request of `stage` times the attempt, up to its maximum."""
        asked = self.resources(stage)
        return resource(self.log_file, asked.runtime, asked.max_runtime, REFUSED_MINUTES)

    def gpus(self, stage: str) -> Resource:
        """Snakemake resource function for GPUs: the request of `stage`, the same at every attempt."""
        asked = self.resources(stage)
        return resource(self.log_file, asked.gpu, asked.gpu, 0)
