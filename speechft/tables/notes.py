"""Lines under a table: how to read it, its protocol, and the limits of its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from speechft.recipes.tables import TableRecipe
from speechft.tables.metrics import METRICS
from speechft.tables.published import SECOND_HAND, Published
from speechft.tables.scores import INFERRED, SUPERB_FULL_NORMALIZERS, SUPERB_S_TASKS, WAVLM_LARGE
from speechft.tables.table import BF16_MARK, Column, in_braces, model_name
from speechft.tasks.catalog import TASKS

SECOND_HAND_MARK = "‡"
UNKNOWN_NOTED = 0.01
"""Share of `<unk>` in test text above which a table notes it."""
_PROTOCOLS = {
    "superb": "superb (published steps and sampling)",
    "quick": "quick (reduced steps or sampling: not comparable with published numbers)",
}


def table_notes(recipe: TableRecipe, columns: Sequence[Column], *, scores: bool = True) -> tuple[str, ...]:
    """Notes on the numbers: the experiment's own note, protocol, precision, scales of the SUPERB scores."""
    return (
        *([recipe.note] if recipe.note else []),
        *_protocol_notes(recipe, columns),
        *_planned_protocols(recipe, columns),
        *_own_recipes(recipe, columns),
        *_precision_notes(recipe, columns),
        *_module_notes(recipe, columns),
        *_unknown_notes(columns),
        *(_score_notes(recipe, columns) if scores else []),
    )


def table_legend(columns: Sequence[Column]) -> tuple[str, ...]:
    """Explanations of the kinds of entries in the table."""
    entries = [entry for column in columns for entry in column.entries]
    legend = []
    if any(entry.published is not None and not entry.alone for entry in entries):
        legend.append("Entries: ours (published, ours minus published).")
    if any(entry.alone for entry in entries):
        legend.append("Rows called published repeat, in brackets, what others report; an empty place is a number that was not found.")
    if any(entry.source == SECOND_HAND for entry in entries):
        legend.append(
            f"{SECOND_HAND_MARK}: published number at second hand, as somebody else's notes on the paper quote it; those without the mark "
            "were read in what the authors published."
        )
    if any(entry.status == "pending" for entry in entries):
        legend.append("pending: there is no result of ours yet.")
    if interval := interval_legend(columns):
        legend.append(f"±: {interval}")
    if any(column.bold for column in columns):
        legend.append("Bold: better than every other row by more than the 95 % interval of their difference; not corrected for many rows.")
    return tuple(legend)


def interval_legend(columns: Sequence[Column]) -> str:
    """Describe what the intervals of a table cover; empty if it has none."""
    entries = [entry for column in columns for entry in column.entries if entry.half_width is not None]
    seeds = " or ".join(str(number) for number in sorted({len(entry.values) for entry in entries if entry.std is not None}))
    over = [f"{seeds} seeds of the heads (Student's t)"] if seeds else []
    drawn: dict[str, list[str]] = {}
    for column in columns:
        for what in dict.fromkeys(entry.drawn for entry in column.entries if column.metric.task and entry.drawn):
            drawn.setdefault(str(what), []).append(column.metric.key.replace("_", " "))
    if drawn:
        over.append("the test's " + ", ".join(f"{what} ({', '.join(names)})" for what, names in drawn.items()) + " (bootstrap)")
    if not over:
        return ""
    scored = [column for column in columns if column.metric.task]
    without = [
        column.metric.key.replace("_", " ") for column in scored if any(entry.number and not entry.drawn for entry in column.entries)
    ]
    alone = f" Of some cells over seeds alone: {', '.join(without)}." if drawn and without else ""
    return f"half of the 95 % confidence interval of the mean, over {' and '.join(over)}.{alone}"


