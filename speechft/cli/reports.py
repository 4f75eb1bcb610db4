"""Commands that show results: tables, report KIND, choose."""

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
    """Kinds of reports; a file instead of a kind means `page`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        is_file = args[0] not in self.commands and Path(args[0]).suffix in (".yaml", ".yml", ".json")
        return super().resolve_command(ctx, ["page", *args] if is_file else args)


report = typer.Typer(
    cls=_Kinds,
    help="Show results: a web page of a whole experiment, or individual tables, figures and curves.\n\n"
    "Example: `speechft report config/paper.yaml` writes results/report.html from the existing results",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings=HELP,
)
app.add_typer(report, name="report", rich_help_panel=REPORTS)

CellsOfRecipe = Annotated[list[Path] | None, typer.Argument(help="With a recipe: cell files; missing ones are shown as pending.")]
Look = Annotated[Literal["screen", "paper"], typer.Option("--style", help="paper: column width, without title and notes.")]
PublishedFiles = Annotated[
    list[Path] | None, typer.Option(help="CSV of published numbers; repeatable. Default: those shipped with speechft.", show_default=False)
]
Figures = Annotated[Path | None, typer.Option(help="Folder for the figure; default: OUT.")]


@app.command("tables", rich_help_panel=REPORTS)
@report.command()
def table(
    source: Annotated[
        Path,
        typer.Argument(
            help="Experiment (YAML) with all its tables, curves and analyses, recipe of a table (JSON), or folder of cells.",
            callback=shipped,
        ),
    ],
    cells: Annotated[
        list[Path] | None,
        typer.Argument(help="Experiment: folder of cells, default: its results. Recipe: cell files. Missing ones are shown as pending."),
    ] = None,
    out: Out = Path("tables"),
    published: PublishedFiles = None,
    figures: Annotated[Path | None, typer.Option(help="With an experiment: folder for figures; default: no figures.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="With an experiment: only this table, curve or analysis; repeatable.")] = None,
) -> None:
    """Build tables from existing cells, next to published numbers: NAME.csv, .md, .tex and .html in the folder OUT. Runs no jobs.

    Example: `speechft tables config/paper.yaml results/cells --out tables`

    Example: `speechft report table results/recipes/tables/hubert.json results/cells/hubert_mini/*/*/*.json --out tables`

    Example: `speechft report table results/cells --out tables`
    """
    numbers = published or [shipped(path) for path in PUBLISHED]
    if source.suffix in (".yaml", ".yml"):
        from speechft.tables.experiment import build_experiment

        if cells and len(cells) > 1:
            raise typer.BadParameter("an experiment takes one folder of cells; give cell files with the recipe of a table")
        for name in build_experiment(source, cells[0] if cells else None, numbers, out, figures, only or ()):
            say(out / f"{name}.md")
        return
    from speechft.tables.build import build_table

    if figures or only:
        raise typer.BadParameter("--figures and --only need an experiment; use `speechft report figure` to draw one table")
    recipe, cells, name = _table_of(source, cells)
    build_table(recipe, cells, numbers, out, name)
    _show(out, name)


@report.command()
def page(
    source: Annotated[Path, typer.Argument(help="Experiment (YAML), or the recipe of a report (JSON).", callback=shipped)],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Output page; default: report.html in the results folder.")] = None,
    results: Annotated[Path | None, typer.Option(help="Folder with cells, analysis and models; default: the experiment's.")] = None,
    published: PublishedFiles = None,
) -> None:
    """Write one web page: summary, tables, figures, trainings, pending cells, provenance of every number. Runs no jobs.

    The page needs no network and no other file. You can omit the word `page` before a file.

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
        raise typer.BadParameter("a recipe of a report needs --results and --out")
    build_report(load_recipe(ReportRecipe, source), results, numbers, out)


