"""Format a plan as paragraphs and grids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from speechft.planning.plan import STAGE, JobCost, Plan, total

Grid = tuple[Sequence[str], Sequence[Sequence[str]], Sequence[str]]
"""Headings, rows, and the headings of numeric columns. A last row `total` sums the others."""


def report(plan: Plan, experiment_file: str) -> Iterator[str | Grid]:
    """Yield the paragraphs and grids of a plan in order."""
    device, together = plan.device, plan.total
    kind = "GPU" if device.kind == "cuda" else "CPU"
    cells = plan.of_rules("evaluate")
    models = {cost.job.names[:3] for cost in cells}
    yield (
        f"{', '.join(plan.targets) or 'everything'} of the experiment {plan.experiment} ({experiment_file}), as if no results existed: "
        f"{counted(len(cells), 'cell')} of {counted(len(models), 'model')}."
    )
    yield f"Hours are those of {device.label}, measured on {device.measured} ({device.clock})."
    if device.kind == "cpu":
        stages = {STAGE[cost.job.rule] for cost in plan.of_rules(*STAGE)}
        wanted = [stage for stage, resources in plan.resources.items() if resources.gpu and stage in stages]
        asked = f", although jobs of {' and '.join(wanted)} request one" if wanted else ""
        yield f"These are CPU hours{asked}. For GPU hours run `speechft calibrate --device cuda` on a node with a GPU (two minutes)."
    rows: list[Sequence[str]] = [(rule, str(len(costs)), *_sums(plan, costs)) for rule, costs in plan.by_rule().items()]
    headings = ("rule", "jobs", "audio h", f"{kind} h", "disk")
    yield headings, [*rows, ("total", str(len(plan.jobs)), *_sums(plan, plan.jobs))], headings[1:]
    if cells:
        columns = {"utterances": "encoder passes", "audio_hours": "audio h", "encoder_hours": f"encoder, {kind} h"}
        columns["head_hours"] = f"heads, {kind} h"
        rows = []
        for task, costs in plan.by_task().items():
            nothing = all(cost.unknown for cost in costs)
            values = ["?" if nothing else number(getattr(total(costs), name)) for name in columns]
            rows.append((task, str(len(costs)), *values))
        yield "Evaluations:"
        yield ("task", "cells", *columns.values()), rows, ("cells", *columns.values())
    if plan.trainings:
        rows = []
        for cost in plan.trainings:
            values = ["?", "?"] if cost.unknown else [number(cost.audio_hours), number(cost.hours)]
            rows.append((cost.job.name, *values, size(cost.work_gb)))
        yield "Trainings of encoders:"
        trained = ("training", "audio h", f"{kind} h", "checkpoints, at most")
        yield trained, rows, trained[1:]
    rows = []
    for name, corpus in sorted(plan.corpora.items()):
        splits = [f"{split} {part.utterances:,.0f} / {number(part.hours)} h" for split, part in corpus.splits.items() if part.utterances]
        source = {"table": "its CSV", "unknown": "UNKNOWN"}.get(corpus.source, corpus.source)
        rows.append((name, source, ", ".join(splits) or "-", corpus.note))
    yield "Corpora:"
    yield ("corpus", "sizes from", "utterances / hours", "remark"), rows, ()
    yield from (f"{name}: {speed}." for name, speed in plan.encoders.items())
    yield _disk(plan, cells, together)
    if together.hours:
        yield _longest(plan)
    yield from (f"Note: {note}." for note in plan.notes)
    if "speed of" in together.unknown:
        yield "Sums exclude jobs with encoders of unknown speed. `speechft check-encoder` times a forward pass."
    if "size of" in together.unknown:
        yield "Sums exclude jobs on corpora of unknown size. `speechft prepare --check` says what is missing."
    yield "What is counted and assumed: docs/cost.md. Remaining jobs: snakemake -n."


def _sums(plan: Plan, costs: Sequence[JobCost]) -> tuple[str, str, str]:
    together = total(costs)
    disk = size(together.disk_gb) if together.disk_gb else ""
    if not any(cost.job.rule in STAGE for cost in costs):
        return "", "", disk
    more = "+?" if together.unknown else ""
    return number(together.audio_hours) + more, number(plan.device_hours(costs)) + more, disk


def _disk(plan: Plan, cells: Sequence[JobCost], together: JobCost) -> str:
    work = {"a training": total(plan.trainings).work_gb, "an evaluation": total(cells).work_gb}
    needed = " and ".join(f"{size(gigabytes)} of {what}" for what, gigabytes in work.items() if gigabytes)
    room = f" In addition each running job has a work folder: at most {needed}." if needed else ""
    memory = f" An evaluation keeps at most {size(together.memory_gb)} of features in memory." if together.memory_gb else ""
    return f"Disk: {size(together.disk_gb)} of results.{room}{memory}"


def _longest(plan: Plan) -> str:
    longest = plan.longest
    stage = STAGE[longest.job.rule]
    limit = plan.resources[stage].runtime / 60
    text = f"Longest job: {longest.job.name}, {number(longest.hours)} h."
    if longest.hours > limit:
        text += (
            f" Jobs of stage {stage} request {number(limit)} h (`resources`, `runtime` in minutes); a job stopped at that limit resumes "
            "from its last checkpoint when it is started again."
        )
    return text


def number(value: float) -> str:
    """Format with three significant digits and separated thousands."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def size(gigabytes: float) -> str:
    """Format a size as GB or MB."""
    return f"{number(gigabytes)} GB" if gigabytes >= 0.1 else f"{number(1000 * gigabytes)} MB"


def counted(count: int, noun: str) -> str:
    """Format a count with its noun, in the plural if needed."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
