"""Verbs that show results: tables, figures and curves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechft.cli.options import Out, app
from speechft.cli.terminal import say


@app.command()
def tables(
    source: Annotated[
        Path, typer.Argument(help="Experiment (YAML), of which all tables, curves and analyses are shown; or recipe of one table (JSON).")
    ],
    cells: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Of an experiment: the folder of cells, default results/cells. Of a recipe: cell files. Missing ones are pending."
        ),
    ] = None,
    out: Out = Path("tables"),
    published: Annotated[Path, typer.Option(help="Published numbers.")] = Path("config/published.csv"),
    figures: Annotated[Path | None, typer.Option(help="Of an experiment: folder of figures; default: none are drawn.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Of an experiment: a table, curve or analysis; can be repeated.")] = None,
) -> None:
    """Arrange the cells that are there beside the published numbers: NAME.csv, .md, .tex and .html in the folder OUT. Runs no jobs.

    Example: `speechft tables config/paper.yaml results/cells --out tables`
    """
    from speechft.recipes.tables import TableRecipe
    from speechft.recipes.values import load_recipe
    from speechft.tables.build import build_table
    from speechft.tables.experiment import build_experiment

    if source.suffix in (".yaml", ".yml"):
        if cells and len(cells) > 1:
            raise typer.BadParameter("an experiment takes one folder of cells; cell files go with the recipe of a table")
        for name in build_experiment(source, cells[0] if cells else None, published, out, figures, only or ()):
            say(out / f"{name}.md")
        return
    if figures or only:
        raise typer.BadParameter("--figures and --only go with an experiment; `speechft figure` draws one table")
    build_table(load_recipe(TableRecipe, source), cells or [], published, out, source.stem)
    say((out / f"{source.stem}.md").read_text(encoding="utf-8"))


@app.command()
def differences(
    recipe: Annotated[Path, typer.Argument(help="Recipe of the table (JSON).")],
    cells: Annotated[list[Path], typer.Argument(help="Cell files; those that are missing show as pending.")],
    out: Out,
    figures: Annotated[Path | None, typer.Option(help="Folder of the figure; default: OUT.")] = None,
) -> None:
    """Compare rows of a table, with the 95 % interval of each difference: NAME.csv, .md, .tex, .html, .png and .svg in the folder OUT.

    Example: `speechft differences results/recipes/tables/hubert.json results/cells/hubert_mini/*/*/*.json --out results/tables/differences`
    """
    from speechft.recipes.tables import TableRecipe
    from speechft.recipes.values import load_recipe
    from speechft.tables.differences import build_differences

    build_differences(load_recipe(TableRecipe, recipe), cells, out, figures or out, recipe.stem)
    say((out / f"{recipe.stem}.md").read_text(encoding="utf-8"))


@app.command()
def figure(
    recipe: Annotated[Path, typer.Argument(help="Recipe of the table (JSON).")],
    cells: Annotated[list[Path], typer.Argument(help="Cell files.")],
    out: Out,
) -> None:
    """Draw the rows of a table, one panel a metric: OUT (.png) and the same as .svg.

    Example: `speechft figure results/recipes/tables/supervised.json results/cells/hubert_base/*/*/*.json --out supervised.png`
    """
    from speechft.recipes.tables import TableRecipe
    from speechft.recipes.values import load_recipe
    from speechft.tables.figure import build_figure

    build_figure(load_recipe(TableRecipe, recipe), cells, out)


@app.command()
def curve(
    recipe: Annotated[Path, typer.Argument(help="Recipe of the curve (JSON).")],
    cells: Annotated[list[Path], typer.Argument(help="Cell files; those that are missing show as pending.")],
    out: Out,
    figures: Annotated[Path | None, typer.Option(help="Folder of the figure; default: OUT.")] = None,
) -> None:
    """Show metrics against alpha: NAME.csv and .md in the folder OUT, NAME.png and .svg in the folder of figures.

    Example: `speechft curve results/recipes/curves/alpha.json results/cells/hubert_base/*/*/*.json --out results/tables`
    """
    from speechft.recipes.tables import CurveRecipe
    from speechft.recipes.values import load_recipe
    from speechft.tables.curve import build_curve

    build_curve(load_recipe(CurveRecipe, recipe), cells, out, figures or out, recipe.stem)
    say((out / f"{recipe.stem}.md").read_text(encoding="utf-8"))


@app.command()
def curves(
    logs: Annotated[list[Path], typer.Argument(help="training.csv files of pre-trainings or fine-tunings.")],
    out: Out,
    title: Annotated[str, typer.Option(help="Above the panels; default: the names of the trainings.")] = "",
) -> None:
    """Draw training curves (losses, accuracies, learning rate): OUT (.png) and the same as .svg.

    Example: `speechft curves results/models/hubert_base/asr/*/training.csv --out curves.png`
    """
    from speechft.finetune.curves import draw_training_curves

    draw_training_curves(logs, out, title)
