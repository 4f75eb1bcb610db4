"""Build all tables, curves and analyses of an experiment from existing results. No workflow, no torch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from speechft.analysis.connection_report import build_connection
from speechft.analysis.report import build_analysis
from speechft.errors import TableError
from speechft.experiment.schema import load_experiment
from speechft.experiment.workflow import Workflow
from speechft.files.output_kinds import CONNECTION_TABLE, CURVE, DIFFERENCES, SIMILARITY, TABLE
from speechft.files.outputs import Inputs, check_shown
from speechft.recipes.tables import AnalysisTableRecipe, ConnectionRecipe, CurveRecipe, ReportRecipe, TableRecipe
from speechft.runs.reasons import pending_reasons
from speechft.tables.build import build_table
from speechft.tables.curve import build_curve
from speechft.tables.differences import build_differences
from speechft.tables.figure import build_figure
from speechft.tables.published import Files, listed
from speechft.tables.render import SUFFIXES


def build_experiment(
    experiment: str | Path,
    cells: str | Path | None,
    published: Files,
    out_dir: str | Path,
    figures_dir: str | Path | None = None,
    only: Collection[str] = (),
) -> list[str]:
    """Write every table, curve and analysis of an experiment file into `out_dir`, each file atomically.

    Args:
        experiment: the experiment file.
        cells: folder with encoder/finetuning/method/task.json; default: that of the workflow. Missing cells are pending, with command and,
            from the folder `logs` next to it, the reason. The folders `analysis` and `connections` next to it have the other results.
        published: CSV files of published numbers.
        out_dir: folder for tables; differences go into its folder `differences`.
        figures_dir: folder for figures; default: no figures.
        only: names of tables, curves and analyses; default: all.

    Returns:
        Names of the tables, curves and analyses written.

    Raises:
        ConfigError: the experiment is invalid.
        TableError: unknown name in `only`, `cells` is not a folder, or see `build_table`.
        AnalysisError: see `build_analysis` and `build_connection`.
    """
    flow = Workflow(load_experiment(experiment), [str(experiment)])
    known = flow.experiment
    names = known.shown
    if unknown := [name for name in only if name not in names]:
        raise TableError(f"{experiment} has no table, curve or analysis {', '.join(map(repr, unknown))}. Available: {', '.join(names)}.")
    if cells is not None and not Path(cells).is_dir():
        raise TableError(f"{cells}: is not a folder. Name the folder that contains encoder/finetuning/method/task.json.")
    folder = Path(cells if cells is not None else flow.results + "/cells")
    figures = None if figures_dir is None else Path(figures_dir)
    shown = [name for name in names if name in only or not only]
    inputs = [folder, experiment, *listed(published)]
    for name in shown:  # fail before anything is written
        _check_outputs(flow, name, Path(out_dir), figures, inputs)
    for name in shown:
        if name in known.analyses:
            results = [folder.parent / Path(path).relative_to(flow.results) for path in flow.analysis_results(name)]
            build_analysis(AnalysisTableRecipe.model_validate_json(flow.recipe(f"analysis_tables/{name}")), results, out_dir, figures, name)
            continue
        if name in known.connections:
            recorded = folder.parent / Path(flow.connection_result(name)).relative_to(flow.results)
            build_connection(ConnectionRecipe.model_validate_json(flow.recipe(f"connections/{name}")), recorded, out_dir, figures, name)
            continue
        wanted = known.table_cells(name) if name in known.tables else known.curve_cells(name)
        files = [folder / f"{cell}.json" for cell in wanted]
        reasons = pending_reasons(experiment, wanted, folder.parent, flow.results)
        if name in known.curves:
            build_curve(CurveRecipe.model_validate_json(flow.recipe(f"curves/{name}")), files, out_dir, figures, name, reasons)
            continue
        recipe = TableRecipe.model_validate_json(flow.recipe(f"tables/{name}"))
        build_table(recipe, files, published, out_dir, name, reasons)
        if recipe.differences:
            build_differences(recipe, files, Path(out_dir) / "differences", figures and figures / "differences", name)
        if figures:
            build_figure(recipe, files, figures / f"{name}.png")
    return shown


def check_outputs(experiment: str | Path, out_dir: Path, figures_dir: Path | None, inputs: Inputs = ()) -> None:
    """Check all outputs of `build_experiment` without writing them.

    Raises:
        OutputError: see `check_shown`.
    """
    flow = Workflow(load_experiment(experiment))
    for name in flow.experiment.shown:
        _check_outputs(flow, name, out_dir, figures_dir, inputs)


def report_experiment(experiment: str | Path, results: str | Path | None, published: Files, out_html: str | Path | None) -> Path:
    """Write the report page of an experiment file from existing results (see `build_report`), and return its path.

    `results` is the folder with `cells`, `analysis`, `models` and `logs`; default: that of the workflow. `out_html` defaults to
    `report.html` in it.
    """
    from speechft.tables.report import build_report

    flow = Workflow(load_experiment(experiment), [str(experiment)])
    folder = Path(results if results is not None else flow.results)
    out = Path(out_html if out_html is not None else folder / "report.html")
    reasons = pending_reasons(experiment, flow.experiment.cells, folder, flow.results)
    build_report(ReportRecipe.model_validate_json(flow.recipe("report")), folder, published, out, reasons, str(experiment))
    return out


def _check_outputs(flow: Workflow, name: str, out_dir: Path, figures: Path | None, inputs: Inputs) -> None:
    """Check the outputs of `build_experiment` for `name`."""
    if name in flow.experiment.tables:
        check_shown(out_dir, figures, name, SUFFIXES, TABLE, inputs)
        if flow.experiment.tables[name].differences:
            check_shown(out_dir / "differences", figures and figures / "differences", name, SUFFIXES, DIFFERENCES, inputs)
    else:
        known = flow.experiment
        kind = SIMILARITY if name in known.analyses else CONNECTION_TABLE if name in known.connections else CURVE
        check_shown(out_dir, figures, name, (".md",), kind, inputs)
