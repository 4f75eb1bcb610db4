"""Cost of an experiment, a table or a cell: Snakemake's jobs, each with its estimate on a measured device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from speechft.downloads.checkpoints import public_checkpoint
from speechft.evaluate.estimate import EvaluationEstimate, estimate_evaluation
from speechft.experiment.encoders import FrozenModule, PublicEncoder
from speechft.experiment.schema import Experiment, Resources, load_experiment
from speechft.finetune.estimate import TrainingEstimate, estimate_finetuning
from speechft.planning.corpus_sizes import CorpusSize, SplitSize, corpus_size
from speechft.planning.jobs import Job, jobs_behind
from speechft.planning.shapes import EncoderShape, shape_of
from speechft.planning.speeds import DeviceSpeeds, Throughput
from speechft.pretrain.estimate import estimate_pretraining
from speechft.recipes.evaluation import EvaluationRecipe
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.tasks.catalog import known_entry

CELL_GB, UTTERANCE_GB, LEXICON_GB = 3e-5, 1e-7, 6e-3
"""Size of a cell, of an utterance in a compressed manifest, of a lexicon."""
MIXED_HOUR_GB = 0.06
"""Size of an hour of rendered mixtures in FLAC: 16 kHz, about half of 16 bits."""
MEASURED_RATES = 7
"""Number of learning rates of the measured heads on mean vectors."""
SCORING_SHARE = 1 / 3
"""Time of scoring relative to training on the same audio: no backward pass, which takes twice as long as the forward pass."""
KEPT_CHECKPOINTS = 5
"""Checkpoints on disk: fairseq keeps the last two intervals, the last and the best, while it writes the next."""
STAGE = {
    "pretrain": "pretrain", "continue_pretraining": "pretrain", "finetune": "finetune",
    "evaluate": "evaluate", "analyse": "evaluate", "connect": "evaluate",
}  # fmt: skip
"""Rules that compute with an encoder -> stage of their resources. Other rules count only disk space."""


@dataclass(frozen=True)
class JobCost:
    """Cost of one job on one device. `disk_gb` is permanent, `work_gb` temporary; `unknown` says why hours are unknown, if so."""

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
        """Hours of encoder and heads."""
        return self.encoder_hours + self.head_hours

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON, without the job."""
        return {name: value for name, value in vars(self).items() if name != "job"} | {"hours": None if self.unknown else self.hours}


def total(costs: Sequence[JobCost]) -> JobCost:
    """Sum costs; `work_gb` and `memory_gb` are maxima. Jobs of unknown hours count only in `disk_gb`."""
    known = [cost for cost in costs if not cost.unknown]
    sums = {name: sum(getattr(cost, name) for cost in known) for name in ("audio_hours", "utterances", "encoder_hours", "head_hours")}
    most = {name: max((getattr(cost, name) for cost in costs), default=0.0) for name in ("work_gb", "memory_gb")}
    unknown = "; ".join(sorted({cost.unknown for cost in costs if cost.unknown}))
    return JobCost(Job("total", (str(len(costs)),)), **sums, **most, disk_gb=sum(cost.disk_gb for cost in costs), unknown=unknown)


