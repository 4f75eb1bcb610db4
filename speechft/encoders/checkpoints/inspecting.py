"""Describe a checkpoint or encoder directory without running code from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from speechft.downloads.hub import local_path
from speechft.encoders.checkpoints.sources import detect_family, detect_format, encoder_inside
from speechft.encoders.checkpoints.unpickling import attributes, is_state_dict, load_pickle
from speechft.encoders.checkpoints.weight_files import is_adapter, read_adapter_weights, read_model_weights
from speechft.encoders.directory.layout import PRETRAINING_ONLY, read_config, read_tensors
from speechft.encoders.directory.provenance import PROVENANCE
from speechft.errors import CheckpointError, missing_file
from speechft.files.hashes import sha256_file
from speechft.files.structured import read_json


def inspect_checkpoint(path: str | Path) -> dict[str, Any]:
    """Describe a checkpoint file, a safetensors file, an encoder directory, or a transformers or peft directory.

    Returns:
        Plain JSON: `path` (its name), `format`, `family` (None if unknown), `tensors`, `parameters`, `dtypes`, `bytes`, `sha256` (of
        each file), and for an encoder directory `provenance`.

    Raises:
        CheckpointError: missing, damaged or unsafe file; for an unsafe one, the message names the offending global.
    """
    path = local_path(path)
    if path.is_dir():
        return _directory(path)
    if not path.is_file():
        raise CheckpointError(missing_file(path, "to inspect", "Name an existing checkpoint or encoder directory."))
    if path.suffix == ".safetensors":
        tensors = read_tensors(path)
        return _describe(path, "safetensors", detect_family(list(tensors), {}), tensors, [path])
    content = load_pickle(path)
    format = detect_format(content)
    tensors = _weights(content, format)
    names = [name.removeprefix("model.") for name in encoder_inside(tensors)[0]]
    cfg = _model_cfg(content)
    return _describe(path, format, detect_family(names, cfg), tensors, [path])


def _directory(path: Path) -> dict[str, Any]:
    if is_adapter(path):
        files, tensors = read_adapter_weights(path)
        return {**_describe(path, "peft", None, tensors, files), "provenance": None}
    config = read_config(path)
    files, tensors = read_model_weights(path)
    if (path / PRETRAINING_ONLY).is_file():
        files, tensors = [*files, path / PRETRAINING_ONLY], {**tensors, **read_tensors(path / PRETRAINING_ONLY)}
    provenance = read_json(path / PROVENANCE) if (path / PROVENANCE).is_file() else None
    format = "encoder directory" if provenance else "transformers"
    return {**_describe(path, format, config.model_type, tensors, files), "provenance": provenance}


def _describe(path: Path, format: str | None, family: str | None, tensors: Mapping[str, Tensor], files: list[Path]) -> dict[str, Any]:
    return {
        "path": path.name,
        "format": format,
        "family": family,
        "tensors": len(tensors),
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}),
        "bytes": sum(file.stat().st_size for file in files),
        "sha256": {file.name: sha256_file(file) for file in files},
    }


def _weights(content: Any, format: str | None) -> dict[str, Tensor]:
    tensors = content
    if isinstance(content, Mapping) and format not in (None, "transformers", "state_dict"):
        tensors = content.get({"s3prl": "model_weight", "s3prl_run": "Upstream"}.get(str(format), "model"))
    return dict(tensors) if is_state_dict(tensors) else {}


def _model_cfg(content: Any) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        return {}
    cfg = attributes(content.get("cfg"))
    return attributes(content.get("model_cfg")) or attributes(cfg.get("model")) or attributes(content.get("args")) or cfg
