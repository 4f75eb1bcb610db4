"""Weight files in transformers and peft directories: single or sharded, safetensors or pickles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from speechft.encoders.checkpoints.unpickling import is_state_dict, load_pickle
from speechft.encoders.directory.layout import CONFIG, WEIGHTS, read_tensors
from speechft.errors import CheckpointError, SpeechFTError, missing_file
from speechft.files.structured import read_json

_PICKLE = "pytorch_model.bin"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_ADAPTER_FILES = (ADAPTER_WEIGHTS, "adapter_model.bin")
# In the order in which transformers looks for them.
_MODEL_FILES = (WEIGHTS, f"{WEIGHTS}.index.json", _PICKLE, f"{_PICKLE}.index.json")


def described_directory(path: Path) -> Path:
    """Replace a weight file that has its configuration in the same directory by that directory; return other paths unchanged."""
    for names, config in ((_MODEL_FILES, CONFIG), (_ADAPTER_FILES, ADAPTER_CONFIG)):
        if path.name in names and (path.parent / config).is_file():
            return path.parent
    return path


def is_adapter(path: Path) -> bool:
    """Whether a directory is a peft adapter without a model of its own."""
    return (path / ADAPTER_CONFIG).is_file() and not has_weights(path)


def has_weights(path: Path) -> bool:
    """Whether a directory contains the weights of a model."""
    return any((path / name).is_file() for name in _MODEL_FILES)


def read_model_weights(path: Path) -> tuple[list[Path], dict[str, Tensor]]:
    """Read the weight files and tensors of a transformers directory; raise CheckpointError if a file is missing, damaged or unsafe."""
    return _read_first(path, _MODEL_FILES, missing_file(path / WEIGHTS, f"beside {CONFIG}", "Name a complete transformers directory."))


def read_adapter_weights(path: Path) -> tuple[list[Path], dict[str, Tensor]]:
    """Read the weight files and tensors of a peft adapter; raise CheckpointError if a file is missing, damaged or unsafe."""
    return _read_first(path, _ADAPTER_FILES, missing_file(path / _ADAPTER_FILES[0], f"beside {ADAPTER_CONFIG}", "Name a complete adapter."))


def _read_first(path: Path, names: tuple[str, ...], missing: str) -> tuple[list[Path], dict[str, Tensor]]:
    name = next((name for name in names if (path / name).is_file()), None)
    if name is None:
        raise CheckpointError(missing)
    read: Callable[[Path], dict[str, Tensor]] = _read_pickle if ".bin" in name else read_tensors
    files = _shards(path / name) if name.endswith(".json") else [path / name]
    return files, {name: tensor for file in files for name, tensor in read(file).items()}


def _shards(index: Path) -> list[Path]:
    try:
        places: Mapping[str, Any] = read_json(index)["weight_map"]
        # Only the file name counts: shards are in the directory of their index.
        files = [index.parent / Path(name).name for name in sorted(set(places.values()))]
    except (SpeechFTError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: not an index of weight files ({error}). Download it again.") from None
    if not files:
        raise CheckpointError(f"{index}: names no weight files. Download it again.")
    for file in files:
        if not file.is_file():
            raise CheckpointError(missing_file(file, f"as a shard in {index.name}", "Download the whole directory."))
    return files


def _read_pickle(path: Path) -> dict[str, Tensor]:
    content = load_pickle(path)
    if not is_state_dict(content):
        raise CheckpointError(f"{path}: not a state dict. Download it again.")
    return dict(content)