@app.command(rich_help_panel=REPORTS)
def choose(
    source: Annotated[Path, typer.Argument(help="Folder of cells along a merge (methods NAME@ALPHA), or recipe of a choice (JSON).")],
    cells: Annotated[list[Path] | None, typer.Argument(help="With a recipe: the cell files that it needs.")] = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="With a folder: tasks whose dev scores count, such as pr,sid; default: those with cells at every alpha."),
    ] = None,
    curve: Annotated[str | None, typer.Option(help="With a folder of several merges: which one, as ENCODER_FINETUNING_METHOD.")] = None,
    rule: Annotated[
        Rule, typer.Option(help="one_se: the smallest alpha within one standard error of the best. best: the best alpha.")
    ] = "one_se",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Output (JSON), for `speechft merge --choice`.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw gains against alpha to this PNG, with an SVG next to it.")] = None,
) -> None:
    """Choose the alpha of a merge by dev scores of models along it. Test scores are not read.

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
    choice = run(recipe, files, out)
    if figure is not None:
        end = recipe.points[-1]
        method = next((point.method.partition("@")[0] for point in recipe.points if 0 < point.alpha < 1), end.method)
        save_figure(lambda: draw_choice(choice, f"{end.encoder}, {end.finetuning}, {method}: alpha by dev"), figure)
    headings = ["alpha", "mean gain", "standard error", *choice.tasks]
    lines = []
    for point in choice.points:
        error = "" if point.standard_error is None else f"{point.standard_error:.1%}"
        lines.append([f"{point.alpha:g}", f"{point.gain:+.1%}", error, *(f"{point.gains[task]:+.1%}" for task in choice.tasks)])
    console(100).print(rich_table(headings, lines, headings))
    say("Gain: share of alpha 0's errors on dev that is removed.")
    for task, alpha in choice.without.items():
        say(f"without {task}: alpha {alpha:g}, which changes the errors of {task} by {0.0 - _gain_at(choice, task, alpha):+.1%} on dev")
    because = "the best mean gain" if choice.alpha == choice.best else f"within one standard error of alpha {choice.best:g}, the best"
    say(f"alpha {choice.alpha:g}: {because}")


def _gain_at(choice: Choice, task: str, alpha: float) -> float:
    return next(point.gains[task] for point in choice.points if point.alpha == alpha)


@report.command()
def differences(
    source: Annotated[Path, typer.Argument(help="Recipe of the table (JSON), or a folder of cells.")],
    out: Out,
    cells: CellsOfRecipe = None,
    against: Annotated[
        str, typer.Option(help="With a folder: FINETUNING/METHOD of the model that each encoder's other models are compared with.")
    ] = "none/pretrained",
    figures: Figures = None,
    style: Look = "screen",
) -> None:
    """Compare rows of a table, with the 95 % interval of each difference: NAME.csv, .md, .tex, .html, .png and .svg in the folder OUT.

    Example: `speechft report differences results/recipes/tables/hubert.json results/cells/hubert_mini/*/*/*.json --out differences`

    Example: `speechft report differences results/cells --against pr/stable_ft --out differences`
    """
    from speechft.tables.canvas import style_of
    from speechft.tables.differences import build_differences
    from speechft.tables.folder import folder_differences

    recipe, cells, name = _table_of(source, cells)
    if source.is_dir():
        recipe = folder_differences(cells, recipe.title, against)
    with style_of(style):
        build_differences(recipe, cells, out, figures or out, name)
    _show(out, name)


@report.command()
def figure(
    source: Annotated[Path, typer.Argument(help="Recipe of the table (JSON), or a folder of cells.")],
    out: Out,
    cells: CellsOfRecipe = None,
    style: Look = "screen",
) -> None:
    """Draw the rows of a table, one panel per metric: OUT (.png), with an .svg next to it.

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
        typer.Argument(help="Recipe of the curve (JSON), or folder of cells of models ENCODER/FINETUNING/NAME@ALPHA."),
    ],
    out: Out,
    cells: CellsOfRecipe = None,
    figures: Figures = None,
    style: Look = "screen",
) -> None:
    """Plot metrics against alpha: NAME.csv and .md in the folder OUT, NAME.png and .svg in the folder of figures.

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
    logs: Annotated[list[Path], typer.Argument(help="training.csv files of pre-training or fine-tuning runs.")],
    out: Out,
    title: Annotated[str, typer.Option(help="Title of the figure; default: the names of the trainings.")] = "",
    style: Look = "screen",
) -> None:
    """Plot losses, accuracies and learning rates of trainings: OUT (.png), with an .svg next to it.

    Example: `speechft report training results/models/hubert_base/asr/*/training.csv --out curves.png`
    """
    from speechft.tables.canvas import style_of
    from speechft.tables.training import draw_training_curves

    with style_of(style):
        draw_training_curves(logs, out, title)


@report.command()
def similarity(
    recipe: Annotated[Path, typer.Argument(help="Recipe of the table (JSON).")],
    results: Annotated[list[Path], typer.Argument(help="Outputs of `speechft analyse`; missing ones are shown as pending.")],
    out: Out,
    figures: Figures = None,
    style: Look = "screen",
) -> None:
    """Plot feature similarity against weight deviation: NAME.csv and .md in the folder OUT, NAME.png and .svg in the folder of figures.

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
    result: Annotated[Path, typer.Argument(help="Output of `speechft connect`; a missing one is shown as pending.")],
    out: Out,
    figures: Figures = None,
    style: Look = "screen",
) -> None:
    """Plot loss and error between two encoders: NAME.csv and .md in the folder OUT, NAME.png and .svg in the folder of figures.

    Example: `speechft report connection results/recipes/connections/line.json results/connections/line.json --out tables`
    """
    from speechft.analysis.connection_report import build_connection
    from speechft.tables.canvas import style_of

    with style_of(style):
        build_connection(load_recipe(ConnectionRecipe, recipe), result, out, figures or out, recipe.stem)
    _show(out, recipe.stem)


def _table_of(source: Path, cells: list[Path] | None) -> tuple[TableRecipe, list[Path], str]:
    """Return a table's recipe, cells and name, from a recipe file or a folder of cells."""
    if not source.is_dir():
        return load_recipe(TableRecipe, source), cells or [], source.stem
    from speechft.tables.folder import cell_files, folder_table

    _no_cells(cells)
    files = cell_files(source)
    return folder_table(files, f"Cells of {source}"), files, source.resolve().name


def _no_cells(cells: list[Path] | None) -> None:
    if cells:
        raise typer.BadParameter("give either a folder of cells or cell files, not both")


def _show(out: Path, name: str) -> None:
    say((out / f"{name}.md").read_text(encoding="utf-8"))


def _renamed(old: str, kind: Callable[..., None]) -> Callable[..., None]:
    @wraps(kind)
    def run(*args: Any, **options: Any) -> None:
        print(
            f"`speechft {old}` is now `speechft report {kind.__name__}`; the old name will be removed in the next release.", file=sys.stderr
        )
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
