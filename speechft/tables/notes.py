"""The lines under a table: how to read it, the protocol, and what must not be concluded from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from speechft.recipes import TableRecipe
from speechft.tables.scores import SUPERB_S_TASKS

if TYPE_CHECKING:
    from speechft.tables.layout import Column

_PROTOCOLS = {
    "superb": "superb (published steps and sampling)",
    "quick": "quick (reduced steps or sampling: not comparable with published numbers)",
}


def table_notes(recipe: TableRecipe, columns: Sequence[Column], *, scores: bool = True) -> tuple[str, ...]:
    """What must be known about the numbers: the experiment's own note, the protocol, the scales of SUPERB's scores."""
    about_scores = _score_notes(recipe, columns) if scores else []
    return (*([recipe.note] if recipe.note else []), *_protocol_notes(recipe, columns), *about_scores)


def table_legend(columns: Sequence[Column]) -> tuple[str, ...]:
    """How to read the entries, as far as the table has such entries."""
    entries = [entry for column in columns for entry in column.entries]
    legend = []
    if any(entry.published is not None for entry in entries):
        legend.append("Entries: ours (published, ours minus published).")
    if any(entry.mean is None and entry.defined for entry in entries):
        legend.append("pending: there is no result of ours yet.")
    if seeds := sorted({len(entry.values) for entry in entries if entry.std is not None}):
        counts = " or ".join(map(str, seeds))
        legend.append(f"±: half of the 95 % confidence interval of the mean over {counts} seeds of the heads (Student's t).")
    if any(column.best for column in columns):
        legend.append("Bold: best of our values in a column.")
    return tuple(legend)


def _protocol_notes(recipe: TableRecipe, columns: Sequence[Column]) -> list[str]:
    used: dict[str, dict[str, list[str]]] = {}  # task -> protocol -> rows
    for column in columns:
        for row, entry in zip(recipe.rows, column.entries, strict=True):
            if column.metric.task and entry.protocol:
                rows = used.setdefault(column.metric.task.upper(), {}).setdefault(entry.protocol, [])
                rows.append(f"{row.label} ({row.encoder}, {row.finetuning})")
    protocols = {protocol for of_task in used.values() for protocol in of_task}
    if not protocols:
        return []
    if len(protocols) == 1:
        return [f"Protocol: {_PROTOCOLS[protocols.pop()]}."]
    by_protocol = {protocol: [task for task, of_task in used.items() if protocol in of_task] for protocol in sorted(protocols)}
    notes = ["Protocol: " + "; ".join(f"{', '.join(tasks)} {_PROTOCOLS[protocol]}" for protocol, tasks in by_protocol.items()) + "."]
    for task, of_task in used.items():
        if len(of_task) > 1:
            names = "; ".join(dict.fromkeys(of_task["quick"]))
            notes.append(f"{task}: the rows are under different protocols and can not be compared with each other; quick are {names}.")
    return notes


def _score_notes(recipe: TableRecipe, columns: Sequence[Column]) -> list[str]:
    keys = {column.metric.key for column in columns}
    notes = []
    if "SUPERB_S" in keys or any(key.startswith("partial_score") for key in keys):
        notes.append("The upper ends of the scales of the score over PR, SID, ER, SF are inferred from published scores, not quoted.")
    if any(key.startswith("partial_score") for key in keys):
        notes.append("A score over some of its tasks is not SUPERB_S and can not be compared with it.")
    if "SUPERB_FULL" in keys:
        notes.append(
            "SUPERB_FULL of ours is on public scales (WavLM Large for ASR, KS, QbE, ASV, SD, IC); those of the published values are not "
            "public, so no difference is given."
        )
    scored = [column for column in columns if any(column.metric.key in of_task for of_task in SUPERB_S_TASKS.values())]
    if scored and any(entry.protocol == "quick" for column in scored for entry in column.entries):
        which = "score over tasks" if recipe.score is None else "SUPERB_S or SUPERB_FULL"
        notes.append(f"No {which} where the protocol is quick: its scales belong to SUPERB's data and protocol.")
    return notes
