"""`plan_experiment`: what a target of an experiment costs, from its jobs, the sizes of its corpora and the measured speed of a device."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from speechft.cost.jobs import Job, jobs_behind
from speechft.cost.passes import POOLED_TASKS, EvaluationCost, evaluation_cost
from speechft.cost.shapes import EncoderShape, shape_of
from speechft.cost.sizes import CorpusSize, corpus_size
from speechft.cost.stage1 import TrainingCost, finetuning_cost, pretraining_cost
from speechft.cost.throughput import POOLED_LIKE, SCORING_SHARE, DeviceSpeeds, Throughput
from speechft.downloads.checkpoints import public_checkpoint
from speechft.downloads.lexicons import public_lexicons
from speechft.experiment.encoders import PublicEncoder
from speechft.experiment.schema import Experiment, Resources
from speechft.experiment.workflow import Workflow
from speechft.recipes.evaluation import EvaluationRecipe
from speechft.recipes.finetuning import FinetuneRecipe

BYTES_OF_A_CELL = 30_000
BYTES_OF_AN_UTTERANCE = 100
BYTES_OF_A_LEXICON = 6e6
"""In a compressed manifest."""
BYTES_OF_MIXED_HOUR = 60e6
"""FLAC of mixtures, which are rendered: 16 kHz, about half of 16 bits."""
MEASURED_RATES = 7
"""Learning rates of the measured heads on mean vectors."""
STAGE = {"pretrain": "pretrain", "continue_pretraining": "pretrain", "finetune": "finetune", "evaluate": "evaluate", "analyse": "evaluate"}
"""Rules that compute with an encoder, and the resources that they ask for. Of the others only room is counted."""


@dataclass(frozen=True)
class JobCost:
    """One job, on one device. `disk_gb` stays, `work_gb` goes when the job is done; `unknown` says why hours are not known, if so."""

    job: Job
    audio_hours: float = 0.0
    utterances: float = 0.0
    encoder_hours: float = 0.0
    head_hours: float = 0.0
    disk_gb: float = 0.0
    work_gb: float = 0.0
    memory_gb: float = 0.0
    unknown: str = ""

    @property
    def hours(self) -> float:
        """Encoder and heads."""
        return self.encoder_hours + self.head_hours


@dataclass(frozen=True)
class Plan:
    """What the targets cost."""

    experiment: str
    targets: tuple[str, ...]
    device: DeviceSpeeds
    jobs: tuple[JobCost, ...]
    corpora: dict[str, CorpusSize]
    encoders: dict[str, str] = field(default_factory=dict)
    resources: dict[str, Resources] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def by_rule(self) -> dict[str, list[JobCost]]:
        """Jobs of each rule, in order of their first job."""
        rows: dict[str, list[JobCost]] = {}
        for cost in self.jobs:
            rows.setdefault(cost.job.rule, []).append(cost)
        return rows

    def by_task(self) -> dict[str, list[JobCost]]:
        """Evaluations of each task."""
        rows: dict[str, list[JobCost]] = {}
        for cost in self.jobs:
            if cost.job.rule == "evaluate":
                rows.setdefault(cost.job.names[3], []).append(cost)
        return rows

    @property
    def trainings(self) -> list[JobCost]:
        """Jobs that train an encoder."""
        return [cost for cost in self.jobs if STAGE.get(cost.job.rule) in ("pretrain", "finetune")]

    @property
    def total(self) -> JobCost:
        """All jobs together; `work_gb` and `memory_gb` are those of the most demanding one."""
        unknown = "; ".join(sorted({cost.unknown for cost in self.jobs if cost.unknown}))
        names = ("audio_hours", "utterances", "encoder_hours", "head_hours", "disk_gb")
        known = [cost for cost in self.jobs if not cost.unknown]
        sums = {name: sum(getattr(cost, name) for cost in (self.jobs if name == "disk_gb" else known)) for name in names}
        most = {name: max((getattr(cost, name) for cost in self.jobs), default=0.0) for name in ("work_gb", "memory_gb")}
        return JobCost(Job("total", (str(len(self.jobs)),)), **sums, **most, unknown=unknown)

    @property
    def longest(self) -> JobCost:
        """The job that takes longest, of those whose hours are known."""
        return max(self.jobs, key=lambda cost: 0.0 if cost.unknown else cost.hours)

    def device_hours(self) -> float:
        """GPU hours, of jobs that ask for several GPUs so many times their time; on a CPU hours of it."""
        counted = 0.0
        for cost in (cost for cost in self.jobs if not cost.unknown):
            stage = STAGE.get(cost.job.rule)
            counted += cost.hours * (max(1, self.resources[stage].gpu) if stage and self.device.kind == "cuda" else 1)
        return counted

    def to_json(self) -> dict[str, Any]:
        """A plain JSON value."""

        def row(cost: JobCost) -> dict[str, Any]:
            values = {key: value for key, value in asdict(cost).items() if key != "job"}
            return {**values, "hours": None if cost.unknown else cost.hours}

        def together(costs: Sequence[JobCost]) -> dict[str, Any]:
            return {"jobs": len(costs), **row(Plan(self.experiment, (), self.device, tuple(costs), {}).total)}

        return {
            "experiment": self.experiment,
            "targets": list(self.targets) or ["all"],
            "device": {"label": self.device.label, "kind": self.device.kind, "measured": self.device.measured},
            "total": {"jobs": len(self.jobs), **row(self.total), "device_hours": self.device_hours()},
            "rules": {rule: together(costs) for rule, costs in self.by_rule().items()},
            "tasks": {task: together(costs) for task, costs in self.by_task().items()},
            "jobs": [{"rule": cost.job.rule, "names": list(cost.job.names), **row(cost)} for cost in self.jobs if cost.job.rule in STAGE],
            "longest": self.longest.job.name,
            "corpora": {
                name: {
                    "source": size.source, "note": size.note, "folds": size.folds,
                    "splits": {split: {"utterances": part.utterances, "hours": part.hours} for split, part in size.splits.items()},
                }
                for name, size in self.corpora.items()
            },
            "encoders": self.encoders,
            "notes": list(self.notes),
        }  # fmt: skip


def plan_experiment(experiment: Experiment, throughput: Throughput, targets: Iterable[str] = (), *, device: str | None = None) -> Plan:
    """What `targets` of an experiment cost, as if nothing had been made yet; without targets everything.

    Args:
        experiment: the experiment; its manifests are looked for where the workflow puts them.
        throughput: measured speeds.
        targets: tables, curves, cells (`encoder/finetuning/method/task`), models, or files of the workflow.
        device: a name in `throughput`, "cpu" or "cuda"; default: a GPU if one was measured.

    Raises:
        ConfigError: unknown target or device.
        CorpusError, CheckpointError: something is on disk and cannot be read.
    """
    targets = tuple(targets)
    flow = Workflow(experiment)
    jobs = jobs_behind(flow, targets)
    costs = _Costs(experiment, throughput.choose(device))
    found = tuple(costs.of(job) for job in jobs.found)
    notes = [f"not counted, because this plan does not know it: {path}" for path in jobs.unknown]
    notes += [f"{name}: {size.note}" for name, size in costs.sizes.items() if size.source == "unknown"]
    notes += costs.notes
    resources = {stage: flow.resources(stage) for stage in ("pretrain", "finetune", "evaluate")}
    return Plan(experiment.name, targets, costs.device, found, costs.sizes, costs.speeds, resources, tuple(notes))


class _Costs:
    """Costs of single jobs."""

    def __init__(self, experiment: Experiment, device: DeviceSpeeds) -> None:
        self.experiment, self.device = experiment, device
        self.sizes: dict[str, CorpusSize] = {}
        self.speeds: dict[str, str] = {}
        self.notes: list[str] = []
        self._shape = cache(self._find_shape)

    def of(self, job: Job) -> JobCost:
        """The cost of a job."""
        makers = {
            "fetch": self._fetch,
            "import_checkpoint": self._model,
            "fbank": self._model,
            "merge": self._model,
            "early": self._model,
            "manifests": self._manifests,
            "unite": self._manifests,
            "pretrain": self._training,
            "continue_pretraining": self._training,
            "finetune": self._training,
            "evaluate": self._evaluate,
            "analyse": self._analyse,
        }
        maker = makers.get(job.rule)
        return maker(job) if maker else JobCost(job)

    def _size(self, name: str) -> CorpusSize:
        if name not in self.sizes:
            self.sizes[name] = corpus_size(name, self.experiment.corpora, self.experiment.results / "corpora")
        return self.sizes[name]

    def _find_shape(self, encoder: str) -> EncoderShape:
        shape, assumed = shape_of(self.experiment.encoders[encoder])
        if assumed:
            self.notes.append(f"{encoder}: {assumed}")
        if shape.family != "fbank":
            name, speed = self.device.nearest(shape)
            ratio = speed.shape.arithmetic / shape.arithmetic
            same = speed.shape == shape or math.isclose(ratio, 1.0, rel_tol=1e-3)
            self.speeds[encoder] = f"speed of {name}" if same else f"speed of {name} times {ratio:.3g}, by their arithmetic"
        return shape

    def _fetch(self, job: Job) -> JobCost:
        if job.names[0] in public_lexicons():
            return JobCost(job, disk_gb=BYTES_OF_A_LEXICON / 1e9)
        known = public_checkpoint(job.names[0])
        size = known.bytes
        if size is None:
            entries = self.experiment.encoders.items()
            encoder = next(name for name, entry in entries if isinstance(entry, PublicEncoder) and entry.name == known.name)
            size = 4 * self._shape(encoder).parameters
            self.notes.append(f"{known.file}: its size was never published; weights alone are counted")
        return JobCost(job, disk_gb=size / 1e9)

    def _model(self, job: Job) -> JobCost:
        return JobCost(job, disk_gb=4 * self._shape(job.names[0]).parameters / 1e9)

    def _manifests(self, job: Job) -> JobCost:
        size, recipe = self._size(job.names[0]), self.experiment.corpora[job.names[0]]
        mixed = BYTES_OF_MIXED_HOUR * size.whole.hours if recipe.kind == "mixtures" else 0.0
        return JobCost(job, disk_gb=(BYTES_OF_AN_UTTERANCE * size.whole.utterances + mixed) / 1e9)

    def _training(self, job: Job) -> JobCost:
        encoder = job.names[0]
        shape = self._shape(encoder)
        cost, corpora = self._training_cost(job)
        hours = self.device.forward_hours(shape, cost.forward_hours, cost.precision)
        hours += self.device.update_hours(shape, cost.update_hours, cost.precision, cost.frozen_extractor)
        hours += self.device.step_hours(shape, cost.updates)
        heads = 0.0
        for task, heard in cost.head_hours.items():
            # A head on frames; those that pool cost nothing beside the encoder.
            if task not in POOLED_TASKS:
                heads += self.device.head_hours(task, cost.head_options[task], shape, heard)
        weights = 4 * shape.parameters / 1e9
        return JobCost(
            job, cost.hours, 0.0, hours, heads, weights * (1 + cost.early), cost.disk_gb(shape.parameters), 0.0, self._unknown(corpora)
        )

    def _training_cost(self, job: Job) -> tuple[TrainingCost, Sequence[str]]:
        if job.rule == "pretrain":
            entry = self.experiment.encoders[job.names[0]]
            corpora = list(getattr(entry, "corpora", ()))
            recipe = getattr(entry, "recipe")  # noqa: B009 (only this kind of encoder is pre-trained)
            return pretraining_cost(recipe, self._together(corpora)["train"]), corpora
        _, finetuning, method = job.names
        tuning = self.experiment.finetunings[finetuning]
        chosen = self.experiment.finetune_recipe(finetuning, method)
        if not isinstance(chosen, FinetuneRecipe):
            return pretraining_cost(chosen, self._size(tuning.corpus)["train"]), tuning.corpora
        sizes = {name: self._size(tuning.jointly.get(name, tuning.corpus)) for name in chosen.parts}
        return finetuning_cost(chosen, sizes), tuning.corpora

    def _together(self, corpora: Sequence[str]) -> CorpusSize:
        sizes = [self._size(name) for name in corpora]
        train = sizes[0]["train"]
        for size in sizes[1:]:
            train = train + size["train"]
        return CorpusSize({"train": train})

    def _evaluate(self, job: Job) -> JobCost:
        encoder, task = job.names[0], job.names[3]
        corpus = self.experiment.tasks[task].corpus
        shape, size, recipe = self._shape(encoder), self._size(corpus), self.experiment.evaluation_recipe(task)
        cost = evaluation_cost(recipe, size, shape)
        return JobCost(
            job,
            cost.encoder.hours,
            cost.encoder.utterances,
            self.device.forward_hours(shape, cost.encoder.hours, recipe.precision),
            self._heads(recipe, cost, shape),
            BYTES_OF_A_CELL / 1e9,
            cost.disk_gb,
            cost.memory_gb,
            self._unknown([corpus]),
        )

    def _analyse(self, job: Job) -> JobCost:
        """A pass of two encoders over a few recordings."""
        name, encoder = job.names[0], job.names[1]
        layout = self.experiment.analyses[name]
        split = self._size(layout.corpus)[layout.recipe.split]
        heard = split.share(min(1.0, layout.recipe.utterances / max(1.0, split.utterances)))
        hours = self.device.forward_hours(self._shape(encoder), 2 * heard.hours, layout.recipe.precision)
        unknown = self._unknown([layout.corpus])
        return JobCost(job, 2 * heard.hours, 2 * heard.utterances, hours, disk_gb=BYTES_OF_A_CELL / 1e9, unknown=unknown)

    def _heads(self, recipe: EvaluationRecipe, cost: EvaluationCost, shape: EncoderShape) -> float:
        """Hours of everything behind the encoder."""
        if recipe.task == "qbe":
            return cost.search_frames / self.device.search_frames / 3600
        if recipe.task in POOLED_TASKS:
            rates = len(recipe.learning_rates) / MEASURED_RATES
            return cost.head_steps * rates / self.device.pooled_steps[POOLED_LIKE[recipe.task]] / 3600
        heard = cost.head_hours + SCORING_SHARE * cost.scored_hours
        return self.device.head_hours(recipe.task, recipe.task_options, shape, heard)

    def _unknown(self, corpora: Sequence[str]) -> str:
        unknown = [name for name in corpora if self._size(name).source == "unknown"]
        return f"size of {', '.join(unknown)}" if unknown else ""


def models_and_cells(plan: Plan) -> tuple[int, int]:
    """Different encoders that are evaluated, and cells."""
    cells = [cost.job.names for cost in plan.jobs if cost.job.rule == "evaluate"]
    return len(Counter(names[:3] for names in cells)), len(cells)
