"""Paths that an experiment may name: those that every rule and every command can handle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from speechft.files.escapes import is_control

_LEXICON, _MODULE = "lexicon", "module"
"""Keys of files that are named as plain text: in corpora and options of tasks, and of encoders with a class behind a colon."""


def bad_paths(experiment: BaseModel) -> list[str]:
    """Problems of all paths in an experiment; empty if there are none.

    Spaces, quotes, brackets and everything else that shells give a meaning are allowed: the rules quote them.
    """
    checked = ((key, path, _problem(path)) for key, path in _paths(experiment, ""))
    return [f"{key}: {path!r} {problem}" for key, path, problem in checked if problem]


def _problem(path: str) -> str | None:
    if path.startswith("-"):
        return "begins with the character '-', as options of commands do; write the full path"
    if path.startswith("~"):
        return "begins with the character '~', which is not replaced by a home folder here; write the full path"
    bad = next((character for character in path if character in "{}" or is_control(character)), None)
    if bad is None:
        return None
    reason = "braces are wildcards of Snakemake" if bad in "{}" else "it cannot be seen"
    return f"holds the character {bad!r}, which is not allowed in a path ({reason}); rename the file or folder"


def _paths(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every path in `value` with its key, e.g. (corpora.mine.path, a/b.csv)."""
    if isinstance(value, Path):
        yield key, str(value)
    elif isinstance(value, str):
        if key.rpartition(".")[2] == _LEXICON:
            yield key, value
        elif key.startswith("encoders.") and key.rpartition(".")[2] == _MODULE:
            yield key, value.rpartition(":")[0]
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _paths(getattr(value, name), f"{key}.{name}".lstrip("."))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _paths(item, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _paths(item, key)
