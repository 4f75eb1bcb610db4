"""Provenance of a model: inputs with hashes, recipe and versions, as plain JSON. This module does not import torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from speechft.downloads.hub import repository_of
from speechft.errors import CheckpointError, SpeechFTError, missing_file
from speechft.files.hashes import sha256_file
from speechft.files.structured import read_json, read_json_mapping

SCHEMA = 1
Kind = Literal["import", "pretrain", "continue", "finetune", "merge", "random", "fbank"]
PROVENANCE = "provenance.json"
_REMEDY = "Import or build the encoder again."
_PACKAGES = ("speechft", "torch", "transformers", "safetensors")


def make_provenance(kind: Kind, inputs: Mapping[str, str | Path], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Describe how a model is made, without machine paths and times, so that equal work gives equal text.

    `inputs` maps roles ("base", "finetuned_0", "checkpoint") to files or encoder directories, whose weights are hashed; `recipe` is
    everything else that determines the result, as plain JSON.

    Raises:
        CheckpointError: an input is missing.
    """
    return {
        "schema": SCHEMA,
        "kind": kind,
        "inputs": {role: _input(role, Path(path)) for role, path in inputs.items()},
        "recipe": dict(recipe),
        "versions": {package: version(package) for package in _PACKAGES},
    }


def read_provenance(model_dir: str | Path) -> dict[str, Any] | None:
    """Read `provenance.json` of an encoder directory; None in foreign directories. Raise CheckpointError if it is damaged."""
    path = Path(model_dir) / PROVENANCE
    if not path.exists():
        return None
    record = read_side_file(path)
    for key in ("inputs", "recipe", "versions", "outputs"):
        if not isinstance(record.get(key, {}), dict):
            raise CheckpointError(f"{path}: its {key} are not a mapping. {_REMEDY}")
    for role, source in record.get("inputs", {}).items():
        if not (isinstance(source, dict) and isinstance(source.get("name"), str) and isinstance(source.get("sha256"), str)):
            raise CheckpointError(f"{path}: its input {role!r} has no name and hash. {_REMEDY}")
    return record


def read_side_file(path: Path) -> dict[str, Any]:
    """Read a JSON file of an encoder directory; raise CheckpointError if it is not a mapping."""
    try:
        return read_json_mapping(path)
    except SpeechFTError as error:
        raise CheckpointError(str(error)) from error


def made_already(out_dir: Path, kind: Kind, inputs: Mapping[str, str | Path], recipe: Mapping[str, Any]) -> bool:
    """Whether `out_dir` is a complete encoder directory with this provenance: kind, inputs, versions, and at least these recipe keys."""
    try:
        record = read_json(out_dir / PROVENANCE)
        wanted = make_provenance(kind, inputs, recipe)
        same = all(record[key] == wanted[key] for key in ("schema", "kind", "inputs", "versions"))
        return same and all(record["recipe"].get(key) == value for key, value in wanted["recipe"].items())
    except (SpeechFTError, KeyError, TypeError, AttributeError):
        return False


def _input(role: str, path: Path) -> dict[str, str]:
    weights = path / "model.safetensors" if path.is_dir() else path
    if not weights.is_file():
        raise CheckpointError(missing_file(weights, f"as {role}", "Name an existing checkpoint or encoder directory."))
    return {"name": input_name(path), "sha256": sha256_file(weights)}


def input_name(path: Path) -> str:
    """Name an input: `org/name@commit` if it is from the Hugging Face Hub, else the last part of its path."""
    return repository_of(path) or Path(os.path.abspath(path)).name  # noqa: PTH100 (links keep their own names)
