"""What a merge is given: encoder directories as they are, checkpoints imported on the fly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechft.encoders.directory.limits import check_supported
from speechft.encoders.families import nothing_learnt
from speechft.errors import CheckpointError, MergeError, SpeechFTError, missing_file
from speechft.files.atomic import scratch_directory
from speechft.files.hashes import sha256_file
from speechft.files.structured import read_json
from speechft.merge.engine import Dtype
from speechft.merge.models import ModelFile


@dataclass(frozen=True)
class Model:
    """A model to be merged: what the user named, and the encoder directory that holds it."""

    given: Path
    directory: Path

    @property
    def imported(self) -> bool:
        """Whether the directory was made on the fly."""
        return self.given != self.directory

    @property
    def file(self) -> ModelFile:
        """The weights; messages name the checkpoint where there is one."""
        from speechft.encoders.directory.layout import WEIGHTS

        return ModelFile(self.directory / WEIGHTS, str(self.given) if self.imported else "")

    def config(self) -> dict[str, Any]:
        """The configuration.

        Raises:
            MergeError: it is missing or damaged, or that of an encoder without weights.
        """
        from speechft.encoders.directory.layout import CONFIG

        path = self.directory / CONFIG
        if not path.parent.is_dir():
            raise MergeError(f"{path.parent}: no such directory or file. Give an encoder directory or a checkpoint.")
        if not path.is_file():
            raise MergeError(missing_file(path, "as the model's configuration", "Give an encoder directory; `speechft import` makes one."))
        config = _read_json(path)
        if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
            raise MergeError(f"{path}: names no model_type, so the family of the model is unknown. Import the checkpoint again.")
        if (refusal := nothing_learnt(config["model_type"], path.parent, "merge")) is not None:
            raise MergeError(refusal)
        try:
            check_supported(config, self.given)
        except CheckpointError as error:
            raise MergeError(str(error)) from None
        return config

    def stored_in_half(self) -> Dtype | None:
        """The half precision of what was given, where importing it has widened it."""
        from speechft.encoders.directory.layout import PROVENANCE

        if not self.imported:
            return None
        found: Dtype | None = read_json(self.directory / PROVENANCE)["recipe"].get("dtype")
        return found

    def check_recorded_hash(self, digest: str) -> None:
        """Refuse weights that are not the ones that `provenance.json` was written for; directories from elsewhere have none.

        Raises:
            MergeError: see above.
        """
        from speechft.encoders.directory.layout import PROVENANCE, WEIGHTS

        path = self.directory / PROVENANCE
        if not path.exists():
            return
        try:
            recorded = read_json(path)["outputs"][WEIGHTS]
        except (SpeechFTError, KeyError, TypeError) as error:
            raise MergeError(f"{path}: records no hash of the weights ({error}). Make the model again.") from None
        if recorded != digest:
            raise MergeError(
                f"{self.directory / WEIGHTS}: is not the file that {PROVENANCE} describes: damaged or replaced. Make the model again."
            )

    def provenance(self, digest: str) -> dict[str, str]:
        """Name and hash for the provenance: of the checkpoint where there is one, and of the weights that were merged."""
        if self.imported and self.given.is_file():
            return {"name": self.given.resolve().name, "sha256": sha256_file(self.given), "weights_sha256": digest}
        return {"name": self.given.resolve().name, "sha256": digest}


@contextmanager
def opened(base: Path, finetuned: Sequence[Path], out: Path) -> Iterator[tuple[Model, list[Model]]]:
    """The models as encoder directories. Checkpoints are imported beside `out`, which costs disk for as long as the block runs.

    A fine-tuned checkpoint is read as a model of the base's family; what its layout does not say, such as the number of attention heads
    in an s3prl run, is taken from the base.

    Raises:
        CheckpointError: a checkpoint cannot be imported.
    """
    given = [base, *finetuned]
    if not any(_needs_import(path) for path in given):
        yield Model(base, base), [Model(path, path) for path in finetuned]
        return
    with scratch_directory(out) as scratch:
        start, *models = [
            Model(path, scratch / f"{index}_{path.name}" if _needs_import(path) else path) for index, path in enumerate(given)
        ]
        if start.imported:
            _import(start, None)
        for model in models:
            if model.imported:
                _import(model, start)
        yield start, models


def _import(model: Model, base: Model | None) -> None:
    from speechft.encoders.checkpoints.importing import import_checkpoint

    family = str(base.config()["model_type"]) if base else None
    import_checkpoint(model.given, model.directory, family=family, like=base.directory if base else None)


def _needs_import(path: Path) -> bool:
    """Whether this is a checkpoint file, or a directory that transformers or peft wrote."""
    from speechft.encoders.checkpoints.on_the_fly import needs_import

    return path.is_file() or needs_import(path)


def _read_json(path: Path) -> Any:
    try:
        return read_json(path)
    except SpeechFTError as error:
        raise MergeError(str(error)) from None
