"""Early checkpoints: the encoder after a share of the updates of a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from speechft.encoders.directory.provenance import PROVENANCE, read_provenance
from speechft.errors import CheckpointError
from speechft.files.atomic import atomic_directory
from speechft.files.outputs import check_folder
from speechft.recipes.alphas import alpha_text

FOLDER = "early"
"""Inside the encoder directory of a fine-tuning; holds an encoder directory for each share, e.g. `early/0.20`."""

_OF_THE_SELECTION = ("early", "stopped_after_updates", "best_update", "selected_by", "dev_score", "training_log")
"""Keys of a recipe in a provenance by which the encoders of one run differ."""


def take_early(model_dir: str | Path, share: float, out_dir: str | Path) -> None:
    """Copy an early checkpoint out of `model_dir` as an encoder directory.

    Raises:
        CheckpointError: the run that made `model_dir` kept no such checkpoint, or what is there is damaged or of another run.
    """
    check_folder(out_dir, "early", [model_dir])
    source = Path(model_dir) / FOLDER / alpha_text(share)
    if not source.is_dir():
        kept = ", ".join(sorted(path.name for path in source.parent.glob("*") if path.is_dir())) or "none"
        raise CheckpointError(
            f"{source}: no such folder; kept there: {kept}. Fine-tune with `early: [{share:g}]` in the recipe to get this checkpoint."
        )
    _check_origin(Path(model_dir), source, share)
    with atomic_directory(out_dir, "early") as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)


def _check_origin(model_dir: Path, source: Path, share: float) -> None:
    """Refuse an early checkpoint whose weights are not as recorded, or whose provenance is not that of the run of `model_dir`."""
    from speechft.encoders.directory.layout import load_backbone

    load_backbone(source)
    run, kept = (_origin(folder) for folder in (model_dir, source))
    differing = [key for key in run.keys() | kept.keys() if run.get(key) != kept.get(key)]
    shares = [_provenance(folder)["recipe"].get("early") for folder in (model_dir, source)]
    if differing or shares[1] != share or not isinstance(shares[0], list) or share not in shares[0]:
        named = ", ".join(sorted(differing)) or "the share"
        raise CheckpointError(f"{source}: is not of the run that made {model_dir} ({PROVENANCE} differs in {named}). Fine-tune again.")


def _origin(folder: Path) -> dict[str, object]:
    """What the encoders of one run have in common."""
    provenance = _provenance(folder)
    common = {key: provenance.get(key) for key in ("kind", "inputs", "versions")}
    return common | {f"recipe.{key}": value for key, value in provenance["recipe"].items() if key not in _OF_THE_SELECTION}


def _provenance(folder: Path) -> dict[str, Any]:
    provenance = read_provenance(folder)
    if provenance is None or "recipe" not in provenance:
        raise CheckpointError(f"{folder / PROVENANCE}: is not there, or records no recipe. Fine-tune again.")
    return provenance
