"""Check of paths in an experiment: every rule and command must be able to handle them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from speechft.files.escapes import is_control

_LEXICON, _MODULE = "lexicon", "module"
"""Keys whose files are plain text: lexicons in corpora and task options, and modules of encoders (`file:class`)."""


def bad_paths(experiment: BaseModel) -> list[str]:
    """List problems of all paths in an experiment.

    Spaces, quotes, brackets and other characters special to shells are allowed: the rules quote them.
    """
    checked = ((key, path, _problem(path)) for key, path in _paths(experiment, ""))
    return [f"{key}: {path!r} {problem}" for key, path, problem in checked if problem]


def _problem(path: str) -> str | None:
    if path.startswith("-"):
        return "begins with '-', like an option; write the full path"
    if path.startswith("~"):
        return "begins with '~', which is not expanded to the home folder; write the full path"
    bad = next((character for character in path if character in "{}" or is_control(character)), None)
    if bad is None:
        return None
    reason = "braces are wildcards of Snakemake" if bad in "{}" else "it is invisible"
    return f"contains the character {bad!r}, which is not allowed in a path ({reason}); rename the file or folder"


def _paths(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield every path in `value` with its key, e.g. (corpora.mine.path, a/b.csv)."""
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
