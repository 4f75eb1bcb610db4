"""A score over tasks on a scale that the rows of a table give themselves, for benchmarks without published ends of the scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from speechft.tables.metrics import TableMetric

Values = Sequence[Sequence[float]]
"""Of one metric: for each row its values, one a seed; empty as long as it is pending."""


@dataclass(frozen=True)
class RelativeScore:
    """Scores of all rows."""

    rows: tuple[tuple[float, ...], ...]
    """For each row one score a seed; empty as long as it is pending."""
    flat: tuple[str, ...] = ()
    """Titles of metrics without a scale, which are left out."""
    once: tuple[str, ...] = ()
    """Titles of metrics that have a single value in a row that has several of others."""
    uneven: tuple[int, ...] = field(default=())
    """Rows whose metrics have different numbers of seeds, so that there is one score of their means."""


def relative_score(metrics: Sequence[tuple[TableMetric, Values]], floor: int) -> RelativeScore | None:
    """1000 times the mean over tasks of the mean over a task's metrics of (s - s_floor) / (s_best - s_floor).

    s_floor is the mean over seeds of the row `floor`, s_best the best such mean among all rows; both are the same for all seeds. A metric
    in which no row is better than the floor, as far as its printed decimals tell, has no scale and is left out for all rows. The i-th
    score of a row is that of the i-th values of its metrics; a metric with one value (QbE trains nothing) counts the same each time.

    Args:
        metrics: columns with their values.
        floor: index of the row that scores 0.

    Returns:
        The scores, all pending while any value is missing, because the best row is not known before; None when no metric has a scale.
    """
    if any(not row for _, values in metrics for row in values):
        return RelativeScore(tuple(() for _ in metrics[0][1]))
    scales = {metric.key: _scale(metric, values, floor) for metric, values in metrics}
    scaled = [(metric, values) for metric, values in metrics if scales[metric.key] is not None]
    flat = tuple(metric.title for metric, _ in metrics if scales[metric.key] is None)
    if not scaled:
        return None
    weights = _weights([metric for metric, _ in scaled])
    once: list[str] = []
    uneven: list[int] = []
    rows = []
    for row in range(len(scaled[0][1])):
        counts = {metric.title: len(values[row]) for metric, values in scaled}
        seeds = max(counts.values())
        if set(counts.values()) <= {1, seeds}:
            once += [title for title, count in counts.items() if count < seeds]
            of_row = [[values[row][seed if len(values[row]) > 1 else 0] for _, values in scaled] for seed in range(seeds)]
        else:
            uneven.append(row)
            of_row = [[_mean(values[row]) for _, values in scaled]]
        rows.append(tuple(_score(scaled, numbers, scales, weights) for numbers in of_row))
    return RelativeScore(tuple(rows), flat, tuple(dict.fromkeys(once)), tuple(uneven))


def _scale(metric: TableMetric, values: Values, floor: int) -> tuple[float, float] | None:
    """The ends of a metric's scale, or None where both are printed alike."""
    means = [_mean(row) for row in values]
    best = max(means) if metric.higher_is_better else min(means)
    return None if metric.shown(best) == metric.shown(means[floor]) else (means[floor], best)


def _weights(metrics: Sequence[TableMetric]) -> dict[str, float]:
    """Share of each metric: tasks count alike, and the metrics of a task among themselves."""
    tasks = [metric.task for metric in metrics]
    return {metric.key: 1 / (len(set(tasks)) * tasks.count(metric.task)) for metric in metrics}


def _score(
    metrics: Sequence[tuple[TableMetric, Values]],
    numbers: Sequence[float],
    scales: Mapping[str, tuple[float, float] | None],
    weights: Mapping[str, float],
) -> float:
    parts = []
    for (metric, _), number in zip(metrics, numbers, strict=True):
        scale = scales[metric.key]
        assert scale is not None
        low, high = scale
        parts.append(weights[metric.key] * (number - low) / (high - low))
    return 1000 * math.fsum(parts)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def relative_score_notes(label: str, floor: str, tasks: Sequence[str], score: RelativeScore | None, rows: Sequence[str]) -> list[str]:
    """What must be known about the score.

    Args:
        label: its heading.
        floor: the row that scores 0, in words.
        tasks: that were asked for.
        score: as computed.
        rows: all rows in words.
    """
    names = ", ".join(task.upper() for task in tasks)
    if score is None:
        return [f"{label}: not defined, because in no metric of {names} a row is better than {floor}, as printed."]
    notes = [
        f"{label} = 1000 times the mean over tasks ({names}) of the mean over a task's metrics of (s - s_floor) / (s_best - s_floor); "
        f"s_floor is the mean of {floor}, s_best the best mean among the rows of this table. It can not be compared with other tables."
    ]
    if not all(score.rows):
        return [*notes, f"{label}: pending until every row has all its results, because the best of them is a part of the scale."]
    if any(len(values) > 1 for values in score.rows):
        held = f"; metrics with one value count the same for every seed: {', '.join(score.once)}" if score.once else ""
        notes.append(f"The interval of {label} is over the scores of the single seeds, with s_floor and s_best held fixed{held}.")
    if score.flat:
        notes.append(f"Left out of it for all rows, because no row is better than {floor}, as printed: {', '.join(score.flat)}.")
    if score.uneven:
        names = "; ".join(rows[row] for row in score.uneven)
        notes.append(f"Without interval, because the numbers of seeds differ between metrics: {names}.")
    return notes
