"""Verbs that show results: tables, figures and curves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechft.cli.options import Out, app


@app.command()
def tables(
    recipe: Annotated[Path, typer.Argument(help="Recipe of the table (JSON).")],
    cells: Annotated[list[Path], typer.Argument(help="Cell files; those that are missing show as pending.")],
    out: Out,
    published: Annotated[Path, typer.Option(help="Published numbers.")] = Path("config/published.csv"),
) -> None:
    """Arrange cells beside the published numbers: NAME.csv, .md, .tex and .html in the folder OUT.

    Example: `speechft tables results/recipes/tables/supervised.json results/cells/hubert_base/*/*/*.json --out results/tables`
    """
    from speechft.recipes import TableRecipe, load_recipe
    from speechft.tables import build_table

    build_table(load_recipe(TableRecipe, recipe), cells, published, out, recipe.stem)
    print((out / f"{recipe.stem}.md").read_text(encoding="utf-8"))


@app.command()
def figure(
    recipe: Annotated[Path, typer.Argument(help="Recipe of the table (JSON).")],
    cells: Annotated[list[Path], typer.Argument(help="Cell files.")],
    out: Out,
) -> None:
    """Draw the rows of a table, one panel a metric: OUT (.png) and the same as .svg.

    Example: `speechft figure results/recipes/tables/supervised.json results/cells/hubert_base/*/*/*.json --out supervised.png`
    """
    from speechft.recipes import TableRecipe, load_recipe
    from speechft.tables import build_figure

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
    from speechft.recipes import CurveRecipe, load_recipe
    from speechft.tables import build_curve

    build_curve(load_recipe(CurveRecipe, recipe), cells, out, figures or out, recipe.stem)
    print((out / f"{recipe.stem}.md").read_text(encoding="utf-8"))


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
