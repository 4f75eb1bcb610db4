"""Report of an experiment: one web page with all existing tables, figures, trainings and cells."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechft.analysis.connection_report import Connection, connection_grid, connection_notes, draw_connection, read_connection
from speechft.analysis.report import analysis_grid, analysis_notes, draw_analysis, read_results
from speechft.conventions import SPLITS
from speechft.errors import SpeechFTError
from speechft.files.atomic import write_text
from speechft.files.output_kinds import PAGE
from speechft.files.outputs import check_file
from speechft.files.structured import read_json_mapping
from speechft.recipes.alphas import alpha_text
from speechft.recipes.cell import Cell
from speechft.recipes.tables import AnalysisTableRecipe, ConnectionRecipe, ReportRecipe, TableRow
from speechft.tables.arrange import arrange
from speechft.tables.canvas import figure_svg
from speechft.tables.cells import cell_name, existing_cells
from speechft.tables.curve import arrange_curve, draw_curve
from speechft.tables.differences import arrange_differences
from speechft.tables.figure import STYLE, draw_differences, draw_table
from speechft.tables.metrics import task_metrics
from speechft.tables.page import Picture, Section, render, table_content
from speechft.tables.published import Files, listed, load_published
from speechft.tables.summary import summary_of
from speechft.tables.table import Table, model_name
from speechft.tables.training import training_figure
from speechft.tasks.metric import Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MANY_TRIALS = 60
"""Number of heads in a cell above which the page lists only selected ones."""


def build_report(
    recipe: ReportRecipe,
    results: str | Path,
    published: Files,
    out_html: str | Path,
    reasons: Mapping[str, str] | None = None,
    source: str = "",
) -> None:
    """Write a self-contained page: summary, tables, figures, trainings, pending cells, provenance of every number.

    The page needs no network and has no date: the same results give the same page.

    Args:
        recipe: contents of the page.
        results: results folder with `cells`, `analysis`, `connections` and `models`; missing results are pending.
        published: CSV files of published numbers.
        out_html: output file, written atomically.
        reasons: encoder/finetuning/method/task -> why the cell is pending.
        source: name of the experiment file, for the footer.

    Raises:
        OutputError: `out_html` exists and is not a page of speechft.
        TableError, AnalysisError: a cell or a result is malformed, see `build_table` and `build_analysis`.
    """
    results, reasons = Path(results), reasons or {}
    names = [name for table in recipe.tables.values() for name in _cells_of(table.rows, table.tasks)]
    names += [name for curve in recipe.curves.values() for name in _cells_of(curve.points, curve.tasks)]
    paths = {name: results / f"cells/{name}.json" for name in names}
    check_file(out_html, PAGE, [*paths.values(), *listed(published)])
    cells = existing_cells(list(paths.values()))
    links = {cell_name(cell): _anchor(cell_name(cell)) for cell in cells}
    numbers = load_published(
        published, {metric.key for table in recipe.tables.values() for of_task in table.metrics.values() for metric in of_task}
    )
    sections, summary, tables = [], [], []
    for name, shown in recipe.tables.items():
        table = arrange(shown, cells, numbers, name, reasons=reasons)
        tables.append(table)
        summary += summary_of(table, recipe.comparisons.get(name, ()))
        figures = _pictures(table, partial(draw_table, table), **STYLE)
        if shown.differences:
            compared = arrange_differences(shown, [paths[cell] for cell in _cells_of(shown.rows, shown.tasks)], name)
            figures += _pictures(compared, partial(draw_differences, compared), **STYLE)
        sections.append(Section(_anchor(name), table.title, table_content(table, _links(table, links)), figures))
    for name, curve in recipe.curves.items():
        table = arrange_curve(curve, cells, name, reasons)
        tables.append(table)
        content = table_content(table, _links(table, links))
        for row, point in zip(content["rows"], curve.points, strict=True):
            row["label"] = f"alpha {alpha_text(point.alpha)} ({row['label']})"
        sections.append(Section(_anchor(name), table.title, content, _pictures(table, partial(draw_curve, curve, table))))
    lines = {name: read_connection(results / f"connections/{name}.json", one) for name, one in recipe.connections.items()}
    sections += [_connection_section(name, connection, lines[name]) for name, connection in recipe.connections.items()]
    sections += [_analysis_section(name, analysis, results / f"analysis/{name}") for name, analysis in recipe.analyses.items()]
    page = {
        "note": recipe.note,
        "summary": [*summary, *_progress("cells", paths, cells), *_progress("connections", lines, list(filter(None, lines.values())))],
        "trainings": _trainings([*map(model_name, _models(recipe))], results),
        "pending": _pending(tables, reasons),
        "cells": [_cell_content(cell, links[cell_name(cell)], results) for cell in cells],
        "source": source,
    }
    write_text(out_html, render(recipe.title, sections, **page))


def _connection_section(name: str, recipe: ConnectionRecipe, connection: Connection | None) -> Section:
    grid, notes = connection_grid(recipe, connection), connection_notes(recipe, connection)
    metrics = connection.metrics if connection else ()
    content = _grid_content(recipe.title, grid, notes, ["", "lower", *("higher" if one.higher_is_better else "lower" for one in metrics)])
    if connection is None:
        return Section(_anchor(name), recipe.title, content, commands=recipe.commands)
    return Section(_anchor(name), recipe.title, content, [_picture(partial(draw_connection, recipe, connection), recipe.title, notes[0])])


def _analysis_section(name: str, recipe: AnalysisTableRecipe, folder: Path) -> Section:
    results = read_results(recipe, [folder / f"{model_name(row)}.json" for row in recipe.rows])
    grid = analysis_grid(recipe, results)
    content = _grid_content(recipe.title, grid, analysis_notes(recipe, results), ["", "", *["higher"] * (len(grid[0]) - 2)])
    text = "; ".join(f"{line[0]} ({line[1]}): {grid[0][4]} {line[4]}" for line in grid[1:])
    return Section(_anchor(name), recipe.title, content, [_picture(partial(draw_analysis, recipe, results), recipe.title, text)])


def _anchor(name: str) -> str:
    return re.sub("[^A-Za-z0-9_.@+-]", "-", name)


def _cells_of(rows: Iterable[TableRow], tasks: Iterable[str]) -> list[str]:
    return [f"{model_name(row)}/{task}" for row, task in product(rows, tasks)]


def _progress(what: str, wanted: Collection[str], there: Collection[object]) -> list[str]:
    """How many are there, unless all are."""
    missing = len(wanted) - len(there)
    return [f"{len(there)} of {len(wanted)} {what} are measured; the others are listed below."] if missing else []


def _models(recipe: ReportRecipe) -> list[TableRow]:
    """Every model that the report shows."""
    rows = [row for table in recipe.tables.values() for row in table.rows]
    rows += [point for curve in recipe.curves.values() for point in curve.points]
    rows += [row for analysis in recipe.analyses.values() for row in analysis.rows]
    return rows + [end for connection in recipe.connections.values() for end in (connection.start, connection.end)]


def _links(table: Table, links: Mapping[str, str]) -> dict[tuple[int, str], str]:
    """Map row and task of a table to the anchors of cells."""
    tasks = {column.metric.task for column in table.columns if column.metric.task is not None}
    names = {(index, task): f"{model_name(row)}/{task}" for index, row in enumerate(table.rows) for task in tasks}
    return {place: links[name] for place, name in names.items() if name in links}


def _picture(draw: Callable[[], Figure], title: str, text: str, **style: Any) -> Picture:
    svg = base64.b64encode(figure_svg(draw, **style)).decode()
    return Picture(f"data:image/svg+xml;base64,{svg}", f"{title}. {text}", title)


def _pictures(table: Table, draw: Callable[[], Figure], **style: Any) -> list[Picture]:
    """Figure of a table, with its numbers as alternative text; empty while nothing is measured."""
    text = _measured(table)
    return [_picture(draw, table.title, text, **style)] if text else []


def _measured(table: Table) -> str:
    """Numbers of a table as one line of text, for the figure's alternative text."""
    lines = []
    for column in table.columns:
        values = [
            f"{table.label(row)} {column.metric.shown(entry.mean)}" for row, entry in enumerate(column.entries) if entry.mean is not None
        ]
        if values:
            lines.append(f"{column.metric.title}: {', '.join(values)}")
    return "; ".join(lines)