@dataclass(frozen=True)
class Plan:
    """Cost of targets of an experiment."""

    experiment: str
    targets: tuple[str, ...]
    device: DeviceSpeeds
    jobs: tuple[JobCost, ...]
    corpora: dict[str, CorpusSize]
    encoders: dict[str, str]
    """Encoder -> measured speed used for it."""
    resources: dict[str, Resources]
    notes: tuple[str, ...] = ()
    """Assumptions made."""

    def of_rules(self, *rules: str) -> list[JobCost]:
        """Jobs of the given rules."""
        return [cost for cost in self.jobs if cost.job.rule in rules]

    def by_rule(self) -> dict[str, list[JobCost]]:
        """Jobs of each rule, in order of their first job."""
        return {rule: self.of_rules(rule) for rule in dict.fromkeys(cost.job.rule for cost in self.jobs)}

    def by_task(self) -> dict[str, list[JobCost]]:
        """Evaluations by task."""
        cells = self.of_rules("evaluate")
        return {task: [cost for cost in cells if cost.job.names[3] == task] for task in sorted({cost.job.names[3] for cost in cells})}

    @property
    def trainings(self) -> list[JobCost]:
        """Jobs that train an encoder."""
        return self.of_rules("pretrain", "continue_pretraining", "finetune")

    @property
    def total(self) -> JobCost:
        """Cost of all jobs together."""
        return total(self.jobs)

    @property
    def longest(self) -> JobCost:
        """Longest job among those of known hours."""
        return max(self.jobs, key=lambda cost: 0.0 if cost.unknown else cost.hours)

    def device_hours(self, costs: Sequence[JobCost]) -> float:
        """GPU hours, with the time of a job multiplied by its number of GPUs; on a CPU, hours of the CPU."""
        gpus = {stage: max(1, asked.gpu) for stage, asked in self.resources.items()} if self.device.kind == "cuda" else {}
        return sum(cost.hours * gpus.get(STAGE.get(cost.job.rule, ""), 1) for cost in costs if not cost.unknown)

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON."""

        def together(costs: Sequence[JobCost]) -> dict[str, Any]:
            return {"jobs": len(costs), **total(costs).to_json()}

        return {
            "experiment": self.experiment,
            "targets": list(self.targets) or ["all"],
            "device": {"label": self.device.label, "kind": self.device.kind, "measured": self.device.measured},
            "total": {**together(self.jobs), "device_hours": self.device_hours(self.jobs)},
            "rules": {rule: together(costs) for rule, costs in self.by_rule().items()},
            "tasks": {task: together(costs) for task, costs in self.by_task().items()},
            "jobs": [{"rule": cost.job.rule, "names": list(cost.job.names), **cost.to_json()} for cost in self.of_rules(*STAGE)],
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


def plan_experiment(path: str | Path, throughput: Throughput, targets: Iterable[str] = (), *, device: str | None = None) -> Plan:
    """Estimate the cost of targets of an experiment, as if no results existed.

    Args:
        path: the experiment file. Sizes come from manifests in its results folder, if present.
        throughput: measured speeds.
        targets: as in `jobs_behind`; default: everything.
        device: part of a label in `throughput`, "cpu" or "cuda"; default: a GPU if one was measured.

    Raises:
        ConfigError: invalid experiment, or unknown target or device.
        CorpusError, CheckpointError: an existing manifest, CSV or encoder cannot be read.
    """
    targets, experiment = tuple(targets), load_experiment(path)
    costs = _Costs(experiment, throughput.choose(device))
    jobs = tuple(costs.of(job) for job in jobs_behind(path, targets))
    notes = [f"{name}: {size.note}" for name, size in costs.sizes.items() if size.source == "unknown"] + costs.notes
    resources = {stage: getattr(experiment.resources, stage) for stage in ("pretrain", "finetune", "evaluate")}
    return Plan(experiment.name, targets, costs.device, jobs, costs.sizes, costs.speeds, resources, tuple(notes))


class _Costs:
    """Costs of single jobs; `sizes`, `speeds` and `notes` collect what they are based on."""

    def __init__(self, experiment: Experiment, device: DeviceSpeeds) -> None:
        self.experiment, self.device = experiment, device
        self.sizes: dict[str, CorpusSize] = {}
        self.speeds: dict[str, str] = {}
        self.notes: list[str] = []
        self._shape = cache(self._find_shape)

    def of(self, job: Job) -> JobCost:
        """Estimate the cost of a job."""
        if job.rule == "fetch":
            return self._fetch(job)
        if job.rule in ("import_checkpoint", "import_finetuned", "fbank", "merge", "early"):
            return JobCost(job, disk_gb=self._weights_gb(job.names[0]))
        if job.rule in ("manifests", "unite"):
            whole, mixed = self._size(job.names[0]).whole, self.experiment.corpora[job.names[0]].kind == "mixtures"
            return JobCost(job, disk_gb=UTTERANCE_GB * whole.utterances + (MIXED_HOUR_GB * whole.hours if mixed else 0.0))
        makers = {"evaluate": self._evaluate, "analyse": self._analyse, "connect": self._connect}
        return makers.get(job.rule, self._train)(job) if job.rule in STAGE else JobCost(job)

    def _size(self, name: str) -> CorpusSize:
        if name not in self.sizes:
            self.sizes[name] = corpus_size(name, self.experiment.corpora, self.experiment.results / "corpora")
        return self.sizes[name]

    def _unknown(self, corpora: Iterable[str]) -> str:
        unknown = [name for name in corpora if self._size(name).source == "unknown"]
        return f"size of {', '.join(unknown)}" if unknown else ""

    def _unknown_speed(self, encoder: str) -> list[str]:
        return [f"speed of {encoder}"] if isinstance(self.experiment.encoders[encoder], FrozenModule) else []

    def _find_shape(self, encoder: str) -> EncoderShape:
        shape, assumed = shape_of(self.experiment.encoders[encoder])
        if assumed:
            self.notes.append(f"{encoder}: {assumed}")
        if shape.family != "fbank" and not isinstance(self.experiment.encoders[encoder], FrozenModule):
            name, speed = self.device.nearest(shape)
            ratio = speed.shape.arithmetic / shape.arithmetic
            scaled = "" if math.isclose(ratio, 1.0, rel_tol=1e-3) else f" times {ratio:.3g}, by their arithmetic"
            self.speeds[encoder] = f"speed of {name}{scaled}"
        return shape

    def _weights_gb(self, encoder: str) -> float:
        return 4 * self._shape(encoder).parameters / 1e9

    def _fetch(self, job: Job) -> JobCost:
        for name, encoder in self.experiment.encoders.items():
            if isinstance(encoder, PublicEncoder) and encoder.checkpoint.path.as_posix() == job.names[0]:
                size = public_checkpoint(encoder.name).bytes
                if size is None:
                    self.notes.append(f"{job.names[0]}: its size is unpublished; only weights are counted")
                return JobCost(job, disk_gb=self._weights_gb(name) if size is None else size / 1e9)
        return JobCost(job, disk_gb=LEXICON_GB)

    def _train(self, job: Job) -> JobCost:
        encoder = job.names[0]
        shape = self._shape(encoder)
        cost, corpora = self._training(job)
        hours = self.device.forward_hours(shape, cost.forward_hours, cost.precision)
        hours += self.device.update_hours(shape, cost.update_hours, cost.precision, cost.frozen_extractor)
        hours += self.device.step_hours(shape, cost.updates)
        # The cost of heads that average over frames is negligible.
        on_frames = {task: head for task, head in cost.heads.items() if known_entry(task).features == "frames"}
        return JobCost(
            job,
            audio_hours=cost.forward_hours + cost.update_hours,
            encoder_hours=hours,
            head_hours=sum(self.device.head_hours(task, options, shape, heard) for task, (heard, options) in on_frames.items()),
            disk_gb=self._weights_gb(encoder) * (1 + cost.early),
            # Weights and two moments, plus cached features of the frozen extractor.
            work_gb=3 * self._weights_gb(encoder) * KEPT_CHECKPOINTS
            + min(self.experiment.resources.finetune.cache_gb, cost.kept_hours * shape.features_hour_gb),
            unknown=self._unknown(corpora),
        )

    def _training(self, job: Job) -> tuple[TrainingEstimate, Sequence[str]]:
        """Estimate of a training, and its corpora."""
        if job.rule == "pretrain":
            entry: Any = self.experiment.encoders[job.names[0]]
            train = sum((self._size(name)["train"] for name in entry.corpora), SplitSize())
            return estimate_pretraining(entry.recipe, train), entry.corpora
        _, finetuning, method = job.names
        tuning, recipe = self.experiment.finetunings[finetuning], self.experiment.finetune_recipe(finetuning, method)
        if isinstance(recipe, FinetuneRecipe):
            sizes = {name: self._size(tuning.jointly.get(name, tuning.corpora[0])) for name in recipe.parts}
            return estimate_finetuning(recipe, sizes), tuning.corpora
        return estimate_pretraining(recipe, self._size(tuning.corpora[0])["train"]), tuning.corpora

    def _evaluate(self, job: Job) -> JobCost:
        encoder, task = job.names[0], job.names[3]
        corpus = self.experiment.tasks[task].corpus
        shape, recipe = self._shape(encoder), self.experiment.evaluation_recipe(task)
        cost = estimate_evaluation(recipe, self._size(corpus), shape)
        return JobCost(
            job,
            audio_hours=cost.encoder_hours,
            utterances=cost.encoder_passes,
            encoder_hours=self.device.forward_hours(shape, cost.encoder_hours, recipe.precision),
            head_hours=self._head_hours(recipe, cost, shape),
            disk_gb=CELL_GB,
            work_gb=cost.disk_gb + cost.state_gb,
            memory_gb=cost.memory_gb,
            unknown="; ".join(filter(None, [self._unknown([corpus]), *self._unknown_speed(encoder)])),
        )

    def _head_hours(self, recipe: EvaluationRecipe, cost: EvaluationEstimate, shape: EncoderShape) -> float:
        """Hours of everything after the encoder."""
        entry = recipe.entry
        if entry.features == "search":
            return cost.search_frames / self.device.search_frames / 3600
        if entry.features == "pooled":
            rates = recipe.mean_rates / MEASURED_RATES
            return cost.head_steps * rates / self.device.pooled_steps[entry.head_measured_as] / 3600
        hours = cost.head_hours + SCORING_SHARE * cost.scored_hours
        return self.device.head_hours(recipe.kind or recipe.task, recipe.task_options, shape, hours)

    def _analyse(self, job: Job) -> JobCost:
        """Cost of an analysis: two encoders process a few recordings."""
        layout, shape = self.experiment.analyses[job.names[0]], self._shape(job.names[1])
        split = self._size(layout.corpus)[layout.recipe.split]
        heard = split * (2 * min(1.0, layout.recipe.utterances / max(1.0, split.utterances)))
        hours = self.device.forward_hours(shape, heard.hours, layout.recipe.precision)
        return JobCost(job, heard.hours, heard.utterances, hours, disk_gb=CELL_GB, unknown=self._unknown([layout.corpus]))

    def _connect(self, job: Job) -> JobCost:
        """Cost of a connection: encoder and head process a split at each alpha."""
        layout = self.experiment.connections[job.names[0]]
        recipe, corpus = self.experiment.finetune_recipe(*layout.end), self.experiment.finetunings[layout.finetuning].corpora[0]
        assert isinstance(recipe, FinetuneRecipe)
        shape, heard = self._shape(layout.encoder), self._size(corpus).fold(layout.split) * len(layout.alphas)
        hours, task = self.device.forward_hours(shape, heard.hours, "fp32"), recipe.kind or recipe.task
        on_frames = known_entry(task).features == "frames"
        heads = SCORING_SHARE * self.device.head_hours(task, recipe.task_options, shape, heard.hours) if on_frames else 0.0
        return JobCost(job, heard.hours, heard.utterances, hours, heads, disk_gb=CELL_GB, unknown=self._unknown([corpus]))
