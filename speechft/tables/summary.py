"""What tables say, in words."""

from __future__ import annotations

from collections.abc import Sequence

from speechft.recipes.tables import Comparison
from speechft.tables.table import Column, Entry, Table


def summary_of(table: Table, comparisons: Sequence[Comparison]) -> list[str]:
    """A sentence for each merged model whose tasks are measured."""
    return [sentence for comparison in comparisons if (sentence := _sentence(table, comparison))]


def _sentence(table: Table, comparison: Comparison) -> str:
    """How a merged model stands to its ends, task by task; a task counts by its first metric."""
    columns: dict[str, Column] = {}
    for column in table.columns:
        if column.metric.task is not None and all(column.entries[row].number for row in (comparison.row, *comparison.ends)):
            columns.setdefault(column.metric.task, column)
    if not columns:
        return ""
    ahead = [column for column in columns.values() if _better(column, comparison, by_more=False)]
    surely = [column for column in ahead if _better(column, comparison, by_more=True)]
    behind = [column for column in columns.values() if _worse(column, comparison)]
    row, ends = table.rows[comparison.row], [table.rows[end].label for end in comparison.ends]
    several = {2: "both", 1: ""}.get(len(ends), "all of")
    others = ", ".join(ends[:-1]) + (" and " if ends[:-1] else "") + ends[-1]
    tasks = f"{len(ahead)} of {len(columns)} task{'s' if len(columns) != 1 else ''}"
    sentence = f"{table.title}: {row.label} ({row.encoder}, {row.finetuning}) is ahead of {several} {others} on {tasks}"
    sentence += f", by more than the 95 % interval on {len(surely)}" if ahead else ""
    sentence += f"; it is behind {several} {others} on {len(behind)}." if behind else "."
    return " ".join(sentence.split())


def _better(column: Column, comparison: Comparison, *, by_more: bool) -> bool:
    return all(_ahead(column, column.entries[comparison.row], column.entries[end], by_more=by_more) for end in comparison.ends)


def _worse(column: Column, comparison: Comparison) -> bool:
    return all(_ahead(column, column.entries[end], column.entries[comparison.row], by_more=False) for end in comparison.ends)


def _ahead(column: Column, first: Entry, second: Entry, *, by_more: bool) -> bool:
    """Whether `first` is better; with `by_more` only if the interval of the difference excludes 0. One value a row has no interval."""
    assert first.number is not None
    assert second.number is not None
    difference = first.number - second.number
    gain = difference.mean if column.metric.higher_is_better else -difference.mean
    known = None not in (first.half_width, second.half_width)
    return gain > ((difference.half_width or 0.0) if by_more else 0.0) and (known or not by_more)