def published_notes(recipe: TableRecipe, columns: Sequence[Column], published: Published) -> list[str]:
    """Sources of rows of published numbers, one line per row."""
    notes = []
    for place, row in enumerate(recipe.rows):
        if row.only_published is None:
            continue
        by_place: dict[str, list[str]] = {}
        for column in columns:
            where = published.places.get((row.only_published, row.encoder, row.finetuning, row.method, column.metric.key))
            if where is not None and column.entries[place].published is not None:
                by_place.setdefault(where, []).append(column.metric.key.replace("_", " "))
        if by_place:
            read = "; ".join(f"{', '.join(keys)}: {where}" for where, keys in by_place.items())
            notes.append(f"{row.encoder}, {row.label}. {read}.")
    return notes


def pending_legend(recipe: TableRecipe, columns: Sequence[Column], reasons: Mapping[str, str]) -> list[str]:
    """Reasons for pending cells, one line per reason."""
    waiting: dict[str, dict[str, list[str]]] = {}  # reason -> model -> tasks
    for place, row in enumerate(recipe.rows):
        waiting_here = [column for column in columns if column.metric.task and column.entries[place].status == "pending"]
        tasks = [str(column.metric.task) for column in waiting_here]
        for task in dict.fromkeys(tasks):
            if reason := reasons.get(f"{model_name(row)}/{task}"):
                waiting.setdefault(reason, {}).setdefault(model_name(row), []).append(task)
    cells = {reason: ", ".join(f"{model}/{in_braces(tasks)}" for model, tasks in models.items()) for reason, models in waiting.items()}
    return [f"Pending: {names}. Reason: {reason}." for reason, names in cells.items()]


def _rows_by(attribute: str, recipe: TableRecipe, columns: Sequence[Column]) -> dict[str, dict[str, list[str]]]:
    """Task -> `protocol` or `precision` of its cells -> names of their rows."""
    used: dict[str, dict[str, list[str]]] = {}
    for column in columns:
        for row, entry in zip(recipe.rows, column.entries, strict=True):
            value = getattr(entry, attribute)
            if column.metric.task and value:
                rows = used.setdefault(column.metric.task.upper(), {}).setdefault(value, [])
                rows.append(f"{row.label} ({row.encoder}, {row.finetuning})")
    return used


def _precision_notes(recipe: TableRecipe, columns: Sequence[Column]) -> list[str]:
    used = {task: rows for task, rows in _rows_by("precision", recipe, columns).items() if "bf16" in rows}
    if not used:
        return []
    notes = [f"{BF16_MARK}: the encoder ran in bf16 ({', '.join(used)}), elsewhere in fp32."]
    for task, rows in used.items():
        if len(rows) > 1:
            names = "; ".join(dict.fromkeys(rows["bf16"]))
            notes.append(f"{task}: the rows are in different precisions; rounding is a part of their differences. bf16 are {names}.")
    return notes


def _module_notes(recipe: TableRecipe, columns: Sequence[Column]) -> list[str]:
    """Notes on rows whose encoder is a module of the user's own."""
    notes = []
    for place, row in enumerate(recipe.rows):
        entries = [column.entries[place] for column in columns if column.entries[place].module]
        if entries:
            alone = " Its features depend on the batch; each utterance was one." if any(entry.one_by_one for entry in entries) else ""
            notes.append(f"{row.label} ({row.encoder}): the encoder is a module from elsewhere, {entries[0].module}.{alone}")
    return notes


def _unknown_notes(columns: Sequence[Column]) -> list[str]:
    """Notes on tasks with so many `<unk>` symbols that the error rate is misleading."""
    shares: dict[str, float] = {}
    for column in columns:
        for entry in column.entries:
            if column.metric.task and (entry.unknown or 0.0) > UNKNOWN_NOTED:
                task = column.metric.task.upper()
                shares[task] = max(shares.get(task, 0.0), entry.unknown or 0.0)
    why = "of the symbols of test are <unk>, since the vocabulary lacks their characters."
    return [f"{task}: {100 * share:.1f} % {why}" for task, share in shares.items()]


