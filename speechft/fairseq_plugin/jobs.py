"""A stage 1 job: its inputs, its work directory, and how a restart recognizes its own work."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechft.conventions import MANIFEST_SUFFIX
from speechft.errors import CorpusError, TrainingError, missing_file
from speechft.files.hashes import sha256_file, sha256_json
from speechft.files.outputs import Inputs, check_folder, check_work_folder, remove_made
from speechft.files.structured import read_json, read_json_mapping, write_json
from speechft.recipes.alphas import alpha_text
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.values import Strict, validate

LOGGER = logging.getLogger("speechft.finetune")
MARKER = "identity.json"
"""File in a work directory that identifies its job."""
_MADE = (
    *(MARKER, "job.json", "training.csv", "fairseq*.log", "best.safetensors", "early-*.safetensors", "start.safetensors"),
    *(f"checkpoints/{name}" for name in ("checkpoint*.pt", "crash.pt", "unvalidated.txt", "*.tmp")),
    *(f"data/{name}" for name in ("*.tsv", "*.km", "dict.km.txt", "labels.json", "centroids.npy", "*.parts/*")),
    *("data/train/*.flac", "data/valid/*.flac", "features/*.f32", "**/.*.tmp"),
)
"""Files that trainings write into a work directory."""


class FinetuneJob(Strict):
    """Inputs of a fine-tuning and the files of its work directory. `manifests`: task name -> split -> file.

    `cache_gb` limits the files in `features`; it does not affect results and is not part of the job's identity.
    """

    encoder: Path
    manifests: dict[str, dict[str, Path]]
    recipe: FinetuneRecipe
    work_dir: Path
    cache_gb: float

    @property
    def file(self) -> Path:
        """Description of the job, from which fairseq's processes find everything else."""
        return self.work_dir / "job.json"

    @property
    def best_path(self) -> Path:
        """Best encoder so far."""
        return self.work_dir / "best.safetensors"

    @property
    def log_path(self) -> Path:
        """Training log, one row per update."""
        return self.work_dir / "training.csv"

    @property
    def features(self) -> Path:
        """Folder of cached extractor outputs."""
        return self.work_dir / "features"

    def early_path(self, share: float) -> Path:
        """File of the encoder after this share of the updates."""
        return self.work_dir / f"early-{alpha_text(share)}.safetensors"

    @property
    def kept(self) -> tuple[Path, ...]:
        """All encoder files of the job."""
        return (self.best_path, *map(self.early_path, self.recipe.early))

    @classmethod
    def load(cls, path: Path) -> FinetuneJob:
        """Read a job description."""
        return validate(cls, {**read_json_mapping(path), "work_dir": path.parent}, str(path))

    def save(self, identity: str) -> None:
        """Write the description, unless the work directory belongs to another job.

        Raises:
            TrainingError: the directory belongs to a job with other inputs or another recipe.
        """
        claim_work_directory(self.work_dir, identity)
        write_json(self.file, self.model_dump(mode="json", exclude={"work_dir"}))


def claim_work_directory(work_dir: Path, identity: str) -> None:
    """Mark `work_dir` as belonging to the job `identity` (a hash), or check the existing mark.

    Raises:
        TrainingError: it belongs to another job.
    """
    marker = work_dir / MARKER
    if marker.is_file() and read_json(marker) != {"job": identity}:
        raise TrainingError(
            f"{work_dir}: belongs to a job with another recipe or other inputs. Name another work directory, or remove this one."
        )
    write_json(marker, {"job": identity})


def choose_work_directory(work_dir: str | Path | None, out_dir: Path, identity: str, made_by: str, inputs: Inputs) -> Path:
    """Return the given work directory, or a hidden one next to the output, after checking that both may be written.

    Raises:
        OutputError: one of them contains something else.
    """
    inputs = list(inputs)
    check_folder(out_dir, made_by, inputs)
    if work_dir is None:
        # One per job, so that a changed recipe never reads old checkpoints.
        return out_dir.parent / ".work" / f"{out_dir.name}-{identity[:16]}"
    check_work_folder(work_dir, MARKER, inputs, out_dir)
    return Path(work_dir).absolute()


def remove_work(work_dir: Path) -> None:
    """Remove a training's files from its work directory, and the directory if it is then empty."""
    if kept := remove_made(work_dir, _MADE):
        LOGGER.info("%s: not removed, since it contains %s, which the training did not make", work_dir, ", ".join(kept[:3]))


def resolve_manifests(manifests: str | Path | Mapping[str, str | Path], splits: tuple[str, ...]) -> dict[str, Path]:
    """Return the manifest file of every split in `splits`.

    Raises:
        CorpusError: a manifest is missing.
    """
    if isinstance(manifests, Mapping):
        paths = {split: Path(path) for split, path in manifests.items()}
    else:
        paths = {split: Path(manifests) / f"{split}{MANIFEST_SUFFIX}" for split in splits}
    for split in splits:
        if split not in paths:
            raise CorpusError(f"The given manifests have no split {split!r}. Given splits: {', '.join(paths) or 'none'}.")
        if not paths[split].is_file():
            raise CorpusError(missing_file(paths[split], f"as the manifest of split {split!r}", "Create it with `speechft prepare`."))
    return {split: paths[split].absolute() for split in splits}


def job_identity(inputs: Mapping[str, Path], recipe: Mapping[str, Any]) -> str:
    """Hash everything that determines the result of a job."""
    return sha256_json({"inputs": {role: sha256_file(path) for role, path in inputs.items()}, "recipe": dict(recipe)})


def is_main_process() -> bool:
    """Whether this process writes files (RANK, set by torchrun, is 0 or unset)."""
    return int(os.environ.get("RANK", "0")) == 0
