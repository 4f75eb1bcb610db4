"""Import a package's names on first use: torch, transformers and lhotse take seconds to import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from speechft.requirements import explaining


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's `__getattr__` that imports names on first use.

    Args:
        package: `__name__` of the package.
        homes: name -> the module that defines it, relative to the package.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with explaining():
            return getattr(import_module(f"{package}.{homes[name]}"), name)

    return get
