"""A stage-1 job: what it is made of, where it works, and how a restart recognizes its own work."""

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
"""In a work directory: whose it is."""
_MADE = (
    *(MARKER, "job.json", "training.csv", "fairseq*.log", "best.safetensors", "early-*.safetensors", "start.safetensors"),
    *(f"checkpoints/{name}" for name in ("checkpoint*.pt", "crash.pt", "unvalidated.txt", "*.tmp")),
    *(f"data/{name}" for name in ("*.tsv", "*.km", "dict.km.txt", "labels.json", "centroids.npy", "*.parts/*")),
    *("data/train/*.flac", "data/valid/*.flac", "features/*.f32", "**/.*.tmp"),
)
"""What trainings write into a work directory."""


class FinetuneJob(Strict):
    """Inputs of a fine-tuning and the files of its work directory. `manifests`: name of a task -> split -> file.

    `cache_gb` limits the files in `features`; no result depends on it, so it is no part of the job's identity.
    """

    encoder: Path
    manifests: dict[str, dict[str, Path]]
    recipe: FinetuneRecipe
    work_dir: Path
    cache_gb: float

    @property
    def file(self) -> Path:
        """Description of the job, by which fairseq's processes find everything else."""
        return self.work_dir / "job.json"

    @property
    def best_path(self) -> Path:
        """Best encoder so far."""
        return self.work_dir / "best.safetensors"

    @property
    def log_path(self) -> Path:
        """One row an update."""
        return self.work_dir / "training.csv"

    @property
    def features(self) -> Path:
        """Folder of what the frozen extractor makes of the utterances."""
        return self.work_dir / "features"

    def early_path(self, share: float) -> Path:
        """The encoder after this share of the updates."""
        return self.work_dir / f"early-{alpha_text(share)}.safetensors"

    @property
    def kept(self) -> tuple[Path, ...]:
        """All files of encoders."""
        return (self.best_path, *map(self.early_path, self.recipe.early))

    @classmethod
    def load(cls, path: Path) -> FinetuneJob:
        """Read the description that `save` wrote."""
        return validate(cls, {**read_json_mapping(path), "work_dir": path.parent}, str(path))

    def save(self, identity: str) -> None:
        """Write the description; a work directory that belongs to another job is refused.

        Raises:
            TrainingError: the directory holds the work of a job with other inputs or another recipe.
        """
        claim_work_directory(self.work_dir, identity)
        write_json(self.file, self.model_dump(mode="json", exclude={"work_dir"}))


def claim_work_directory(work_dir: Path, identity: str) -> None:
    """Mark `work_dir` as that of the job `identity` (a hash), or see that it is.

    Raises:
        TrainingError: it belongs to another job.
    """
    marker = work_dir / MARKER
    if marker.is_file() and read_json(marker) != {"job": identity}:
        raise TrainingError(
            f"{work_dir}: holds the work of a job with another recipe or other inputs. Name another work directory or remove this one."
        )
    write_json(marker, {"job": identity})


def choose_work_directory(work_dir: str | Path | None, out_dir: Path, identity: str, made_by: str, inputs: Inputs) -> Path:
    """Return the given work directory, or a hidden one next to the output, after checking that both may be written.

    Raises:
        OutputError: something else is there.
    """
    inputs = list(inputs)
    check_folder(out_dir, made_by, inputs)
    if work_dir is None:
        # One for each job, so that a changed recipe never reads checkpoints of the old one.
        return out_dir.parent / ".work" / f"{out_dir.name}-{identity[:16]}"
    check_work_folder(work_dir, MARKER, inputs, out_dir)
    return Path(work_dir).absolute()


def remove_work(work_dir: Path) -> None:
    """Remove what a training wrote into its work directory, and the directory if nothing else is in it."""
    if kept := remove_made(work_dir, _MADE):
        LOGGER.info("%s: stays, for it holds %s, which the training did not make", work_dir, ", ".join(kept[:3]))


def resolve_manifests(manifests: str | Path | Mapping[str, str | Path], splits: tuple[str, ...]) -> dict[str, Path]:
    """Manifest file of every split in `splits`.

    Raises:
        CorpusError: one is missing.
    """
    if isinstance(manifests, Mapping):
        paths = {split: Path(path) for split, path in manifests.items()}
    else:
        paths = {split: Path(manifests) / f"{split}{MANIFEST_SUFFIX}" for split in splits}
    for split in splits:
        if split not in paths:
            raise CorpusError(f"The given manifests have no split {split!r}; there are: {', '.join(paths) or 'none'}.")
        if not paths[split].is_file():
            raise CorpusError(missing_file(paths[split], f"as the manifest of split {split!r}", "Make it with `speechft prepare`."))
    return {split: paths[split].absolute() for split in splits}


def job_identity(inputs: Mapping[str, Path], recipe: Mapping[str, Any]) -> str:
    """Hash of all that decides the result of a job."""
    return sha256_json({"inputs": {role: sha256_file(path) for role, path in inputs.items()}, "recipe": dict(recipe)})


def is_main_process() -> bool:
    """True in the process that writes files; torchrun sets RANK."""
    return int(os.environ.get("RANK", "0")) == 0