def _grid_content(title: str, grid: Sequence[Sequence[str]], notes: Sequence[str], better: Sequence[str]) -> dict[str, Any]:
    """Convert a grid to the template's input; `better` is `higher` or `lower` for each column, and "" for text."""
    leading = better.count("")
    plain = {"width": "", "beside": "", "bold": False, "link": None}
    heads = [{"title": text, "better": end} for text, end in zip(grid[0], better, strict=True)]
    rows = [
        {
            "label": line[0],
            "words": [{"label": grid[0][place], "text": line[place]} for place in range(1, leading)],
            "entries": [
                {**plain, "label": head, "text": text, "value": text if text[0].isdigit() else ""}
                for head, text in zip(grid[0][leading:], line[leading:], strict=True)
            ],
        }
        for line in grid[1:]
    ]  # fmt: skip
    orders = [(text, place) for place, text in enumerate(grid[0]) if place >= leading]
    return {"title": title, "heads": heads, "rows": rows, "orders": orders, "notes": notes}


def _trainings(models: Sequence[str], results: Path) -> list[Picture]:
    """Training curves of models, one figure per encoder."""
    pictures = []
    for encoder in dict.fromkeys(name.partition("/")[0] for name in models):
        logs = {
            name: log for name in models if name.startswith(f"{encoder}/") and (log := results / f"models/{name}/training.csv").is_file()
        }
        if logs:
            title = f"Trainings of {encoder}"
            pictures.append(_picture(training_figure(list(logs.values()), title), title, ", ".join(logs)))
    return pictures


