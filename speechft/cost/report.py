"""A plan as tables of text, for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from speechft.cost.plan import STAGE, JobCost, Plan, models_and_cells

_SOURCES = {"manifests": "manifests", "table": "its table", "published": "published", "unknown": "UNKNOWN"}


@dataclass(frozen=True)
class TextTable:
    """Headings and rows; columns from `numbers` on are numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: int = 1


def report(plan: Plan, experiment_file: str) -> list[str | TextTable]:
    """Paragraphs and tables, in order."""
    device = plan.device
    kind = "GPU" if device.kind == "cuda" else "CPU"
    models, cells = models_and_cells(plan)
    targets = ", ".join(plan.targets) or "everything"
    total = plan.total
    parts: list[str | TextTable] = [
        f"{targets} of the experiment {plan.experiment} ({experiment_file}), as if nothing had been made yet: "
        f"{counted(cells, 'cell')} of {counted(models, 'model')}.",
        f"Hours are those of {device.label}, measured on {device.measured} ({device.clock}).",
    ]
    if device.kind == "cpu":
        parts.append(_no_gpu(plan))
    rows = [(rule, str(len(costs)), *_sums(plan, costs)) for rule, costs in plan.by_rule().items()]
    rows.append(("total", str(len(plan.jobs)), *_sums(plan, plan.jobs)))
    parts.append(TextTable(("rule", "jobs", "audio h", f"{kind} h", "disk"), rows))
    if cells:
        parts += ["Evaluations:", _tasks(plan, kind)]
    if plan.trainings:
        parts += ["Trainings of encoders:", _trainings(plan, kind)]
    parts += ["Corpora:", _corpora(plan)]
    parts += [f"{name}: {speed}." for name, speed in plan.encoders.items()]
    parts.append(_disk(plan, total))
    parts += [_longest(plan)] if total.hours else []
    parts += [f"Note: {note}." for note in plan.notes]
    if total.unknown:
        parts.append("Jobs on corpora of unknown size are in no sum. `speechft prepare --check` says what is missing.")
    parts.append("What is counted and assumed: docs/cost.md. What is left to do: snakemake -n.")
    return parts


def _no_gpu(plan: Plan) -> str:
    stages = {STAGE[cost.job.rule] for cost in plan.jobs if cost.job.rule in STAGE}
    wanted = [stage for stage, resources in plan.resources.items() if resources.gpu and stage in stages]
    asked = f", which jobs of {' and '.join(wanted)} ask for" if wanted else ""
    return (
        f"No GPU is in these numbers{asked}: `speechft calibrate --device cuda` on a node with one takes two minutes, after which this "
        "command gives GPU hours."
    )


def _sums(plan: Plan, costs: Sequence[JobCost]) -> tuple[str, str, str]:
    part = Plan(plan.experiment, (), plan.device, tuple(costs), {}, resources=plan.resources)
    audio, hours = part.total.audio_hours, part.device_hours()
    more = "+?" if any(cost.unknown for cost in costs) else ""
    disk = sum(cost.disk_gb for cost in costs)
    computes = any(cost.job.rule in STAGE for cost in costs)
    return (number(audio) + more if computes else "", number(hours) + more if computes else "", size(disk) if disk else "")


def _tasks(plan: Plan, kind: str) -> TextTable:
    rows = []
    for task, costs in plan.by_task().items():
        known = [cost for cost in costs if not cost.unknown]
        values = ["?"] * 4
        if known:
            values = [number(sum(getattr(cost, name) for cost in known)) for name in ("utterances", "audio_hours")]
            values += [number(sum(getattr(cost, name) for cost in known)) for name in ("encoder_hours", "head_hours")]
        rows.append((task, str(len(costs)), *values))
    return TextTable(("task", "cells", "encoder passes", "audio h", f"encoder, {kind} h", f"heads, {kind} h"), rows)


def _trainings(plan: Plan, kind: str) -> TextTable:
    rows = []
    for cost in plan.trainings:
        values = ("?", "?") if cost.unknown else (number(cost.audio_hours), number(cost.hours))
        rows.append((cost.job.name, *values, size(cost.work_gb)))
    return TextTable(("training", "audio h", f"{kind} h", "checkpoints, at most"), rows)


def _corpora(plan: Plan) -> TextTable:
    rows = []
    for name, found in sorted(plan.corpora.items()):
        splits = [f"{split} {part.utterances:,.0f} / {number(part.hours)} h" for split, part in found.splits.items() if part.utterances]
        rows.append((name, _SOURCES[found.source], ", ".join(splits) or "-", found.note))
    return TextTable(("corpus", "sizes from", "utterances / hours", "remark"), rows, numbers=9)


def _disk(plan: Plan, total: JobCost) -> str:
    evaluating = max((cost.work_gb for cost in plan.jobs if cost.job.rule == "evaluate"), default=0.0)
    training = max((cost.work_gb for cost in plan.trainings), default=0.0)
    work = [f"{size(amount)} of {what}" for amount, what in ((training, "a training"), (evaluating, "an evaluation")) if amount]
    room = f" Beside them each running job has a work folder: at most {' and '.join(work)}." if work else ""
    memory = f" An evaluation keeps at most {size(total.memory_gb)} of features in memory." if total.memory_gb else ""
    return f"Disk: {size(total.disk_gb)} of results.{room}{memory}"


def _longest(plan: Plan) -> str:
    longest = plan.longest
    stage = STAGE[longest.job.rule]
    limit = plan.resources[stage].runtime / 60
    text = f"Longest job: {longest.job.name}, {number(longest.hours)} h."
    if longest.hours > limit:
        text += (
            f" Jobs of the stage {stage} ask for {number(limit)} h (`resources`, `runtime` in minutes); a job that is stopped then goes on "
            "from its last checkpoint when it is started again."
        )
    return text


def number(value: float) -> str:
    """Three digits that matter, thousands separated."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def size(gigabytes: float) -> str:
    """GB or MB."""
    return f"{number(gigabytes)} GB" if gigabytes >= 0.1 else f"{number(1000 * gigabytes)} MB"


def counted(count: int, noun: str) -> str:
    """E.g. `1 cell`, `2 cells`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def widths(tables: Iterable[TextTable]) -> int:
    """Columns of the widest table, for output that is not a terminal."""
    return max((sum(max(map(len, column)) + 3 for column in zip(table.headings, *table.rows, strict=True)) for table in tables), default=80)
