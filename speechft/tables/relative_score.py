"""A score over tasks normalized by the rows of a table, for benchmarks without published scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from speechft.tables.estimate import Estimate, weighted
from speechft.tasks.metric import Metric

Values = Sequence[Estimate | None]
"""Values of one metric by row; None while pending."""


@dataclass(frozen=True)
class RelativeScore:
    """Scores of all rows, and the metrics that count only in part."""

    rows: tuple[Estimate | None, ...]
    """Score of each row, one sample per task; None while pending."""
    flat: tuple[str, ...] = ()
    """Titles of metrics without a scale, which are excluded."""
    once: tuple[str, ...] = ()
    """Titles of metrics without an interval in a row where others have one."""


def relative_score(metrics: Sequence[tuple[Metric, Values]], floor: int) -> RelativeScore | None:
    """Compute 1000 times the mean over tasks of the mean over a task's metrics of (s - s_floor) / (s_best - s_floor).

    s_floor is the mean over seeds of the row `floor`, s_best the best such mean of all rows; both are held fixed. A metric in which no
    row beats the floor, to its printed decimals, has no scale and is excluded for all rows. Tasks are independent; metrics of one task
    come from the same heads and are added seed by seed.

    All scores are pending while any value is missing, because the best row is unknown. Returns None if no metric has a scale.
    """
    rows = range(len(metrics[0][1]))
    if not all(row for _, values in metrics for row in values):
        return RelativeScore((None,) * len(rows))
    flat: list[str] = []
    tasks: dict[str | None, list[tuple[str, list[Estimate], float, float]]] = {}  # title, values and both ends of the scale
    for metric, of_rows in metrics:
        values = [row for row in of_rows if row]
        means = [row.mean for row in values]
        best = max(means) if metric.higher_is_better else min(means)
        if metric.shown(best) == metric.shown(means[floor]):
            flat.append(metric.title)
        else:
            tasks.setdefault(metric.task, []).append((metric.title, values, means[floor], best))
    if not tasks:
        return None
    once: dict[str, None] = {}
    scores = []
    for row in rows:
        groups = [
            [(values[row], 1000 / ((high - low) * len(tasks) * len(of_task)), low) for _, values, low, high in of_task]
            for of_task in tasks.values()
        ]
        scores.append(weighted(groups))
        shown = {title: values[row] for of_task in tasks.values() for title, values, _, _ in of_task}
        if any(number.half_width is not None for number in shown.values()):
            once |= {title: None for title, number in shown.items() if number.half_width is None}
    return RelativeScore(tuple(scores), tuple(flat), tuple(once))


def relative_score_notes(label: str, floor: str, tasks: Sequence[str], score: RelativeScore | None) -> list[str]:
    """Notes on the score with the heading `label`; `floor` describes the row that scores 0."""
    names = ", ".join(task.upper() for task in tasks)
    if score is None:
        return [f"{label}: not defined, because in no metric of {names} a row is better than {floor}, as printed."]
    notes = [
        f"{label} = 1000 times the mean over tasks ({names}) of the mean over a task's metrics of (s - s_floor) / (s_best - s_floor); "
        f"s_floor is the mean of {floor}, s_best the best mean among the rows of this table. It cannot be compared with other tables."
    ]
    if not all(score.rows):
        return [*notes, f"{label}: pending until every row has all its results, because the best of them is a part of the scale."]
    if any(row and row.half_width is not None for row in score.rows):
        held = f"; metrics with one value count as exact: {', '.join(score.once)}" if score.once else ""
        notes.append(
            f"The interval of {label} adds up the variances of the tasks (Welch and Satterthwaite's degrees of freedom), "
            f"with s_floor and s_best held fixed{held}."
        )
    if score.flat:
        notes.append(f"Left out of it for all rows, because no row is better than {floor}, as printed: {', '.join(score.flat)}.")
    return notes