def _protocols_of(by_protocol: Mapping[str, Sequence[str]]) -> str:
    """List protocols with their tasks; tasks are omitted if there is one protocol."""
    parts = [f"{', '.join(tasks)} {_PROTOCOLS[protocol]}" for protocol, tasks in by_protocol.items()]
    return _PROTOCOLS[next(iter(by_protocol))] if len(by_protocol) == 1 else "; ".join(parts)


def _protocol_notes(recipe: TableRecipe, columns: Sequence[Column]) -> list[str]:
    used = _rows_by("protocol", recipe, columns)
    protocols = sorted({protocol for of_task in used.values() for protocol in of_task})
    if not protocols:
        return []
    by_protocol = {protocol: [task for task, of_task in used.items() if protocol in of_task] for protocol in protocols}
    notes = [f"Protocol: {_protocols_of(by_protocol)}."]
    for task, of_task in used.items():
        if len(of_task) > 1:
            names = "; ".join(dict.fromkeys(of_task["quick"]))
            notes.append(f"{task}: the rows are under different protocols and cannot be compared with each other; quick are {names}.")
    return notes


def _planned_protocols(recipe: TableRecipe, columns: Sequence[Column]) -> list[str]:
    """Protocol of pending cells, unless it is the single protocol of all other cells, which is already stated."""
    by_protocol: dict[str, list[str]] = {}
    for column in columns:
        task = column.metric.task
        if task in recipe.protocols and any(not entry.values and not entry.alone for entry in column.entries):
            tasks = by_protocol.setdefault(recipe.protocols[task], [])
            tasks += [task.upper()] if task.upper() not in tasks else []
    used = {entry.protocol for column in columns if column.metric.task for entry in column.entries if entry.protocol}
    if not by_protocol or (len(by_protocol) == 1 and used == set(by_protocol)):
        return []
    return [f"Protocol of the pending cells: {_protocols_of(by_protocol)}."]


def _own_recipes(recipe: TableRecipe, columns: Sequence[Column]) -> list[str]:
    """Notes on tasks under protocol `superb` that are not SUPERB's."""
    shown = {column.metric.task for column in columns if any(entry.protocol == "superb" for entry in column.entries)}
    shown |= {task for task in recipe.tasks if recipe.protocols.get(task) == "superb"}
    return [
        f"{task.upper()} is no task of SUPERB; its recipe is ours."
        for task in recipe.tasks
        if task in shown and (task not in TASKS or not TASKS[task].superb)
    ]


def _scale_ends(source: str) -> str:
    """Upper ends of the scales from one source: `ASR 3.44, KS 97.86`."""
    ends = {key: scale.sota for key, scale in SUPERB_FULL_NORMALIZERS.items() if scale.source == source}
    return ", ".join(f"{key.replace('_', ' ')} {METRICS[key].shown(value)}" for key, value in ends.items())


def _score_notes(recipe: TableRecipe, columns: Sequence[Column]) -> list[str]:
    keys = {column.metric.key for column in columns}
    partial = any(key.startswith("partial_score") for key in keys)
    notes = []
    if partial or "SUPERB_S" in keys:
        notes.append(
            "The upper ends of the scales of the score over PR, SID, ER, SF are inferred from published scores, not quoted: "
            f"{_scale_ends(INFERRED)}."
        )
    if partial:
        notes.append("A score over some of its tasks is not SUPERB_S and cannot be compared with it.")
    if "SUPERB_FULL" in keys:
        notes.append(
            f"SUPERB_FULL of ours is on public scales, WavLM Large for the other tasks ({_scale_ends(WAVLM_LARGE)}); those of the "
            "published values are not public, so no difference is given. On ours the published rows come out 15 to 23 points higher than "
            "they were published."
        )
    scored = [column for column in columns if any(column.metric.key in of_task for of_task in SUPERB_S_TASKS.values())]
    if any(entry.protocol == "quick" for column in scored for entry in column.entries):
        which = "score over tasks" if recipe.score is None else "SUPERB_S or SUPERB_FULL"
        notes.append(f"No {which} where the protocol is quick: its scales belong to SUPERB's data and protocol.")
    return notes
