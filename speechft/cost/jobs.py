"""The jobs that a target of the workflow needs, as Snakemake would find them if nothing were there yet (a test compares the two)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from speechft.errors import ConfigError
from speechft.experiment.encoders import PretrainedHere, encoders_behind
from speechft.experiment.layouts import NOT_TUNED
from speechft.experiment.methods import EarlyMethod, MergedMethod, TrainedMethod
from speechft.experiment.workflow import Workflow
from speechft.recipes.corpora import UnionCorpus

Model = tuple[str, str, str]


@dataclass(frozen=True)
class Job:
    """One job: the rule, and the names that its wildcards have."""

    rule: str
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """Rule and names, e.g. `evaluate hubert_base/none/pretrained/ks`."""
        return f"{self.rule} {'/'.join(self.names)}"


@dataclass
class Jobs:
    """All jobs behind some targets, each once, in an order in which they could run; and targets that are not known here."""

    flow: Workflow
    found: dict[Job, None] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def add_target(self, path: str) -> None:
        """Jobs behind an output file of the workflow, e.g. `results/tables/supervised.md`."""
        kind, *names = self._relative(path).parts or ("",)
        stem = PurePosixPath(names[-1]).stem if names else ""
        experiment = self.flow.experiment
        if kind in ("tables", "figures") and names[:-1] == ["differences"] and stem in experiment.tables:
            self.add_table(stem, "differences")
        elif kind in ("tables", "figures") and stem in experiment.tables:
            self.add_table(stem, "table" if kind == "tables" else "figure")
        elif kind in ("tables", "figures") and stem in experiment.curves:
            self.add_curve(stem)
        elif kind in ("tables", "figures") and stem in experiment.analyses:
            self.add_analysis(stem)
        elif kind == "cells" and len(names) == 4:
            self.add_cell((names[0], names[1], names[2]), stem)
        elif kind == "models" and len(names) >= 3:
            self.add_model((names[0], names[1], names[2]))
        elif kind == "corpora" and names:
            self.add_corpus(names[0])
        else:
            self.unknown.append(path)

    def _relative(self, path: str) -> PurePosixPath:
        pure = PurePosixPath(path)
        return pure.relative_to(self.flow.results) if pure.is_relative_to(self.flow.results) else PurePosixPath(path)

    def add_table(self, name: str, rule: str) -> None:
        """A table, its figure, or the differences between its rows."""
        self._recipe(f"tables/{name}")
        self._cells(self.flow.experiment.table_cells(name))
        self._add(rule, name)

    def add_curve(self, name: str) -> None:
        """A curve: table and figure are one job."""
        self._recipe(f"curves/{name}")
        self._cells(self.flow.experiment.curve_cells(name))
        self._add("curve", name)

    def add_analysis(self, name: str) -> None:
        """Models compared with the pre-trained encoder, and the table and the figure of all of them."""
        layout = self.flow.experiment.analyses[name]
        self._recipe(f"analysis_tables/{name}")
        for row in layout.rows:
            finetuning, method = row.names
            self._recipe(f"analysis/{name}")
            self._add_pretrained(layout.encoder)
            self.add_model((layout.encoder, finetuning, method))
            self.add_corpus(layout.corpus)
            self._add("analyse", name, layout.encoder, finetuning, method)
        self._add("similarity", name)

    def _cells(self, cells: Iterable[str]) -> None:
        for cell in cells:
            encoder, finetuning, method, task = cell.split("/")
            self.add_cell((encoder, finetuning, method), task)

    def add_cell(self, model: Model, task: str) -> None:
        """A model evaluated on a task."""
        self._recipe(f"evaluate/{task}")
        self.add_model(model)
        self.add_corpus(self.flow.experiment.tasks[task].corpus)
        self._fetch(self.flow.evaluation_lexicons(task))
        self._add("evaluate", *model, task)

    def add_corpus(self, name: str) -> None:
        """Manifests of a corpus."""
        corpus = self.flow.experiment.corpora[name]
        self._recipe(f"corpora/{name}")
        if isinstance(corpus, UnionCorpus):
            for member in corpus.of:
                self.add_corpus(member)
        else:
            self._fetch(self.flow.corpus_tables(name))
        self._add("unite" if isinstance(corpus, UnionCorpus) else "manifests", name)

    def add_model(self, model: Model) -> None:
        """An encoder directory."""
        encoder, finetuning, name = model
        if (finetuning, name) == NOT_TUNED:
            self._add_pretrained(encoder)
            return
        experiment = self.flow.experiment
        method = experiment.method(name)
        if isinstance(method, MergedMethod):
            self._recipe(f"merge/{name}")
            self.add_model((encoder, *experiment.merge_start(finetuning)))
            for tuning in experiment.merged_finetunings(finetuning):
                self.add_model((encoder, tuning, method.of))
            self._add("merge", *model)
        elif isinstance(method, EarlyMethod):
            self.add_model((encoder, finetuning, method.of))
            self._add("early", *model)
        else:
            assert isinstance(method, TrainedMethod)
            self._add_trained(model)

    def _add_trained(self, model: Model) -> None:
        encoder, finetuning, method = model
        tuning = self.flow.experiment.finetunings[finetuning]
        self._recipe(f"finetune/{finetuning}/{method}")
        self.add_model((encoder, *tuning.starts_from))
        for corpus in tuning.corpora:
            self.add_corpus(corpus)
        if tuning.pretraining is None:
            self._fetch(self.flow.finetuning_lexicons(finetuning, method))
            self._add("finetune", *model)
            return
        other = getattr(tuning.pretraining.targets, "encoder", None)
        if other:
            self._add_pretrained(other)
        self._add("continue_pretraining", *model)

    def _add_pretrained(self, encoder: str) -> None:
        entry = self.flow.experiment.encoders[encoder]
        if encoder in self.flow.filterbanks:
            self._recipe(f"fbank/{encoder}")
            self._add("fbank", encoder)
        elif isinstance(entry, PretrainedHere):
            self._recipe(f"pretrain/{encoder}")
            for other in encoders_behind(entry):
                self._add_pretrained(other)
            for corpus in entry.corpora:
                self.add_corpus(corpus)
            self._add("pretrain", encoder)
        else:
            self._fetch([self.flow.checkpoint(encoder)])
            self._add("import_checkpoint", encoder)

    def _fetch(self, paths: Iterable[str]) -> None:
        """Files that are downloaded, of those that a job reads."""
        for path in paths:
            if path in self.flow.public_files:
                self._add("fetch", self.flow.public_files[path][0])

    def _recipe(self, name: str) -> None:
        self._add("recipe", name)

    def _add(self, rule: str, *names: str) -> None:
        self.found.setdefault(Job(rule, names))


def jobs_behind(flow: Workflow, targets: Iterable[str] = ()) -> Jobs:
    """Jobs behind targets; without any, everything that `all` makes.

    Args:
        flow: the workflow of an experiment.
        targets: names of tables or curves, cells `encoder/finetuning/method/task`, models `encoder/finetuning/method`, or files that the
            workflow makes.

    Raises:
        ConfigError: a target is none of these; the message has the nearest spelling.
    """
    jobs = Jobs(flow)
    targets = list(targets)
    if not targets or targets == ["all"]:
        for path in flow.targets():
            jobs.add_target(path)
        jobs._add("all")
        return jobs
    for target in targets:
        _add_named(jobs, target)
    return jobs


def _add_named(jobs: Jobs, target: str) -> None:
    experiment = jobs.flow.experiment
    if target in experiment.tables:
        jobs.add_table(target, "table")
        return
    if target in experiment.curves:
        jobs.add_curve(target)
        return
    if target in experiment.analyses:
        jobs.add_analysis(target)
        return
    kind, _, rest = target.removeprefix(f"{jobs.flow.results}/").partition("/")
    names = (rest if kind in ("cells", "models") else target).removesuffix(".json").split("/")
    names = names[:3] if kind == "models" else names
    if len(names) in (3, 4) and kind not in ("tables", "figures", "corpora"):
        _check_model(jobs.flow, names[:3], target)
        if len(names) == 3:
            jobs.add_model((names[0], names[1], names[2]))
        else:
            _known(target, "task", names[3], experiment.tasks)
            jobs.add_cell((names[0], names[1], names[2]), names[3])
        return
    if kind == "corpora":
        _known(target, "corpus", rest, experiment.corpora)
    jobs.add_target(target)
    if target in jobs.unknown:
        names = [*experiment.tables, *experiment.curves, *experiment.analyses]
        stem = PurePosixPath(target).stem
        raise ConfigError(
            f"{target!r} is no table, curve, cell or file of the experiment {experiment.name!r}{_nearest(stem, names)} "
            f"Tables: {', '.join(experiment.tables) or 'none'}. Curves: {', '.join(experiment.curves) or 'none'}. "
            "A cell is encoder/finetuning/method/task."
        )


def _check_model(flow: Workflow, names: list[str], target: str) -> None:
    """Refuse a model that the experiment does not define."""
    experiment = flow.experiment
    encoder, finetuning, method = names
    _known(target, "encoder", encoder, experiment.encoders)
    if finetuning == NOT_TUNED[0] or method == NOT_TUNED[1]:
        if (finetuning, method) != NOT_TUNED:
            raise ConfigError(f"{target}: the pre-trained encoder is {encoder}/none/pretrained.")
        return
    _known(target, "fine-tuning", finetuning, flow.merged_names)
    try:
        found = experiment.method(method)
    except (KeyError, ValueError):
        _known(target, "method", method, ["pretrained", *experiment.methods])
        raise
    if finetuning in experiment.combinations and not isinstance(found, MergedMethod):
        raise ConfigError(f"{target}: {finetuning} is a combination, which only merges apply to: {', '.join(flow.merged_methods)}.")
    if encoder in flow.filterbanks:
        raise ConfigError(f"{target}: filterbanks have no weights; {encoder}/none/pretrained is their only model.")


def _known(target: str, kind: str, name: str, allowed: Iterable[str]) -> None:
    allowed = list(allowed)
    if name not in allowed:
        raise ConfigError(f"{target}: there is no {kind} {name!r}{_nearest(name, allowed)} There are {', '.join(allowed) or 'none'}.")


def _nearest(name: str, allowed: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(allowed), n=1)
    return f"; did you mean {close[0]!r}?" if close else "."
