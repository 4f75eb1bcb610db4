"""Verbs that show results: tables and figures."""

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
