"""Summaries of tables in words."""

from __future__ import annotations

from collections.abc import Sequence

from speechft.recipes.tables import Comparison
from speechft.tables.table import Column, Table


def summary_of(table: Table, comparisons: Sequence[Comparison]) -> list[str]:
    """Write a sentence for each merged model with measured tasks."""
    sentences = []
    for comparison in comparisons:
        row = table.rows[comparison.row]
        if sentence := sentence_of(table, comparison):
            sentences.append(f"{table.title}, {row.encoder}, {row.finetuning}: {sentence}")
    return sentences


def sentence_of(table: Table, comparison: Comparison) -> str:
    """Compare a merged model with its ends by the first metric of each task, in one sentence; empty if no task is measured."""
    columns: dict[str, Column] = {}
    for column in table.columns:
        if column.metric.task is not None and all(column.entries[row].number for row in (comparison.row, *comparison.ends)):
            columns.setdefault(column.metric.task, column)
    if not columns:
        return ""
    here, shown = comparison.row, columns.values()
    better = [column for column in shown if all(ahead(column, here, end) for end in comparison.ends)]
    surely = [column for column in better if all(ahead(column, here, end, by_more=True) for end in comparison.ends)]
    behind = [column for column in shown if all(ahead(column, end, here) for end in comparison.ends)]
    row, ends = table.rows[comparison.row], [table.rows[end].label for end in comparison.ends]
    several = {2: "both", 1: ""}.get(len(ends), "all of")
    others = ", ".join(ends[:-1]) + (" and " if ends[:-1] else "") + ends[-1]
    tasks = f"{len(better)} of {len(columns)} task{'s' if len(columns) != 1 else ''}"
    sentence = f"{row.label} is ahead of {several} {others} on {tasks}"
    sentence += f", by more than the 95 % interval on {len(surely)}" if better else ""
    sentence += f"; it is behind {several} {others} on {len(behind)}." if behind else "."
    return " ".join(sentence.split())


def ahead(column: Column, first: int, second: int, *, by_more: bool = False) -> bool:
    """Whether row `first` is better than `second`; with `by_more` only if the interval of the difference excludes 0."""
    one, other = column.entries[first], column.entries[second]
    assert one.number is not None
    assert other.number is not None
    difference = one.number - other.number
    gain = difference.mean if column.metric.higher_is_better else -difference.mean
    return gain > 0 and (difference.excludes_0 or not by_more)
