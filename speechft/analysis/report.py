"""Table and figure of an analysis: feature similarity against weight deviation. Works without torch."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechft.analysis.result import AnalysisResult, read_result
from speechft.errors import AnalysisError
from speechft.files.atomic import write_text
from speechft.files.escapes import markdown_escape
from speechft.files.output_kinds import SIMILARITY
from speechft.files.outputs import check_shown
from speechft.recipes.tables import AnalysisTableRecipe, TableRow
from speechft.tables.canvas import LEGEND, MAX_LEGEND, dress, legend_note, looks, panel_page, save_figure, short
from speechft.tables.render import PENDING, csv_file, markdown_page
from speechft.tables.table import BF16_MARK, model_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEADER = ("model", "fine-tuning", "weight deviation", "relative %", "cosine ↑", "cosine, last layer ↑", "CKA ↑")

RowResults = Sequence[AnalysisResult | None]
"""Result of each row of the recipe; None while pending."""


def build_analysis(
    recipe: AnalysisTableRecipe, results: Sequence[str | Path], out_dir: str | Path, figures_dir: str | Path | None, name: str
) -> RowResults:
    """Write `{name}.csv` and `.md` into `out_dir`, `{name}.png` and `.svg` into `figures_dir` if given, each atomically.

    `results` are outputs of `speechft analyse`; missing ones are pending, other models are ignored.

    Raises:
        AnalysisError: a file is malformed, or two are of the same model.
    """
    check_shown(out_dir, figures_dir, name, (".md",), SIMILARITY, results)
    row_results = read_results(recipe, results)
    write_text(Path(out_dir) / f"{name}.csv", _csv(recipe, row_results))
    grid = [list(map(markdown_escape, line)) for line in analysis_grid(recipe, row_results)]
    write_text(Path(out_dir) / f"{name}.md", markdown_page(recipe.title, grid, 2, analysis_notes(recipe, row_results)))
    if figures_dir is not None:
        save_figure(lambda: draw_analysis(recipe, row_results), Path(figures_dir) / f"{name}.png")
    return row_results


def read_results(recipe: AnalysisTableRecipe, results: Sequence[str | Path]) -> RowResults:
    """Read the result of each row of the recipe; arguments and errors as in `build_analysis`."""
    by_model: dict[str, AnalysisResult] = {}
    for path in dict.fromkeys(map(Path, results)):
        if not path.exists():
            continue
        result = read_result(path)
        names = (result.model.encoder, result.model.finetuning, result.model.method)
        if None in names:
            raise AnalysisError(f"{path}: has no model name. Run `speechft analyse` with --name.")
        model = "/".join(map(str, names))
        if model in by_model:
            raise AnalysisError(f"{path}: is a result of {model}, like another file. Give only one of them.")
        by_model[model] = result
    return [by_model.get(model_name(row)) for row in recipe.rows]


def analysis_notes(recipe: AnalysisTableRecipe, results: RowResults) -> list[str]:
    """Notes on the numbers."""
    notes = [recipe.note] if recipe.note else []
    notes.append(
        "Weight deviation: Euclidean norm of theta - theta0 over all weights, relative to that of theta0. Cosine: between the vectors of "
        "the two encoders, mean over frames (and hidden states). CKA: linear, mean over hidden states."
    )
    compared = dict.fromkeys((result.utterances, result.frames) for result in results if result)
    notes += [f"Compared on {utterances} utterances, {frames} frames." for utterances, frames in compared]
    if any(result and result.precision == "bf16" for result in results):
        notes.append(f"{BF16_MARK}: features in bf16, whose rounding is a part of their differences; of the other models in fp32.")
    if missing := sum(result is None for result in results):
        notes.append(f"Pending: {missing} of {len(results)} models.")
    return notes


def _label(row: TableRow, result: AnalysisResult | None) -> str:
    """Label of a row, marked if features are in bf16."""
    return f"{row.label}{BF16_MARK if result and result.precision == 'bf16' else ''}"


def analysis_grid(recipe: AnalysisTableRecipe, results: RowResults) -> list[list[str]]:
    """Format all lines of the table, the header first."""
    grid: list[list[str]] = [list(_HEADER)]
    for row, result in zip(recipe.rows, results, strict=True):
        numbers = [PENDING] * (len(_HEADER) - 2)
        if result:
            cosines = (result.cosine, result.states[-1].cosine, result.cka)
            deviation = result.deviation
            numbers = [f"{deviation.norm:.4g}", f"{100 * deviation.relative:.2f}", *(f"{value:.4f}" for value in cosines)]
        grid.append([_label(row, result), row.finetuning, *numbers])
    return grid


def _csv(recipe: AnalysisTableRecipe, results: RowResults) -> str:
    """One line per model and hidden state, and per model and part of its weights, in full precision."""
    records: list[dict[str, Any]] = []
    for row, result in zip(recipe.rows, results, strict=True):
        names = {"encoder": row.encoder, "finetuning": row.finetuning, "method": row.method, "label": row.label}
        if result is None:
            records.append({**names, "quantity": PENDING})
            continue
        names |= {"model_sha256": result.model.sha256, "precision": result.precision or ""}
        deviations = {"all": result.deviation, **result.parts}
        for part, deviation in deviations.items():
            records.append({**names, "quantity": "deviation", "of": part, "value": deviation.norm})
            records.append({**names, "quantity": "relative_deviation", "of": part, "value": deviation.relative})
        for state in result.states:
            records.append({**names, "quantity": "cosine", "of": f"state_{state.state}", "value": state.cosine})
            records.append({**names, "quantity": "cka", "of": f"state_{state.state}", "value": state.cka})
    columns = ["encoder", "finetuning", "method", "label", "quantity", "of", "value", "precision", "model_sha256"]
    return csv_file(records, columns)


def draw_analysis(recipe: AnalysisTableRecipe, results: RowResults) -> Figure:
    """Draw cosine against relative deviation (one point per model) and cosine by hidden state (one line per model)."""
    drawn = sum(result is not None for result in results)
    notes = [*analysis_notes(recipe, results), legend_note(drawn)]
    figure, (points, layers) = panel_page(recipe.title, notes, 2, across=2, size=(4.2, 3.4), margin=0)
    several = len({row.finetuning for row in recipe.rows}) > 1
    # If a method has several rows, each model gets its own marker and color.
    methods = [row.method for row in recipe.rows]
    kinds = methods if len(set(methods)) == len(methods) else [f"{row.finetuning}/{row.method}" for row in recipe.rows]
    shown = looks(kinds)
    for index, (row, result) in enumerate(zip(recipe.rows, results, strict=True)):
        if result is None:
            continue
        style = shown[kinds[index]].style
        name = _label(row, result)
        label = "\n".join(textwrap.wrap(short(f"{name}, {row.finetuning}" if several else name), 32))
        points.plot([100 * result.deviation.relative], [result.cosine], linestyle="none", label=label, **style)
        cosines = [state.cosine for state in result.states]
        layers.plot([state.state for state in result.states], cosines, linewidth=1.2, **{**style, "markersize": 3})
    points.set_xlabel("weight deviation, % of the norm of theta0", fontsize=7.5)
    points.set_ylabel("mean cosine of features", fontsize=7.5)
    layers.set_xlabel("hidden state (0: input of the first layer)", fontsize=7.5)
    layers.set_ylabel("cosine", fontsize=7.5)
    for panel in (points, layers):
        panel.margins(0.1)
        dress(panel, grid="both", pending=not drawn)
    if drawn:
        points.legend(*[part[:MAX_LEGEND] for part in points.get_legend_handles_labels()], **LEGEND)
    return figure
