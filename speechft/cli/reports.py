"""`speechft report KIND`: tables, figures and curves from results."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from speechft.cli.options import HELP, REPORTS, Out, app
from speechft.cli.terminal import console, rich_table, say
from speechft.experiment.workflow import PUBLISHED
from speechft.recipes.choice import Choice, ChoiceRecipe, Rule
from speechft.recipes.tables import AnalysisTableRecipe, ConnectionRecipe, CurveRecipe, ReportRecipe, TableRecipe
from speechft.recipes.values import load_recipe
from speechft.shipped import shipped


class _Kinds(TyperGroup):
    """Kinds of reports; a file in the place of a kind is the experiment of a whole page."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        is_file = args[0] not in self.commands and Path(args[0]).suffix in (".yaml", ".yml", ".json")
        return super().resolve_command(ctx, ["page", *args] if is_file else args)


report = typer.Typer(
    cls=_Kinds,
    help="Show results: one web page of a whole experiment, or tables, figures and curves one by one.\n\n"
    "Example: `speechft report config/paper.yaml` writes results/report.html, from whatever results there are",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings=HELP,
)
app.add_typer(report, name="report", rich_help_panel=REPORTS)

Cells = Annotated[list[Path], typer.Argument(help="Cell files; missing ones show as pending.")]
CellsOfRecipe = Annotated[list[Path] | None, typer.Argument(help="With a recipe: cell files; missing ones show as pending.")]
TableFile = Annotated[Path, typer.Argument(help="Recipe of the table (JSON).")]
Look = Annotated[Literal["screen", "paper"], typer.Option("--style", help="paper: as wide as a column, without title and notes.")]
PublishedFiles = Annotated[
    list[Path] | None, typer.Option(help="Published numbers; repeatable. Default: those of the project.", show_default=False)
]
Figures = Annotated[Path | None, typer.Option(help="Folder of the figure; default: OUT.")]


