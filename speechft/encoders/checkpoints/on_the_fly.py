"""Temporary import of models that are not encoder directories."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from speechft.downloads.hub import local_path, repository_of
from speechft.encoders.checkpoints.transformers_directory import OLD_NAMES
from speechft.encoders.checkpoints.weight_files import has_weights, is_adapter
from speechft.encoders.directory.layout import CONFIG, WEIGHTS
from speechft.encoders.directory.provenance import PROVENANCE
from speechft.encoders.families import FAMILIES, get_family
from speechft.errors import SpeechFTError
from speechft.files.structured import read_json


def needs_import(path: Path) -> bool:
    """Whether `path` is a transformers or peft directory, which must be imported before use.

    False for encoder directories, and for directories without a model, which whatever reads them reports.
    """
    if is_adapter(path):
        return True
    if not (path / CONFIG).is_file() or (path / PROVENANCE).exists() or not has_weights(path):
        return False
    try:
        config = read_json(path / CONFIG)
    except (SpeechFTError, RecursionError):
        return False
    family = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(family, str) or (family in FAMILIES and not FAMILIES[family].learned):
        return False
    if family not in FAMILIES or "speechft_normalize" not in config or not (path / WEIGHTS).is_file():
        return True
    try:
        with safe_open(path / WEIGHTS, framework="pt") as file:
            return any(name.startswith(get_family(family).prefix) or name.endswith(tuple(OLD_NAMES)) for name in file.keys())  # noqa: SIM118
    except (SafetensorError, OSError):
        return False


@contextmanager
def encoder_directory(path: str | Path) -> Iterator[Path]:
    """Provide a model as an encoder directory for the duration of the block: `path` itself, or a temporary import.

    Transformers and peft directories and Hugging Face Hub repositories are imported into the folder for temporary files.

    Raises:
        CheckpointError: the model cannot be imported.
        DownloadError: a Hub repository cannot be fetched.
    """
    path = local_path(path)
    if not needs_import(path):
        yield path
        return
    from speechft.encoders.checkpoints.importing import import_checkpoint

    with tempfile.TemporaryDirectory(prefix="speechft-") as scratch:
        name = repository_of(path)
        imported = Path(scratch) / (Path(name.partition("@")[0]) if name else path.resolve()).name
        import_checkpoint(path, imported)
        yield imported
