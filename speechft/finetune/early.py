"""Early checkpoints: the encoder as it was after a share of the updates of a run that went on."""

from __future__ import annotations

import shutil
from pathlib import Path

from speechft.alphas import alpha_text
from speechft.errors import CheckpointError
from speechft.files import atomic_directory
from speechft.outputs import check_folder
from speechft.recipes import FinetuneRecipe

FOLDER = "early"
"""Inside the encoder directory of a fine-tuning; holds an encoder directory for each share, e.g. `early/0.20`."""


def early_updates(recipe: FinetuneRecipe) -> dict[float, int]:
    """Share -> number of updates after which the encoder is kept: the share of all, rounded down, but one at least.

    The last update is none of them, so that a run of one update keeps nothing.
    """
    updates = {share: max(1, int(share * recipe.updates)) for share in recipe.early}
    return {share: update for share, update in updates.items() if update < recipe.updates}


def take_early(model_dir: str | Path, share: float, out_dir: str | Path) -> None:
    """Make the early checkpoint that lies in `model_dir` an encoder directory of its own.

    Raises:
        CheckpointError: the run that made `model_dir` kept no such checkpoint.
    """
    check_folder(out_dir, "early", [model_dir])
    source = Path(model_dir) / FOLDER / alpha_text(share)
    if not source.is_dir():
        kept = ", ".join(sorted(path.name for path in source.parent.glob("*") if path.is_dir())) or "none"
        raise CheckpointError(
            f"{source}: no such folder; kept there: {kept}. Fine-tune with `early: [{share:g}]` in the recipe to get this checkpoint."
        )
    with atomic_directory(out_dir, "early") as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)