@app.command("tables", rich_help_panel=REPORTS)
@report.command()
def table(
    source: Annotated[
        Path,
        typer.Argument(
            help="Experiment (YAML) with all its tables, curves and analyses, a table's recipe (JSON), or a folder of cells.",
            callback=shipped,
        ),
    ],
    cells: Annotated[
        list[Path] | None,
        typer.Argument(help="Experiment: folder of cells, default results/cells. Recipe: cell files. Missing ones are pending."),
    ] = None,
    out: Out = Path("tables"),
    published: PublishedFiles = None,
    figures: Annotated[Path | None, typer.Option(help="With an experiment: folder of figures; default: none are drawn.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="With an experiment: a table, curve or analysis; repeatable.")] = None,
) -> None:
    """Show existing cells beside the published numbers: NAME.csv, .md, .tex and .html in the folder OUT. Runs no jobs.

    Example: `speechft tables config/paper.yaml results/cells --out tables`

    Example: `speechft report table results/recipes/tables/hubert.json results/cells/hubert_mini/*/*/*.json --out tables`

    Example: `speechft report table results/cells --out tables`
    """
    numbers = published or [shipped(path) for path in PUBLISHED]
    if source.suffix in (".yaml", ".yml"):
        from speechft.tables.experiment import build_experiment

        if cells and len(cells) > 1:
            raise typer.BadParameter("an experiment takes one folder of cells; cell files go with the recipe of a table")
        for name in build_experiment(source, cells[0] if cells else None, numbers, out, figures, only or ()):
            say(out / f"{name}.md")
        return
    from speechft.tables.build import build_table

    if figures or only:
        raise typer.BadParameter("--figures and --only go with an experiment; `speechft report figure` draws one table")
    recipe, cells, name = _table_of(source, cells)
    build_table(recipe, cells, numbers, out, name)
    _show(out, name)


@report.command()
def page(
    source: Annotated[Path, typer.Argument(help="Experiment (YAML), or the recipe of a report (JSON).", callback=shipped)],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The page; default: report.html in the folder of results.")] = None,
    results: Annotated[Path | None, typer.Option(help="Folder with cells, analysis and models; default: the experiment's.")] = None,
    published: PublishedFiles = None,
) -> None:
    """Write one web page: summary in words, tables, figures, trainings, pending cells, origin of every number. Runs no jobs.

    The page needs no network and no other file. `page` can be left out where a file is named.

    Example: `speechft report page config/demo.yaml --out report.html`

    Example: `speechft report config/demo.yaml`
    """
    from speechft.tables.experiment import report_experiment
    from speechft.tables.report import build_report

    numbers = published or [shipped(path) for path in PUBLISHED]
    if source.suffix in (".yaml", ".yml"):
        say(report_experiment(source, results, numbers, out))
        return
    if results is None or out is None:
        raise typer.BadParameter("the recipe of a report needs --results and --out; an experiment knows them")
    build_report(load_recipe(ReportRecipe, source), results, numbers, out)


@app.command(rich_help_panel=REPORTS)
def choose(
    source: Annotated[Path, typer.Argument(help="Folder of cells along a merge (methods NAME@ALPHA), or the recipe of a choice (JSON).")],
    cells: Annotated[list[Path] | None, typer.Argument(help="With a recipe: all cell files that it needs.")] = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="With a folder: tasks whose dev scores count, such as pr,sid; default: those with cells at every alpha."),
    ] = None,
    curve: Annotated[str | None, typer.Option(help="With a folder of several merges: ENCODER_FINETUNING_METHOD.")] = None,
    rule: Annotated[
        Rule, typer.Option(help="one_se: the smallest alpha within one standard error of the best one. best: that one.")
    ] = "one_se",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The choice as JSON, for `speechft merge --choice`.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw gains against alpha: a PNG, and an SVG beside it.")] = None,
) -> None:
    """Choose the alpha of a merge by dev scores of models along it; test scores are not read.

    Example: `speechft choose results/cells --tasks pr,sid,qbe --out alpha.json --figure alpha.png`, then
    `speechft merge BASE TUNED --choice alpha.json --out merged`
    """
    from speechft.files.outputs import check_figure
    from speechft.tables.canvas import save_figure
    from speechft.tables.choice import choose as run
    from speechft.tables.choice import draw_choice, folder_choice

    if source.is_dir():
        names = tuple(name.strip() for name in tasks.split(",")) if tasks else None
        recipe, files = folder_choice(source, names, curve, rule)
    else:
        recipe, files = load_recipe(ChoiceRecipe, source), cells or []
    if figure is not None:
        check_figure(figure, [source, *files, *([out] if out else [])])
    found = run(recipe, files, out)
    if figure is not None:
        end = recipe.points[-1]
        method = next((point.method.partition("@")[0] for point in recipe.points if 0 < point.alpha < 1), end.method)
        save_figure(lambda: draw_choice(found, f"{end.encoder}, {end.finetuning}, {method}: alpha by dev"), figure)
    headings = ["alpha", "mean gain", "standard error", *found.tasks]
    lines = []
    for point in found.points:
        error = "" if point.standard_error is None else f"{point.standard_error:.1%}"
        lines.append([f"{point.alpha:g}", f"{point.gain:+.1%}", error, *(f"{point.gains[task]:+.1%}" for task in found.tasks)])
    console(100).print(rich_table(headings, lines, headings))
    say("Gain: share of the errors of alpha 0 on dev that are gone.")
    for task, alpha in found.without.items():
        say(f"without {task}: alpha {alpha:g}, which changes the errors of {task} by {0.0 - _gain_at(found, task, alpha):+.1%} on dev")
    because = "the best mean gain" if found.alpha == found.best else f"within one standard error of alpha {found.best:g}, the best"
    say(f"alpha {found.alpha:g}: {because}")


def _gain_at(choice: Choice, task: str, alpha: float) -> float:
    return next(point.gains[task] for point in choice.points if point.alpha == alpha)


@report.command()
def differences(recipe: TableFile, cells: Cells, out: Out, figures: Figures = None, style: Look = "screen") -> None:
    """Compare rows of a table, with the 95 % interval of each difference: NAME.csv, .md, .tex, .html, .png and .svg in the folder OUT.

    Example: `speechft report differences results/recipes/tables/hubert.json results/cells/hubert_mini/*/*/*.json --out differences`
    """
    from speechft.tables.canvas import style_of
    from speechft.tables.differences import build_differences

    with style_of(style):
        build_differences(load_recipe(TableRecipe, recipe), cells, out, figures or out, recipe.stem)
    _show(out, recipe.stem)


@report.command()
def figure(
    source: Annotated[Path, typer.Argument(help="Recipe of the table (JSON), or a folder of cells.")],
    out: Out,
    cells: CellsOfRecipe = None,
    style: Look = "screen",
) -> None:
    """Draw the rows of a table, one panel per metric: OUT (.png) and the same as .svg.

    Example: `speechft report figure results/recipes/tables/supervised.json results/cells/hubert_base/*/*/*.json --out supervised.png`

    Example: `speechft report figure results/cells --out cells.png`
    """
    from speechft.tables.canvas import style_of
    from speechft.tables.figure import build_figure

    recipe, cells, _ = _table_of(source, cells)
    with style_of(style):
        build_figure(recipe, cells, out)


