"""Early checkpoints: encoders saved after a share of the updates of a run."""

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
"""Folder in the encoder directory of a fine-tuning with one encoder directory per share, such as `early/0.20`."""

_OF_THE_SELECTION = ("early", "stopped_after_updates", "best_update", "selected_by", "dev_score", "training_log")
"""Recipe keys in the provenance that differ between the encoders of a run."""


def take_early(model_dir: str | Path, share: float, out_dir: str | Path) -> None:
    """Copy an early checkpoint from `model_dir` to its own encoder directory.

    Raises:
        CheckpointError: the run of `model_dir` kept no such checkpoint, or the checkpoint is damaged or from another run.
    """
    check_folder(out_dir, "early", [model_dir])
    source = Path(model_dir) / FOLDER / alpha_text(share)
    if not source.is_dir():
        kept = ", ".join(sorted(path.name for path in source.parent.glob("*") if path.is_dir())) or "none"
        raise CheckpointError(
            f"{source}: no such folder; existing early checkpoints: {kept}. Fine-tune with `early: [{share:g}]` in the recipe."
        )
    _check_origin(Path(model_dir), source, share)
    with atomic_directory(out_dir, "early") as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)


def _check_origin(model_dir: Path, source: Path, share: float) -> None:
    """Refuse an early checkpoint whose weights differ from the record, or which is not from the run of `model_dir`."""
    from speechft.encoders.directory.layout import load_backbone

    load_backbone(source)
    run, kept = (_origin(folder) for folder in (model_dir, source))
    differing = [key for key in run.keys() | kept.keys() if run.get(key) != kept.get(key)]
    shares = [_provenance(folder)["recipe"].get("early") for folder in (model_dir, source)]
    if differing or shares[1] != share or not isinstance(shares[0], list) or share not in shares[0]:
        named = ", ".join(sorted(differing)) or "the share"
        raise CheckpointError(f"{source}: not from the run of {model_dir} ({PROVENANCE} differs in {named}). Fine-tune again.")


def _origin(folder: Path) -> dict[str, object]:
    """Return the provenance common to all encoders of a run."""
    provenance = _provenance(folder)
    common = {key: provenance.get(key) for key in ("kind", "inputs", "versions")}
    return common | {f"recipe.{key}": value for key, value in provenance["recipe"].items() if key not in _OF_THE_SELECTION}


def _provenance(folder: Path) -> dict[str, Any]:
    provenance = read_provenance(folder)
    if provenance is None or "recipe" not in provenance:
        raise CheckpointError(f"{folder / PROVENANCE}: missing or without a recipe. Fine-tune again.")
    return provenance