def _pending(tables: Sequence[Table], reasons: Mapping[str, str]) -> list[dict[str, Any]]:
    """Name, reason and command of every pending cell in tables and curves."""
    cells: dict[str, dict[str, Any]] = {}
    for table in tables:
        for column in table.columns:
            for index, row in enumerate(table.rows):
                if column.metric.task is not None and column.entries[index].status == "pending":
                    name = f"{model_name(row)}/{column.metric.task}"
                    cells.setdefault(name, {"name": name, "reason": reasons.get(name), "command": table.command_of(index, column)})
    return list(cells.values())


def _cell_content(cell: Cell, anchor: str, results: Path) -> dict[str, Any]:
    """Everything that determines the numbers of a cell, in the form the template reads."""
    metrics = {metric.key: metric for metric in cell.described or task_metrics([cell.task])}
    heads, trials = _trials(cell, metrics)
    return {
        "id": anchor,
        "name": cell_name(cell),
        "value": ", ".join(f"{metrics[key].title} {metrics[key].shown(mean)}" for key, mean in cell.metrics.items()),
        "facts": [(key, text) for key, text in _facts(cell, metrics, results) if text],
        "trial_heads": heads,
        "trials": trials,
    }


def _facts(cell: Cell, metrics: Mapping[str, Metric], results: Path) -> Iterator[tuple[str, str]]:
    """Yield facts about a cell as name and text; the text is empty if unknown."""
    yield "file", f"cells/{cell_name(cell)}.json"
    yield "protocol", f"{cell.protocol}, encoder in {cell.precision or 'unknown precision'}"
    for key, values in cell.values.items():
        yield f"{metrics[key].title}, by seed", ", ".join(map(metrics[key].shown, values))
    for name in SPLITS:
        split = getattr(cell.counts, name)
        dropped = "".join(f"; {count} left out ({why})" for why, count in split.dropped.items())
        yield name, f"{split.utterances} utterances, {split.hours:.2f} h{dropped}"
    yield "head", f"{cell.counts.trainable_parameters} parameters, {cell.counts.labels} labels; chosen on {cell.selected_on}"
    seconds = cell.seconds
    yield "time", f"features {seconds.features:.0f} s, heads {seconds.training:.0f} s, total {seconds.total / 3600:.2f} h"
    yield "encoder passes", str(cell.counts.encoder_passes)
    yield "model", _origin(results / f"models/{cell_name(cell).rpartition('/')[0]}/provenance.json")
    yield "SHA-256 of the weights", cell.model.sha256
    yield "of the recipe", cell.hashes.recipe
    yield "of the labels", cell.hashes.labels
    for name, digest in cell.hashes.manifests.items():
        yield f"of the {name} manifest", digest
    yield "software", ", ".join(f"{name} {version}" for name, version in cell.software.items())
    yield "recipe", json.dumps(cell.recipe)


def _trials(cell: Cell, metrics: Collection[str]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the trained heads, or only of the selected ones if there are many. Empty columns are omitted."""
    trials = cell.trials if len(cell.trials) <= _MANY_TRIALS else [trial for trial in cell.trials if trial.selected]
    chosen = {(one.seed, one.fold): one.test for one in cell.selected}
    keys = list(dict.fromkeys(key for trial in trials for key in trial.dev))
    settings = ("seed", "fold", "learning rate", "layer", "best step")
    heads = [*settings, *(f"dev {key}" for key in keys), "chosen", *(f"test {key}" for key in metrics)]
    lines = []
    for trial in trials:
        values = (trial.seed, trial.fold, trial.learning_rate, trial.layer, trial.best_step)
        dev = [_shown(trial.dev.get(key)) for key in keys]
        test = [_shown(chosen.get((trial.seed, trial.fold), {}).get(key) if trial.selected else None) for key in metrics]
        state = "diverged" if trial.diverged else "yes" if trial.selected else f"dropped at {trial.dropped}" if trial.dropped else ""
        lines.append([*("" if value is None else str(value) for value in values), *dev, state, *test])
    kept = [place for place in range(len(heads)) if any(line[place] for line in lines)]
    return [heads[place] for place in kept], [[line[place] for place in kept] for line in lines]


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _origin(provenance: Path) -> str:
    """Describe how a model was made, from its provenance; empty if its directory is gone."""
    try:
        record = read_json_mapping(provenance)
        inputs = ", ".join(f"{role} {source['name']} ({source['sha256'][:12]})" for role, source in record["inputs"].items())
        return f"{record['kind']} of {inputs}; recipe {json.dumps(record['recipe'])}"
    except (SpeechFTError, OSError, KeyError, TypeError):
        return ""