@report.command()
def alpha(
    source: Annotated[
        Path,
        typer.Argument(help="Recipe of the curve (JSON), or a folder of cells with some of ENCODER/FINETUNING/NAME@ALPHA."),
    ],
    out: Out,
    cells: CellsOfRecipe = None,
    figures: Figures = None,
    style: Look = "screen",
) -> None:
    """Show metrics against the merge weight alpha: NAME.csv and .md in the folder OUT, NAME.png and .svg in the folder of figures.

    Example: `speechft report alpha results/recipes/curves/alpha.json results/cells/hubert_base/*/*/*.json --out results/tables`

    Example: `speechft report alpha results/cells --out tables`
    """
    from speechft.tables.canvas import style_of
    from speechft.tables.curve import build_curve
    from speechft.tables.folder import cell_files, folder_curves

    if source.is_dir():
        _no_cells(cells)
        cells = [*cell_files(source)]
        curves = folder_curves(cells)
    else:
        curves = {source.stem: load_recipe(CurveRecipe, source)}
    for name, recipe in curves.items():
        with style_of(style):
            build_curve(recipe, cells or [], out, figures or out, name)
        _show(out, name)


@report.command()
def training(
    logs: Annotated[list[Path], typer.Argument(help="training.csv files of pre-trainings or fine-tunings.")],
    out: Out,
    title: Annotated[str, typer.Option(help="Above the panels; default: the names of the trainings.")] = "",
    style: Look = "screen",
) -> None:
    """Draw losses, accuracies and learning rate of trainings: OUT (.png) and the same as .svg.

    Example: `speechft report training results/models/hubert_base/asr/*/training.csv --out curves.png`
    """
    from speechft.tables.canvas import style_of
    from speechft.tables.training import draw_training_curves

    with style_of(style):
        draw_training_curves(logs, out, title)


@report.command()
def similarity(
    recipe: Annotated[Path, typer.Argument(help="Recipe of the table (JSON).")],
    results: Annotated[list[Path], typer.Argument(help="Files of `speechft analyse`; missing ones show as pending.")],
    out: Out,
    figures: Figures = None,
    style: Look = "screen",
) -> None:
    """Show weight deviation beside feature similarity: NAME.csv and .md in the folder OUT, NAME.png and .svg in the folder of figures.

    Example: `speechft report similarity results/recipes/analysis_tables/features.json results/analysis/features/*/*/*.json --out tables`
    """
    from speechft.analysis.report import build_analysis
    from speechft.tables.canvas import style_of

    with style_of(style):
        build_analysis(load_recipe(AnalysisTableRecipe, recipe), results, out, figures or out, recipe.stem)
    _show(out, recipe.stem)


@report.command()
def connection(
    recipe: Annotated[Path, typer.Argument(help="Recipe of the connection (JSON).")],
    result: Annotated[Path, typer.Argument(help="File of `speechft connect`; a missing one shows as pending.")],
    out: Out,
    figures: Figures = None,
    style: Look = "screen",
) -> None:
    """Show loss and error between two encoders: NAME.csv and .md in the folder OUT, NAME.png and .svg in the folder of figures.

    Example: `speechft report connection results/recipes/connections/line.json results/connections/line.json --out tables`
    """
    from speechft.analysis.connection_report import build_connection
    from speechft.tables.canvas import style_of

    with style_of(style):
        build_connection(load_recipe(ConnectionRecipe, recipe), result, out, figures or out, recipe.stem)
    _show(out, recipe.stem)


def _table_of(source: Path, cells: list[Path] | None) -> tuple[TableRecipe, list[Path], str]:
    """The recipe of a table, its cells, and its name: of a recipe file, or of a folder of cells."""
    if not source.is_dir():
        return load_recipe(TableRecipe, source), cells or [], source.stem
    from speechft.tables.folder import cell_files, folder_table

    _no_cells(cells)
    files = cell_files(source)
    return folder_table(files, f"Cells of {source}"), files, source.resolve().name


def _no_cells(cells: list[Path] | None) -> None:
    if cells:
        raise typer.BadParameter("a folder of cells takes no further cells; name the folder alone")


def _show(out: Path, name: str) -> None:
    say((out / f"{name}.md").read_text(encoding="utf-8"))


def _renamed(old: str, kind: Callable[..., None]) -> Callable[..., None]:
    @wraps(kind)
    def run(*args: Any, **options: Any) -> None:
        print(f"`speechft {old}` is now `speechft report {kind.__name__}`; the old name goes with the next release.", file=sys.stderr)
        kind(*args, **options)

    return run


_OLD: dict[str, Callable[..., None]] = {
    "differences": differences,
    "figure": figure,
    "curve": alpha,
    "curves": training,
    "similarity": similarity,
}
for _old, _kind in _OLD.items():
    app.command(_old, hidden=True)(_renamed(_old, _kind))
