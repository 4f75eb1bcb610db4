"""Command of stage 2: merge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from speechft.cli.options import TRAINING, Out, Recipe, app, with_plugins
from speechft.cli.terminal import say
from speechft.errors import MergeError
from speechft.recipes.alphas import alphas_of
from speechft.recipes.choice import Choice
from speechft.recipes.merging import MergeRecipe
from speechft.recipes.values import load_recipe

_ALPHA = "Weight of the fine-tuned side, or several: 0:1:0.1 or 0,0.25,1. Default: 0.25, or the recipe's."


@app.command(rich_help_panel=TRAINING)
@with_plugins
def merge(
    base: Annotated[Path, typer.Argument(help="Pre-trained encoder: encoder directory, checkpoint, or org/name on the Hub.")],
    finetuned: Annotated[
        list[Path], typer.Argument(help="One or more encoders fine-tuned from it, in any of these forms, or LoRA adapters.")
    ],
    out: Out,
    alpha: Annotated[str | None, typer.Option(help=_ALPHA)] = None,
    method: Annotated[str | None, typer.Option(help="Merge method (docs/merge.md); default: linear, or the recipe's.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Parameter of the method, such as density=0.2; repeatable.")
    ] = None,
    scale: Annotated[
        list[str] | None,
        typer.Option(metavar="PART=FACTOR", help="Factor of alpha for a part, such as attention=1; repeatable, the first match applies."),
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="Dtype of the result: fp32, fp16 or bf16; default: that of BASE.")] = None,
    recipe: Recipe = None,
    extrapolate: Annotated[bool, typer.Option(help="Allow alpha outside [0, 1].")] = False,
    choice: Annotated[
        Path | None, typer.Option(help="Use the alpha in this output of `speechft choose`, as for a recipe with alpha: dev.")
    ] = None,
) -> None:
    """Stage 2: merge a pre-trained encoder with one or more fine-tuned ones in weight space.

    Example: `speechft merge hubert_base_ls960.pt my_finetuned.pt --alpha 0.25 --out merged`

    Example: `speechft merge models/base models/finetuned --plugin farther.py --method farther --out merged`
    """
    from speechft.merge import merge as run
    from speechft.merge import merge_family

    chosen = load_recipe(MergeRecipe, recipe) if recipe else MergeRecipe()
    options: dict[str, Any] = {
        "method": method or chosen.method,
        "extrapolate": extrapolate or chosen.extrapolate,
        "scale": _pairs("--scale", scale) or chosen.scale,
        "dtype": dtype or chosen.dtype,
        **chosen.parameters,
        **_pairs("--set", set_),
    }
    if (alpha is not None) + (choice is not None) > 1:
        raise typer.BadParameter("give either --alpha or --choice")
    if choice is not None:
        alphas: float | tuple[float, ...] = load_recipe(Choice, choice).alpha
    elif alpha is not None:
        alphas = _alphas(alpha)
    elif chosen.alpha == "dev":
        raise MergeError(f"{recipe}: alpha is chosen on dev. Give the output of `speechft choose` as --choice, or give --alpha.")
    else:
        alphas = chosen.alpha
    if isinstance(alphas, float):
        run(base, finetuned, out, alpha=alphas, **options)
        return
    for member in merge_family(base, finetuned, out, alphas, **options).values():
        say(member)


def _alphas(text: str) -> float | tuple[float, ...]:
    """Parse one alpha, a range or a list."""
    try:
        values = alphas_of(text)
    except ValueError:
        raise MergeError(
            f"--alpha {text}: is not a number, a range such as 0:1:0.1 (start:stop:step) or a list such as 0,0.25,1."
        ) from None
    return values if len(values) > 1 or ":" in text else values[0]


def _pairs(option: str, texts: list[str] | None) -> dict[str, Any]:
    """Parse KEY=VALUE options in the order given; values are YAML: 0.2, true, [1, -1]."""
    import yaml

    pairs = {}
    for text in texts or []:
        key, separator, value = text.partition("=")
        try:
            # YAML 1.1 reads 0:1 as a base-60 number.
            pairs[key] = value if ":" in value else yaml.safe_load(value)
        except yaml.YAMLError:
            separator = ""
        if not separator or not key:
            raise typer.BadParameter(f"{option} {text}: write KEY=VALUE")
    return pairs
